"""The export, on one screen: load → draw the graph → its variants → verify → write.

Everything is written into a temporary folder beside the target, and becomes the bundle in one rename when all checks have passed.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runtime.bundle import Golden, Manifest, Variant, sha256, stored_files, write_manifest, writing
from runtime.encode import Encoded, Encoder
from runtime.engines import why_missing
from runtime.errors import EngineUnavailable, InputError
from runtime.machine import processor
from runtime.manifest_fields import lowest_format
from runtime.records import Record
from runtime.tasks import TASKS
from trainer.checkpoint import Checkpoint, open_foreign, open_run
from trainer.config import TrainConfig

from .config import ExportConfig
from .contract import check_contract, check_token_ids
from .encoder_weights import EncoderWeights
from .errors import ParityError, TraceError
from .gate import Rows
from .golden import make_golden
from .graph import remove
from .reference import Floats, Reference
from .report import Line, Report, bundle_readme, versions
from .speed import measure_torch
from .stages import Stages, program_digest
from .variants import FILES, NATIVE, PRECISIONS, USUAL, USUAL_NATIVE, draw, weights_of
from .verified import Workshop

KEPT = ".export"  # in the run's folder
LOGITS = "pytorch.npy"


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
    if config.calibrate:
        checkpoint.check_calibration(abstain_precision=config.abstain_precision)
        if not records:
            raise InputError("--calibrate needs labelled rows. Name them with --eval.")
    with writing(config.target, overwrite=config.overwrite) as folder:
        # What the tokenizer does after reading all of its files, not what one of them says.
        checkpoint.tokenizer.save_pretrained(folder)
        shutil.copy(checkpoint.folder / "config.json", folder)
        reference, encoder = Reference.load(checkpoint), checkpoint.encoder(folder)

        stages = _stages(config, checkpoint, reference.inputs, say)
        drawn = stages.run("graph", make=partial(_draw, config, checkpoint, reference), into=folder)
        say(
            f"{drawn['summary']}; agrees with PyTorch at every shape and mask: largest difference {drawn['contract']:.1e}"
        )
        names = _choose_variants(config, checkpoint, reference, drawn["exporter"], say)
        golden, golden_logits = make_golden(checkpoint, reference=reference, encoder=encoder)
        check_token_ids(golden, tokenizer=checkpoint.tokenizer, max_length=checkpoint.max_length)

        report = Report.begin(
            checkpoint,
            exporter=drawn["exporter"],
            passes=drawn["passes"],
            contract=drawn["contract"],
            num_rows=len(records or []),
        )
        rows, int8_rows, rows_digest = None, None, ""
        if records:
            encoded = _encode(records, encoder, checkpoint.max_length, say)
            rows_digest = hashlib.sha256(repr(records).encode() + encoded.batch.input_ids.tobytes()).hexdigest()
            stages.run("pytorch", rows_digest, make=partial(_ask_pytorch, reference, encoded), into=folder)
            expected = _take_logits(folder / LOGITS, encoded, checkpoint)
            if config.calibrate:
                checkpoint = checkpoint.calibrated(
                    records, encoded, expected, abstain_precision=config.abstain_precision
                )
                for line in checkpoint.calibration_lines:
                    say(line)
            rows = Rows(checkpoint, records, encoded, expected)
            speed = measure_torch(reference, encoded)
            size = _size_of(checkpoint.folder)
            report.add(Line("pytorch", rows.compare(rows.expected), speed, size, {}))
            if (answers := checkpoint.int8_logits(encoded)) is not None:
                report.add(Line("pytorch int8", rows.compare(answers), None, size, {}))
                int8_rows = rows._replace(expected=answers)
                say("int8 is held to PyTorch's answers in int8, in which the model was trained")
        draft = _draft(checkpoint, reference, names, golden, made_by=versions(drawn["exporter"]))
        del reference  # a large model's weights are gigabytes, and int8 needs room for what it observes of them
        workshop = Workshop(
            config=config,
            folder=folder,
            draft=draft,
            golden_logits=golden_logits,
            weights=partial(_weights, checkpoint, drawn["exporter"]),
            rows=rows,
            int8_rows=int8_rows,
            rows_digest=rows_digest,
            stages=stages,
            say=say,
        )
        variants: dict[str, Variant] = {}
        problems: list[str] = []
        for name in names:
            made = workshop.make(name)
            report.add(made.line)
            if made.line.figures and (given := made.line.figures.abstaining):
                say(
                    f"{name} answers {given['coverage']:.1%} of the rows, {given['precision']:.1%} of these right; "
                    f"{given['changed']:.2%} abstain in it or in PyTorch alone"
                )
            report.saturation |= made.saturation or {}
            variants[name] = made.variant
            problems += made.problems
        if problems:
            raise ParityError(
                "\n  ".join(
                    ["the exported model does not agree with the trained one:", *problems, "Nothing was written."]
                )
            )
        if unverified := [name for name, variant in variants.items() if not variant.passed]:
            say(
                f"note: without evaluation rows {', '.join(unverified)} is unverified: written, but used only when asked for by name. Verify with --eval."
            )
        if not any(variant.file == FILES["fp32"] for variant in variants.values()):
            remove(folder / FILES["fp32"])
        report.write(folder / "report.json")
        (folder / "README.md").write_text(bundle_readme(replace(draft, variants=variants), report), encoding="utf-8")
        write_manifest(folder, replace(draft, variants=variants, files=stored_files(folder)))
    return report


def _open(config: ExportConfig) -> Checkpoint:
    if config.task is None:
        return open_run(config.run)
    layout = TrainConfig(
        task=config.task, max_length=config.max_length, text_pair_column="text_pair" if config.pair else None
    )
    return open_foreign(config.run, config=layout)


def _stages(
    config: ExportConfig, checkpoint: Checkpoint, inputs: tuple[str, ...], say: Callable[[str], None]
) -> Stages:
    weights = {file.name: sha256(file) for file in _weight_files(checkpoint.folder)}
    settings = (checkpoint.folder / "config.json").read_text(encoding="utf-8")
    task = (
        checkpoint.config.task,
        checkpoint.max_length,
        checkpoint.pair,
        checkpoint.labels,
        checkpoint.config.quant_aware,
    )
    tools = (versions(config.exporter), processor(), program_digest())
    base = (weights, settings, task, inputs, config.exporter, config.max_fp32_difference, tools)
    return Stages(checkpoint.folder / KEPT if config.reuse else None, base, say)


def _draw(config: ExportConfig, checkpoint: Checkpoint, reference: Reference, folder: Path) -> dict[str, Any]:
    drawn = draw(checkpoint, reference=reference, exporter=config.exporter, folder=folder)
    contract = check_contract(
        folder / FILES["fp32"],
        reference=reference,
        max_length=checkpoint.max_length,
        limit=config.max_fp32_difference,
    )
    return {**drawn._asdict(), "summary": drawn.summary, "contract": contract}


def _choose_variants(
    config: ExportConfig, checkpoint: Checkpoint, reference: Reference, exporter: str, say: Callable[[str], None]
) -> tuple[str, ...]:
    """Give the variants that were asked for, or the usual ones; those for portabert-native are written from an encoder's weights."""
    written = exporter == "written"
    if config.variants is None:
        missing = why_missing("native")
        if written and missing:
            say(f"note: {', '.join(USUAL_NATIVE)} is left out: {missing}")
        return USUAL + (USUAL_NATIVE if written and not missing else ())
    if not written and (native := sorted(set(config.variants) & set(NATIVE))):
        weights = weights_of(checkpoint, reference)
        why = weights if isinstance(weights, str) else f"its graph was traced, as --exporter {config.exporter} asks"
        raise TraceError(
            f"--variants {' '.join(native)}: written from an encoder's weights, but {why}. Leave it out; the other variants do without."
        )
    return config.variants


