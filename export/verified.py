"""One variant: made, held against the gate, and measured, through the runtime that will serve it."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.bundle import Manifest, Variant
from runtime.errors import EngineUnavailable
from runtime.manifest_fields import REQUIRED_FILES
from runtime.model import Classifier, open_classifier
from runtime.records import Record

from .config import ExportConfig
from .encoder_weights import EncoderWeights
from .gate import Rows, fit_int8, gate_fp32, gate_reduced
from .graph import size_of
from .half import to_fp16
from .native_weights import write_native
from .reference import Floats
from .report import Line
from .restore import Restored
from .row_wise import PLAIN
from .saturation import Saturation
from .sizes import size_by_layer
from .speed import measure_classifier
from .stages import Stages
from .variants import ENGINES, FILES, IN_INT8, INT8_VARIANTS, NATIVE, Quantizer, prepare_int8

INVARIANCE_ROWS = 64  # answered alone and together
ALLOW_MORE = "Leave it out of --variants, or allow more"  # the way out, of a variant over its limits
GOLDEN_LIMIT = 1e-3  # fp32 on the golden texts: other CPUs round otherwise


class Made(NamedTuple):
    """A variant whose file lies in the bundle.

    Attributes:
        variant: what the manifest says of it.
        line: what the report says.
        problems: what is over the limits.
        saturation: of its products on a CPU without VNNI, where they were observed.
    """

    variant: Variant
    line: Line
    problems: tuple[str, ...] = ()
    saturation: dict[str, Saturation] | None = None


@dataclass(kw_only=True)
class Workshop:
    """All that variants are made from, and verified with.

    Attributes:
        config: every flag.
        folder: the bundle in the making; its fp32 file is there.
        draft: its manifest so far.
        golden_logits: PyTorch's, of the golden texts.
        weights: reads those of an encoder that is written, once int8 is to be made anew; None of one that was traced.
        rows: the evaluation rows; None where there are none.
        int8_rows: of a model that was trained in int8, the evaluation rows with PyTorch's answers in it: the variants IN_INT8 are rounded as in training and held to these, none of their weights restored to fp32; None for others.
        rows_digest: of them.
        stages: what earlier exports made.
        say: where lines for people go.
    """

    config: ExportConfig
    folder: Path
    draft: Manifest
    golden_logits: Sequence[Floats]
    weights: Callable[[], EncoderWeights | None]
    rows: Rows | None
    int8_rows: Rows | None
    rows_digest: str
    stages: Stages
    say: Callable[[str], None]

    def make(self, name: str) -> Made:
        """Make a variant; one that this machine cannot compute in is made all the same, and unverified."""
        variant = self.draft.variants[name]
        restored, saturation = None, None
        if name == "fp16":
            to_fp16(self.folder / FILES["fp32"], self.folder / variant.file)
        elif name == "native-bf16":
            self._write_bf16(self.folder / variant.file)
        elif name in INT8_VARIANTS:
            limits = [self.config.max_change, self.config.max_metric_drop, self.config.restore]
            decides = [self.draft.temperature, self.draft.thresholds, self.draft.abstain_below]
            made = self.stages.run(
                name, self.rows_digest, limits, decides, make=partial(self._make_int8, name), into=self.folder
            )
            restored = Restored.from_json(made["restored"]) if made["restored"] else None
            saturation = {key: Saturation(**found) for key, found in made["saturation"].items()}
        try:
            classifier = self._open(name, self.folder)
        except EngineUnavailable as exc:
            self.say(f"note: {name} cannot be verified here: {exc}")
            return Made(variant, Line(name, None, None, size_of(self.folder / variant.file), {}), (), saturation)
        return self._verify(name, classifier, restored)._replace(saturation=saturation)

    def _make_int8(self, name: str, folder: Path) -> dict[str, Any]:
        """Write an int8 variant that passes the gate where there are rows, as it is where there are none."""
        file = folder / FILES[name]
        file.parent.mkdir(parents=True, exist_ok=True)
        if folder != self.folder:
            for stored in REQUIRED_FILES:  # with them a folder can be opened and asked
                shutil.copy(self.folder / stored, folder)
        open_it, restored = partial(self._open, name, folder), None
        if self.rows is None:
            quantizer = self._quantizer
            quantizer.write(name, file, frozenset())
        else:
            with suppress(
                EngineUnavailable
            ):  # said where the variant is verified; all in int8 was written before it was opened
                for quantizer, rows, config in self._ways_to_int8(name):
                    if restored is not None:
                        self.say(f"{restored.chosen.problems[0]}; made anew as if it had not been trained in int8")
                    write = partial(quantizer.write, name, file)
                    restored = fit_int8(name, write, open_it, rows, config, say=self.say)
                    if not restored.chosen.problems:
                        break
        if folder != self.folder:
            for stored in REQUIRED_FILES:
                (folder / stored).unlink()
        saturations = quantizer.saturations() if name == "int8" else {}
        return {
            "restored": restored.as_json() if restored else None,
            "saturation": {key: found._asdict() for key, found in saturations.items()},
        }

    def _ways_to_int8(self, name: str) -> Iterator[tuple[Quantizer, Rows, ExportConfig]]:
        """Give the ways to make a variant, the first that passes being taken: by which weights, held to which answers, with which limits."""
        assert self.rows is not None
        if self.int8_rows is not None and name in IN_INT8:
            yield self._quantizer_of_training, self.int8_rows, replace(self.config, restore=False)
        yield self._quantizer, self.rows, self.config

    def _write_bf16(self, file: Path) -> None:
        weights = self.weights()
        assert weights is not None  # the pipeline refuses this variant of a traced graph
        file.parent.mkdir(exist_ok=True)
        inputs, max_length = self._inputs, self.draft.max_length
        write_native(file, weights, scheme=PLAIN, inputs=inputs, max_length=max_length, form=NATIVE["native-bf16"])

    def _verify(self, name: str, classifier: Classifier, restored: Restored | None) -> Made:
        variant, exact, rows = self.draft.variants[name], name == "fp32", self.rows
        problems, figures, reduced = list[str](), None, tuple[str, ...]()
        max_error = _golden_error(classifier, self.golden_logits)
        if exact and not max_error <= GOLDEN_LIMIT:
            problems.append(
                f"fp32 differs from PyTorch by {max_error:.1e} on the golden texts; the limit is {GOLDEN_LIMIT:g}"
            )
        if restored:
            figures, reduced = restored.chosen.figures, restored.chosen.problems
        elif rows:
            actual = classifier.logits(rows.encoded)
            figures = rows.compare(actual)
            if exact:
                problems += gate_fp32(rows.expected, actual, self.config)
            else:
                reduced = gate_reduced(name, figures, rows, self.config)
        problems += [f"{problem}. {ALLOW_MORE}" for problem in reduced]
        records, file = rows.records if rows else [], self.folder / variant.file
        speed = measure_classifier(classifier, records) if records else None
        verified = replace(
            variant,
            batch_invariant=_is_batch_invariant(classifier, records),
            max_error=max_error,
            passed=exact or rows is not None,
        )
        return Made(verified, Line(name, figures, speed, size_of(file), size_by_layer(file), restored), tuple(problems))

    def _open(self, name: str, folder: Path) -> Classifier:
        return open_classifier(folder, self.draft, engine=ENGINES.get(name, "ort-cpu"), variant=name)

    @property
    def _inputs(self) -> tuple[str, ...]:
        return next(iter(self.draft.variants.values())).inputs

    @cached_property
    def _quantizer(self) -> Quantizer:
        """Round weights by what flows through the model; to nearest where there are no rows."""
        return self._prepare(self.rows)

    @cached_property
    def _quantizer_of_training(self) -> Quantizer:
        """Round weights to nearest, as training in int8 does."""
        return self._prepare(None)

    def _prepare(self, rows: Rows | None) -> Quantizer:
        draft = self.draft
        return prepare_int8(
            self.folder / FILES["fp32"],
            self.weights,
            texts=rows.encoded if rows else None,
            inputs=self._inputs,
            pad_token_id=draft.pad_token_id,
            max_length=draft.max_length,
        )


def _golden_error(classifier: Classifier, expected: Sequence[Floats]) -> float:
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
