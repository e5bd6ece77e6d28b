"""What earlier exports of a checkpoint already did, so that the next one does only what is new.

RUN/.export/graph/     the exact graph, compared with PyTorch at every shape and mask
RUN/.export/pytorch/   PyTorch's answers to the evaluation rows
RUN/.export/int8/      a variant, and the path to it

A stage is kept under the digest of all that it depends on: weights, settings, rows, versions, and the program itself. One result a stage is kept, the last.
A folder without stage.json, which is written last, was never finished. `--no-reuse` makes everything anew; the folder may be deleted at any time.
"""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from runtime.bundle import sha256, write_synced

RECORD = "stage.json"
LEFT_FOR_DEAD_S = 24 * 3600
PACKAGES = ("export", "runtime", "trainer")  # a change of the program is a change of its results


class Stages(NamedTuple):
    """Where results are kept.

    Attributes:
        folder: RUN/.export; None where nothing is to be kept.
        base: what every stage depends on.
        say: where lines for people go.
    """

    folder: Path | None
    base: tuple[object, ...]
    say: Callable[[str], None]

    def run(self, name: str, *depends_on: object, make: Callable[[Path], dict[str, Any]], into: Path) -> dict[str, Any]:
        """Put a stage's files into a folder: kept ones where nothing they depend on has changed, else new ones.

        Args:
            name: the stage.
            depends_on: what its result follows from, besides `base`; anything JSON can hold.
            make: writes its files into the folder given, and returns what else there is to know, as JSON can hold it.
            into: where the files go, under the same paths.
        """
        if self.folder is None:
            return make(into)
        key = hashlib.sha256(json.dumps([self.base, depends_on], default=str).encode()).hexdigest()
        kept = self.folder / name
        record = _read(kept, key)
        if record is None:
            try:
                self.folder.mkdir(exist_ok=True)
                _sweep(self.folder)
                fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self.folder))
            except OSError as exc:
                self.say(f"note: nothing is kept for the next export, {self.folder} cannot be written: {exc.strerror}")
                return make(into)
            try:
                record = _record(fresh, key, make(fresh))
                shutil.rmtree(kept, ignore_errors=True)
                kept = fresh.rename(kept)
                _copy(kept, into, record)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        else:
            self.say(f"{name}: as an earlier export made it")
            _copy(kept, into, record)
        return dict(record["result"])


@cache
def program_digest() -> str:
    """Give the digest of this program's own files."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for file in sorted(file for package in PACKAGES for file in (root / package).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _record(folder: Path, key: str, result: dict[str, Any]) -> dict[str, Any]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    record = {
        "key": key,
        "files": {file.relative_to(folder).as_posix(): sha256(file) for file in files},
        "result": json.loads(json.dumps(result)),
    }
    write_synced(folder / RECORD, json.dumps(record) + "\n")
    return record


def _read(folder: Path, key: str) -> dict[str, Any] | None:
    """Read what was kept; None where it is of something else, or not whole."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        whole = all(sha256(folder / name) == digest for name, digest in record["files"].items())
        return record if record["key"] == key and whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sweep(folder: Path) -> None:
    """Remove what killed exports left; a live one is younger."""
    for left in folder.glob(".*-*"):
        if time.time() - left.stat().st_mtime > LEFT_FOR_DEAD_S:
            shutil.rmtree(left, ignore_errors=True)


def _copy(folder: Path, into: Path, record: dict[str, Any]) -> None:
    for name in record["files"]:
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, into / name)