def _draft(
    checkpoint: Checkpoint,
    reference: Reference,
    variants: Sequence[str],
    golden: Golden,
    *,
    made_by: dict[str, str],
) -> Manifest:
    """Say all that is known before a variant is made."""
    learned = checkpoint.calibration
    thresholds = learned.thresholds if learned else None
    if thresholds is None and TASKS[checkpoint.config.task].thresholds:
        thresholds = (0.5,) * len(checkpoint.labels)
    abstain_below = learned.abstain_below if learned else None
    return Manifest(
        format=lowest_format({"abstain_below": abstain_below}),
        task=checkpoint.config.task,
        labels=checkpoint.labels,
        pair=checkpoint.pair,
        max_length=checkpoint.max_length,
        pad_token_id=reference.pad_token_id,
        thresholds=thresholds,
        temperature=learned.temperature if learned else 1.0,
        variants={name: _variant(name, reference.inputs) for name in variants},
        files={},
        made_by=made_by,
        golden=golden,
        abstain_below=abstain_below,
    )


def _variant(name: str, inputs: tuple[str, ...]) -> Variant:
    return Variant(
        file=FILES[name],
        precision=PRECISIONS.get(name, name),
        inputs=inputs,
        session_options={},
        disabled_optimizers=("SkipLayerNormFusion",),  # its CPU kernel is slower than what it fuses (docs/LOG.md)
        batch_invariant=False,
        max_error=0.0,
        passed=False,
    )


def _weights(checkpoint: Checkpoint, exporter: str) -> EncoderWeights | None:
    found = weights_of(checkpoint, Reference.load(checkpoint)) if exporter == "written" else None
    return found if isinstance(found, EncoderWeights) else None


def _encode(records: Sequence[Record], encoder: Encoder, max_length: int, say: Callable[[str], None]) -> Encoded:
    encoded = encoder.encode([record.model_input for record in records])
    if cut := int(encoded.truncated.sum()):
        say(f"note: {cut} of {len(records)} evaluation rows are cut at {max_length} tokens")
    return encoded


def _ask_pytorch(reference: Reference, encoded: Encoded, folder: Path) -> dict[str, Any]:
    np.save(folder / LOGITS, np.concatenate(reference.logits(encoded)))
    return {}


def _take_logits(file: Path, encoded: Encoded, checkpoint: Checkpoint) -> list[Floats]:
    """Read PyTorch's logits, per text (C,) or (t, C), and remove the file: a bundle holds no answers to anybody's rows."""
    stored = np.load(file)
    file.unlink()
    if TASKS[checkpoint.config.task].per_token:
        return list(np.split(stored, encoded.batch.cu_seqlens[1:-1]))
    return list(stored.reshape(len(encoded.batch.lengths), -1))


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in _weight_files(folder))


def _weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))
