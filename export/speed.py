"""Quick figures of speed for the report, all engines fed alike: batches sorted by length, the same threads. bench/ measures properly."""

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from runtime.encode import Encoded
from runtime.model import Classifier
from runtime.records import Record
from runtime.threads import usable_threads

from .reference import Reference

MAX_TEXTS, REPEATS, LATENCY_TEXTS = 128, 3, 32


class Speed(NamedTuple):
    """Medians on this machine.

    Attributes:
        latency_ms: one text alone, a text of middle length.
        texts_per_s: many texts at once.
    """

    latency_ms: float
    texts_per_s: float


def measure_torch(reference: Reference, encoded: Encoded) -> Speed:
    """Time PyTorch's forward passes on encoded texts (tokenising not counted, which favours it)."""
    torch.set_num_threads(usable_threads().number)
    few = np.arange(min(MAX_TEXTS, len(encoded.batch.lengths)))
    part = Encoded(encoded.batch.take(few), encoded.truncated[few], None)
    middle = np.array([int(np.argsort(part.batch.lengths)[len(few) // 2])])
    return Speed(
        _median_s(lambda: reference.logits_together(part, middle), LATENCY_TEXTS) * 1e3,
        len(few) / _median_s(lambda: reference.logits(part), REPEATS),
    )


def measure_classifier(classifier: Classifier, records: Sequence[Record]) -> Speed:
    """Time a bundle from text to answer."""
    texts = [r.model_input for r in records[:MAX_TEXTS]]
    middle = sorted(texts, key=lambda text: len(text if isinstance(text, str) else "".join(text)))[len(texts) // 2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter has said how many rows are cut
        return Speed(
            _median_s(lambda: classifier.predict(middle), LATENCY_TEXTS) * 1e3,
            len(texts) / _median_s(lambda: classifier.predict(texts), REPEATS),
        )


def _median_s(run: Callable[[], object], repeats: int) -> float:
    run()  # warm
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
