"""The bundle: a folder that holds everything a prediction needs. This module is its only definition; `export` writes through what `runtime` reads with.

    bundle.json          this module's Manifest; written last, so a folder without it was never finished
    config.json tokenizer.json tokenizer_config.json …   as Hugging Face writes them
    onnx/model.onnx      variant "fp32"        onnx/model_quantized.onnx   variant "int8"
    report.json README.md

A bundle may come from anywhere and is not trusted: file names must stay inside the folder, session options come from an allow-list (others can write
files or load code), nothing is unpickled. docs/bundle.md describes every field.
"""

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import BundleError, BundleTooNew, InputError
from .fields import Reader, unique_keys
from .manifest_fields import LATER_FIELDS, cross_check, fields_of

FORMAT = 2  # the newest format this version reads and writes
MANIFEST = "bundle.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One form of the model.

    Attributes:
        file: path inside the bundle.
        precision: "fp32", "int8", …
        inputs: the graph's input names.
        session_options: onnxruntime session configuration entries; see SESSION_OPTIONS in manifest_fields.py.
        disabled_optimizers: onnxruntime graph optimizers to leave out; see DISABLED_OPTIMIZERS in manifest_fields.py.
        batch_invariant: whether a text's logits are the same to the bit alone and in any batch, measured at export with onnxruntime on a CPU.
        max_error: the largest difference from the golden logits, measured at export.
        passed: whether the accuracy gate passed; `auto` chooses no other.
    """

    file: str
    precision: str
    inputs: tuple[str, ...]
    session_options: Mapping[str, str]
    disabled_optimizers: tuple[str, ...]
    batch_invariant: bool
    max_error: float
    passed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """A file's size in bytes and SHA-256 digest in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Golden:
    """Fixed texts with the answers of the model as it was trained (PyTorch, fp32).

    Attributes:
        texts: N texts, or (text, text_pair) pairs.
        input_ids: N lists of token ids.
        logits: N lists: C numbers, or for a tagger one list of C numbers a token.
    """

    texts: tuple[str | tuple[str, str], ...]
    input_ids: tuple[tuple[int, ...], ...]
    logits: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The contents of bundle.json.

    Attributes:
        format: the lowest format that can express this bundle.
        task: a key of `runtime.tasks.TASKS`.
        labels: the label of each logit.
        pair: whether the model compares two texts.
        max_length: tokens the model takes, special tokens included.
        pad_token_id: what engines pad with.
        thresholds: multi-label only: the probability from which each label counts.
        temperature: logits are divided by it before they become probabilities; 1.0 where no calibration was done.
        variants: by name.
        files: every file of the bundle but bundle.json, by path.
        made_by: versions of the programs that wrote it.
        golden: texts and logits by which a copy can be checked on any machine.
        abstain_below: single-label only: answers with a lower calibrated probability are withheld; None: never. Since format 2.
    """

    format: int
    task: str
    labels: tuple[str, ...]
    pair: bool
    max_length: int
    pad_token_id: int
    thresholds: tuple[float, ...] | None
    temperature: float
    variants: Mapping[str, Variant]
    files: Mapping[str, StoredFile]
    made_by: Mapping[str, str]
    golden: Golden
    abstain_below: float | None = None


def read(path: Path) -> Manifest:
    """Read and validate a bundle's manifest, and check that its files are there with their sizes.

    Raises:
        BundleTooNew: a later portabert wrote it.
        BundleError: anything else, all problems together.
    """
    file = path / MANIFEST
    if not path.is_dir():
        raise BundleError(f"no bundle at {path}: no such folder. Make one with: python -m export RUN --output {path}")
    if not file.is_file():
        raise BundleError(
            f"{path} is not a bundle: it has no {MANIFEST}. Export the model again: python -m export RUN --output {path}"
        )
    try:
        fields = json.loads(file.read_bytes().decode("utf-8"), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as exc:  # not UTF-8, not JSON, a number of thousands of digits, lists in lists
        raise BundleError(f"{file} is not valid JSON: {exc}. Export the model again.") from exc
    manifest = parse(fields, where=str(file))
    _refuse(path, _misplaced_files(path, manifest))
    return manifest


def parse(fields: object, *, where: str) -> Manifest:
    """Validate the fields of a manifest; reader and writer both come through here.

    Raises:
        BundleTooNew: a later portabert wrote it.
        BundleError: every problem found.
    """
    if not isinstance(fields, dict):
        raise BundleError(f"{where} must hold one JSON object. Got {type(fields).__name__} instead.")
    number = fields.get("format")
    if isinstance(number, int) and not isinstance(number, bool) and number > FORMAT:
        raise BundleTooNew(
            f"{where} has format {number}; this portabert reads formats 1 to {FORMAT}. Upgrade: pip install --upgrade portabert"
        )
    reader = Reader(way_out="Export the model again")
    values = reader.object(fields, fields_of(fields), at="")
    if not reader.problems:
        reader.problems += cross_check(values)
    _refuse(Path(where), reader.problems)
    golden = values["golden"]
    return Manifest(
        **{
            **values,
            "variants": {name: Variant(**variant) for name, variant in values["variants"].items()},
            "files": {name: StoredFile(**stored) for name, stored in values["files"].items()},
            "golden": Golden(**golden),
        }
    )


def check_digests(path: Path, manifest: Manifest) -> list[str]:
    """Compare every file with its digest; return the problems."""
    return [
        f"{name} was changed after export: its SHA-256 is not the one in {MANIFEST}. Copy it again, or export again"
        for name, stored in manifest.files.items()
        if sha256(path / name) != stored.sha256
    ]


def sha256(file: Path) -> str:
    """Digest a file, in hexadecimal."""
    with file.open("rb") as stream:
        return (
            hashlib.file_digest(stream, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else _sha256_by_chunks(stream)
        )


def stored_files(folder: Path) -> dict[str, StoredFile]:
    """Describe every file below a folder, as the manifest lists them."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != MANIFEST)
    return {
        file.relative_to(folder).as_posix(): StoredFile(size=file.stat().st_size, sha256=sha256(file)) for file in files
    }


