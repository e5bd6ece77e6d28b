"""The export, on one screen: load → draw the graph → its variants → verify → write.

Everything is written into a temporary folder beside the target, and becomes the bundle in one rename when all checks have passed.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runtime.bundle import FORMAT, Manifest, Variant, stored_files, write_manifest, writing
from runtime.engines import why_missing
from runtime.errors import EngineUnavailable
from runtime.model import Classifier, open_classifier
from runtime.records import Record
from runtime.tasks import TASKS
from trainer.checkpoint import Checkpoint, open_foreign, open_run
from trainer.config import TrainConfig

from .config import ExportConfig
from .contract import check_contract, check_token_ids
from .errors import ParityError
from .gate import Rows, fit_int8, gate_fp32
from .golden import make_golden
from .graph import remove, size_of
from .parity import Floats
from .report import Line, Report, bundle_readme, versions
from .sizes import size_by_layer
from .speed import measure_classifier, measure_torch, torch_logits_of_all
from .variants import FILES, QUANTIZERS, draw, prepare_int8

INVARIANCE_ROWS = 64  # answered alone and together
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

        drawn = draw(checkpoint, model=model, inputs=inputs, exporter=config.exporter, folder=folder)
        say(drawn.summary)
        fp32 = folder / FILES["fp32"]
        contract = check_contract(
            fp32, model=model, max_length=checkpoint.max_length, limit=config.max_fp32_difference, **feed
        )
        say(f"fp32 agrees with PyTorch at every shape and mask: largest difference {contract:.1e}")

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
            made_by=versions(drawn.exporter),
            golden=golden,
        )

        encoded = encoder.encode([r.model_input for r in records]) if records else None
        if encoded and encoded.truncated.any():
            say(
                f"note: {int(encoded.truncated.sum())} of {len(records or [])} evaluation rows are cut at {checkpoint.max_length} tokens"
            )
        rows = None
        if records and encoded:
            rows = Rows(checkpoint, records, encoded, torch_logits_of_all(model, encoded, **feed))
        report = Report.begin(
            checkpoint, exporter=drawn.exporter, passes=drawn.passes, contract=contract, num_rows=len(records or [])
        )
        if rows:
            report.add(
                Line(
                    "pytorch",
                    rows.compare(rows.expected),
                    measure_torch(model, rows.encoded, **feed),
                    _size_of(checkpoint.folder),
                    {},
                )
            )
        quantizer = None
        if set(config.variants) & set(QUANTIZERS):
            quantizer = prepare_int8(drawn, fp32, texts=encoded, **feed)
            report.saturation = quantizer.saturations()

        # Verify, through the runtime that will serve it
        variants: dict[str, Variant] = {}
        problems: list[str] = []
        for name, variant in draft.variants.items():
            open_it = partial(open_classifier, folder, draft, engine="ort-cpu", variant=name)
            restored = None
            if quantizer and name in QUANTIZERS:
                write = partial(quantizer.write, name, folder / variant.file)
                if rows is None:
                    write(frozenset())
                else:
                    restored = fit_int8(name, write, open_it, rows, config, say=say)
                    problems += restored.chosen.problems
            classifier = open_it()
            max_error = _golden_error(classifier, golden_logits)
            figures = restored.chosen.figures if restored else None
            if name == "fp32":
                if not max_error <= GOLDEN_LIMIT:
                    problems.append(
                        f"fp32 differs from PyTorch by {max_error:.1e} on the golden texts; the limit is {GOLDEN_LIMIT:g}"
                    )
                if rows:
                    actual = classifier.logits(rows.encoded)
                    figures = rows.compare(actual)
                    problems += gate_fp32(rows.expected, actual, config)
            speed = measure_classifier(classifier, records) if records else None
            file = folder / variant.file
            report.add(Line(name, figures, speed, size_of(file), size_by_layer(file), restored))
            variants[name] = replace(
                variant,
                batch_invariant=_is_batch_invariant(classifier, records or []),
                max_error=max_error,
                passed=name == "fp32" or rows is not None,
            )
        if "fp32" not in config.variants:
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


def _open(config: ExportConfig) -> Checkpoint:
    if config.task is None:
        return open_run(config.run)
    layout = TrainConfig(
        task=config.task, max_length=config.max_length, text_pair_column="text_pair" if config.pair else None
    )
    return open_foreign(config.run, config=layout)


def _variant(name: str, inputs: tuple[str, ...]) -> Variant:
    precision = name.partition("-")[0]
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
    return (folder / "model.safetensors").stat().st_size
