"""The export, on one screen: load → draw the graph → its variants → verify → write.

Everything is written into a temporary folder beside the target, and becomes the bundle in one rename when all checks have passed.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from runtime.bundle import FORMAT, Manifest, Variant, sha256, stored_files, write_manifest, writing
from runtime.encode import Encoded
from runtime.engines import why_missing
from runtime.errors import EngineUnavailable
from runtime.machine import processor
from runtime.manifest_fields import REQUIRED_FILES
from runtime.model import Classifier, open_classifier
from runtime.records import Record
from runtime.tasks import TASKS
from trainer.checkpoint import Checkpoint, open_foreign, open_run
from trainer.config import TrainConfig

from .config import ExportConfig
from .contract import check_contract, check_token_ids
from .encoder_weights import EncoderWeights
from .errors import ParityError
from .gate import Rows, fit_int8, gate_fp32, gate_reduced
from .golden import make_golden
from .graph import remove, size_of
from .half import to_fp16
from .parity import Floats
from .report import Line, Report, bundle_readme, versions
from .restore import Restored
from .saturation import Saturation
from .sizes import size_by_layer
from .speed import Speed, measure_classifier, measure_torch, torch_logits_of_all
from .stages import Stages, program_digest
from .variants import ENGINES, FILES, PRECISIONS, QUANTIZERS, Quantizer, draw, prepare_int8, weights_of

INVARIANCE_ROWS = 64  # answered alone and together
KEPT = ".export"  # in the run's folder
LOGITS = "pytorch.npy"
GOLDEN_LIMIT = 1e-3  # fp32 on the golden texts: other CPUs round otherwise


def export(config: ExportConfig, *, say: Callable[[str], None]) -> Report:
    """Turn a checkpoint into a verified bundle.

    Args:
        config: every flag.
        say: where lines for people go.

    Raises:
        InputError: flags or evaluation rows that cannot be used.
        RunError, ModelError: the checkpoint cannot be used.
        TraceError: the model cannot be turned into a graph.
        ParityError: the graph answers otherwise than the model, beyond the limits; nothing is written.
    """
    config.validate()
    if missing := why_missing("ort-cpu"):
        raise EngineUnavailable(f"exporting verifies with onnxruntime: {missing}")
    checkpoint = _open(config)
    for note in checkpoint.notes:
        say(f"note: {note}")
    records = checkpoint.evaluation_records(config.eval)
    with writing(config.target, overwrite=config.overwrite) as folder:
        checkpoint.tokenizer.save_pretrained(
            folder
        )  # what it does after reading all of its files, not what one of them says
        shutil.copy(checkpoint.folder / "config.json", folder)
        model = checkpoint.load_model()
        inputs, pad_token_id = checkpoint.graph_inputs(model), int(model.config.pad_token_id)
        feed: dict[str, Any] = {"inputs": inputs, "pad_token_id": pad_token_id}
        encoder = checkpoint.encoder(folder)

        stages = _stages(config, checkpoint, inputs, say)
        drawn = stages.run("graph", make=partial(_draw, config, checkpoint, model, inputs, pad_token_id), into=folder)
        say(
            f"{drawn['summary']}; agrees with PyTorch at every shape and mask: largest difference {drawn['contract']:.1e}"
        )
        fp32 = folder / FILES["fp32"]

        golden, golden_logits = make_golden(checkpoint, model=model, encoder=encoder, **feed)
        check_token_ids(golden, tokenizer=checkpoint.tokenizer, max_length=checkpoint.max_length)
        draft = Manifest(
            format=FORMAT,
            task=checkpoint.config.task,
            labels=checkpoint.labels,
            pair=checkpoint.pair,
            max_length=checkpoint.max_length,
            pad_token_id=pad_token_id,
            thresholds=(0.5,) * len(checkpoint.labels) if TASKS[checkpoint.config.task].thresholds else None,
            temperature=1.0,
            variants={name: _variant(name, inputs) for name in config.variants},
            files={},
            made_by=versions(drawn["exporter"]),
            golden=golden,
        )

        encoded = encoder.encode([r.model_input for r in records]) if records else None
        if encoded and encoded.truncated.any():
            say(
                f"note: {int(encoded.truncated.sum())} of {len(records or [])} evaluation rows are cut at {checkpoint.max_length} tokens"
            )
        report = Report.begin(
            checkpoint,
            exporter=drawn["exporter"],
            passes=drawn["passes"],
            contract=drawn["contract"],
            num_rows=len(records or []),
        )
        rows, rows_digest = None, _digest(records, encoded)
        if records and encoded:
            told = stages.run(
                "pytorch", rows_digest, make=partial(_ask_pytorch, model, encoded, inputs, pad_token_id), into=folder
            )
            rows = Rows(checkpoint, records, encoded, _take_logits(folder / LOGITS, encoded, checkpoint))
            report.add(
                Line("pytorch", rows.compare(rows.expected), Speed(**told["speed"]), _size_of(checkpoint.folder), {})
            )
        weights = weights_of(checkpoint, model) if drawn["exporter"] == "written" else None
        quantizer = cache(
            lambda: prepare_int8(fp32, weights if isinstance(weights, EncoderWeights) else None, texts=encoded, **feed)
        )

        # Verify, through the runtime that will serve it
        variants: dict[str, Variant] = {}
        problems: list[str] = []
        for name, variant in draft.variants.items():
            restored = None
            if name == "fp16":
                to_fp16(fp32, folder / variant.file)
            elif name in QUANTIZERS:
                made = stages.run(
                    name,
                    rows_digest,
                    [config.max_change, config.max_metric_drop, config.restore],
                    make=partial(_make_int8, name, variant.file, draft, folder, quantizer, rows, config, say),
                    into=folder,
                )
                report.saturation |= {key: Saturation(**found) for key, found in made["saturation"].items()}
                restored = Restored.from_json(made["restored"]) if made["restored"] else None
            try:
                classifier = open_classifier(folder, draft, engine=ENGINES.get(name, "ort-cpu"), variant=name)
            except EngineUnavailable as exc:
                say(f"note: {name} cannot be verified here: {exc}")
                report.add(Line(name, None, None, size_of(folder / variant.file), {}))
                variants[name] = variant
                continue
            max_error = _golden_error(classifier, golden_logits)
            if name == "fp32" and not max_error <= GOLDEN_LIMIT:
                problems.append(
                    f"fp32 differs from PyTorch by {max_error:.1e} on the golden texts; the limit is {GOLDEN_LIMIT:g}"
                )
            figures = None
            if restored:
                figures = restored.chosen.figures
                problems += restored.chosen.problems
            elif rows:
                actual = classifier.logits(rows.encoded)
                figures = rows.compare(actual)
                problems += (
                    gate_fp32(rows.expected, actual, config)
                    if name == "fp32"
                    else gate_reduced(name, figures, rows, config)
                )
            speed = measure_classifier(classifier, records) if records else None
            file = folder / variant.file
            report.add(Line(name, figures, speed, size_of(file), size_by_layer(file), restored))
            variants[name] = replace(
                variant,
                batch_invariant=_is_batch_invariant(classifier, records or []),
                max_error=max_error,
                passed=name == "fp32" or rows is not None,
            )
        if not any(variant.file == FILES["fp32"] for variant in variants.values()):
            remove(fp32)
        if problems:
            raise ParityError(
                "\n  ".join(
                    ["the exported model does not agree with the trained one:", *problems, "Nothing was written."]
                )
            )
        unverified = [name for name, variant in variants.items() if not variant.passed]
        if unverified:
            say(
                f"note: without evaluation rows {', '.join(unverified)} is unverified: written, but used only when asked for by name. Verify with --eval."
            )

        report.write(folder / "report.json")
        (folder / "README.md").write_text(bundle_readme(replace(draft, variants=variants), report), encoding="utf-8")
        write_manifest(folder, replace(draft, variants=variants, files=stored_files(folder)))
    return report


def _stages(
    config: ExportConfig, checkpoint: Checkpoint, inputs: tuple[str, ...], say: Callable[[str], None]
) -> Stages:
    weights = {file.name: sha256(file) for file in _weight_files(checkpoint.folder)}
    settings = (checkpoint.folder / "config.json").read_text(encoding="utf-8")
    task = (checkpoint.config.task, checkpoint.max_length, checkpoint.pair, checkpoint.labels)
    tools = (versions(config.exporter), processor(), program_digest())
    base = (weights, settings, task, inputs, config.exporter, config.max_fp32_difference, tools)
    return Stages(checkpoint.folder / KEPT if config.reuse else None, base, say)


def _draw(
    config: ExportConfig,
    checkpoint: Checkpoint,
    model: Any,
    inputs: tuple[str, ...],
    pad_token_id: int,
    folder: Path,
) -> dict[str, Any]:
    drawn = draw(checkpoint, model=model, inputs=inputs, exporter=config.exporter, folder=folder)
    contract = check_contract(
        folder / FILES["fp32"],
        model=model,
        inputs=inputs,
        pad_token_id=pad_token_id,
        max_length=checkpoint.max_length,
        limit=config.max_fp32_difference,
    )
    return {**drawn._asdict(), "summary": drawn.summary, "contract": contract}


def _ask_pytorch(
    model: Any, encoded: Encoded, inputs: tuple[str, ...], pad_token_id: int, folder: Path
) -> dict[str, Any]:
    expected = torch_logits_of_all(model, encoded, inputs=inputs, pad_token_id=pad_token_id)
    np.save(folder / LOGITS, np.concatenate(expected))
    return {"speed": measure_torch(model, encoded, inputs=inputs, pad_token_id=pad_token_id)._asdict()}


def _take_logits(file: Path, encoded: Encoded, checkpoint: Checkpoint) -> list[Floats]:
    """Read PyTorch's logits, per text (C,) or (t, C), and remove the file: a bundle holds no answers to anybody's rows."""
    stored = np.load(file)
    file.unlink()
    if TASKS[checkpoint.config.task].per_token:
        return list(np.split(stored, encoded.batch.cu_seqlens[1:-1]))
    return list(stored.reshape(len(encoded.batch.lengths), -1))


def _make_int8(
    name: str,
    file: str,
    draft: Manifest,
    bundle: Path,
    quantizer: Callable[[], Quantizer],
    rows: Rows | None,
    config: ExportConfig,
    say: Callable[[str], None],
    folder: Path,
) -> dict[str, Any]:
    """Write an int8 variant that passes the gate where there are rows, as it is where there are none."""
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    if folder != bundle:
        for stored in REQUIRED_FILES:  # with them a folder can be opened and asked
            shutil.copy(bundle / stored, folder)
    write = partial(quantizer().write, name, folder / file)
    open_it = partial(open_classifier, folder, draft, engine=ENGINES.get(name, "ort-cpu"), variant=name)
    restored = None
    write(frozenset())
    try:
        open_it()
    except EngineUnavailable:
        rows = None  # the caller says why
    if rows is not None:
        restored = fit_int8(name, write, open_it, rows, config, say=say)
    if folder != bundle:
        for stored in REQUIRED_FILES:
            (folder / stored).unlink()
    saturation = {key: found._asdict() for key, found in quantizer().saturations().items()} if name == "int8" else {}
    return {"restored": restored.as_json() if restored else None, "saturation": saturation}


def _digest(records: Sequence[Record] | None, encoded: Encoded | None) -> str:
    """Give the digest of the evaluation rows, with their labels."""
    ids = encoded.batch.input_ids.tobytes() if encoded else b""
    return hashlib.sha256(repr(records).encode() + ids).hexdigest()


def _open(config: ExportConfig) -> Checkpoint:
    if config.task is None:
        return open_run(config.run)
    layout = TrainConfig(
        task=config.task, max_length=config.max_length, text_pair_column="text_pair" if config.pair else None
    )
    return open_foreign(config.run, config=layout)


def _variant(name: str, inputs: tuple[str, ...]) -> Variant:
    precision = PRECISIONS.get(name, name)
    return Variant(
        file=FILES[name],
        precision=precision,
        inputs=inputs,
        # CPUs without VNNI saturate pairs of 8-bit products in 16 bits; with this onnxruntime takes another way there, and no other elsewhere (docs/LOG.md).
        session_options={"session.x64quantprecision": "1"} if precision == "int8" else {},
        disabled_optimizers=("SkipLayerNormFusion",),  # its CPU kernel is slower than what it fuses (docs/LOG.md),
        batch_invariant=False,
        max_error=0.0,
        passed=False,
    )


def _golden_error(classifier: Classifier, expected: list[Floats]) -> float:
    """Find the largest difference from PyTorch on the golden texts, answered one at a time as PyTorch did."""
    texts = classifier.manifest.golden.texts
    actual = [classifier.logits(classifier.encode([text]))[0] for text in texts]
    return float(max(np.abs(e - a).max() for e, a in zip(expected, actual, strict=True)))


def _is_batch_invariant(classifier: Classifier, records: Sequence[Record]) -> bool:
    """Whether the fixed texts and some evaluation rows get the same logits, to the bit, alone and in a batch."""
    texts = [*classifier.manifest.golden.texts, *(record.model_input for record in records[:INVARIANCE_ROWS])]
    together = classifier.logits(classifier.encode(texts))
    alone = [classifier.logits(classifier.encode([text]))[0] for text in texts]
    return all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in _weight_files(folder))


def _weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))