@contextmanager
def writing(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder beside `target`; when the block ends well, it becomes `target` in one rename.

    A kill at any point leaves the old bundle or the new one; what lies about is put right by the next call. The temporary folder is locked while it is
    written, so that a second writer of the same target sees it.

    Raises:
        InputError: `target` exists and `overwrite` is false, it is something else than a bundle, or another process is writing it.
    """
    shown, target = target, target.resolve()  # where `target` is a link, the folder it leads to is replaced
    recover(target)
    if _unfinished(target):
        raise InputError(f"{shown} is being written by another process. Wait for it, or choose another --output.")
    if target.exists():
        if not overwrite:
            raise InputError(f"{shown} exists already. Choose another --output, or replace it with --overwrite.")
        if not (target / MANIFEST).is_file():
            raise InputError(f"{shown} exists and is not a bundle; it will not be replaced. Choose another --output.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.new-", dir=target.parent))
    except OSError as exc:
        raise InputError(f"{shown} cannot be made: {exc.strerror}. Choose another --output.") from exc
    fresh.chmod(0o755)  # mkdtemp makes folders only their owner can read
    lock = _lock(fresh)
    try:
        yield fresh
        if not (fresh / MANIFEST).is_file():
            raise AssertionError("a bundle is published only after its manifest was written")
        if target.exists():
            target.rename(_aside(target))
        fresh.rename(target)
    finally:
        _unlock(lock)
        recover(target)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write bundle.json, the last file of a bundle, after validating it as a reader would."""
    fields = json.loads(json.dumps(asdict(manifest), ensure_ascii=False))
    for name in LATER_FIELDS:
        if fields[name] is None:
            del fields[name]
    _refuse(folder, _misplaced_files(folder, parse(fields, where=str(folder / MANIFEST))))
    write_synced(folder / MANIFEST, json.dumps(fields, ensure_ascii=False, indent=1) + "\n")


def write_synced(file: Path, text: str) -> None:
    """Write a file so that after a crash it is there whole or not at all."""
    temporary = file.with_name(f".{file.name}.tmp")
    with temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


def recover(target: Path) -> None:
    """Put right what a killed writer left beside `target`: bring back a bundle moved aside, remove unfinished ones. Do nothing while another process writes it."""
    aside, left = _aside(target), _unfinished(target)
    locks = [_lock(folder) for folder in left]
    try:
        if None in locks:
            return
        if (aside / MANIFEST).is_file() and not target.exists():
            aside.rename(target)
        with suppress(OSError):
            (aside / MANIFEST).unlink()  # first, so that a kill during the removal leaves nothing to bring back
        for folder in [aside, *left]:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        for lock in locks:
            _unlock(lock)


def _unfinished(target: Path) -> list[Path]:
    return list(target.parent.glob(f".{glob.escape(target.name)}.new-*"))


def _lock(folder: Path) -> int | None:
    """Lock a folder until `_unlock` or the end of the process, however it ends; None where another process has it. Systems without such locks lend it to all."""
    try:
        import fcntl
    except ImportError:  # Windows
        return -1
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None and lock >= 0:
        os.close(lock)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _misplaced_files(path: Path, manifest: Manifest) -> list[str]:
    return [problem for name, stored in manifest.files.items() for problem in _misplaced(path, name, stored)]


def _misplaced(path: Path, name: str, stored: StoredFile) -> Iterator[str]:
    file = path / name
    if any((path / part).is_symlink() for part in (PurePosixPath(name), *PurePosixPath(name).parents[:-1])):
        yield f"{name} is a link, and a bundle holds none. Copy the file itself"
    elif not file.is_file():
        yield f"{name} is missing. Copy the whole folder, or export again"
    elif file.stat().st_size != stored.size:
        yield f"{name} has {file.stat().st_size} bytes, {MANIFEST} says {stored.size}: an incomplete copy? Copy it again, or export again"


def _refuse(where: Path, problems: list[str]) -> None:
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise BundleError("\n  ".join([f"{where}: {count}", *problems]))


def _sha256_by_chunks(stream: Any) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
