"""How the onnxruntime engine uses several threads: always with the same answers to the bit."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.engines.lanes import Rivals


@pytest.mark.parametrize("shape", ["single-label", "token"])
@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_any_number_of_threads_gives_the_same_logits_to_the_bit(
    shape: str, variant: str, make_bundle: Callable[[str, str], Path], texts: list[str]
) -> None:
    bundle = make_bundle("bert", shape)
    one, three = (runtime.load(bundle, variant=variant, engine="ort-cpu", threads=number) for number in (1, 3))
    short = [text for text in texts if len(text) < 60]
    many = zip(one.predict(short[:60]), three.predict(short[:60]), strict=True)
    # Alone: the first of a size go to one session, the next to the other.
    alone = [(one.predict(short[0]), three.predict(short[0])) for _ in range(2 * 2 * Rivals.TRIALS + 4)]
    for expected, actual in [*many, *alone]:
        np.testing.assert_array_equal(expected.logits, actual.logits)


@pytest.mark.parametrize("engine", ["ort-cpu", "openvino"])
def test_a_model_is_freed_with_its_classifier(engine: str, make_bundle: Callable[[str, str], Path]) -> None:
    """At once, not when Python next looks for cycles: a large model is gigabytes."""
    pytest.importorskip("onnxruntime" if engine == "ort-cpu" else "openvino")
    classifier = runtime.load(make_bundle("bert", "single-label"), variant="fp32", engine=engine, threads=2)
    for _ in range(2 * Rivals.TRIALS + 1):  # both sessions are open
        classifier.predict("where is it")
    model = weakref.ref(classifier.opened.engine)
    gc.disable()
    try:
        del classifier
        assert model() is None
    finally:
        gc.enable()
