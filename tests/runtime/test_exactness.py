"""Exact 8-bit products on every CPU: the slower way where they are wrong, and nowhere else. Seen on emulated CPUs without VNNI (docs/LOG.md); here each path is forced."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import runtime
from runtime.engines.exactness import LARGEST, PRODUCT, saturates

Make = Callable[[str, str], Path]
TEXTS = ["my parcel never came", "refund me", "where is it now, and when will it be here?"]
OPTION = "session.x64quantprecision"


def test_the_embedded_product_is_what_onnx_makes_of_it() -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [2, 1])],
        [numpy_helper.from_array(np.full((4, 1), 127, dtype=np.int8), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    assert onnx.load_from_string(PRODUCT) == model


def test_asked_to_be_exact_the_product_is_so_on_any_cpu() -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(OPTION, "1")
    session = onnxruntime.InferenceSession(PRODUCT, options, providers=["CPUExecutionProvider"])
    assert (session.run(None, {"a": np.full((2, 4), 255, dtype=np.uint8)})[0] == LARGEST).all()


@pytest.mark.parametrize("wrong", [False, True])
def test_int8_asks_for_exact_products_where_they_are_wrong_and_nowhere_else(
    wrong: bool, make_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, str | None]] = []
    original = onnxruntime.InferenceSession

    def spy(path: str, options: onnxruntime.SessionOptions, **others: object) -> object:
        try:
            asked = options.get_session_config_entry(OPTION)
        except RuntimeError:  # it has none
            asked = None
        opened.append((Path(path).name, asked))
        return original(path, options, **others)

    bundle = make_bundle("bert", "single-label")
    expected = runtime.load(bundle, variant="int8", engine="ort-cpu").logits
    monkeypatch.setattr("runtime.engines.ort.saturates", lambda: wrong)
    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    classifier = runtime.load(bundle, variant="int8", engine="ort-cpu")
    runtime.load(bundle, variant="fp32", engine="ort-cpu")
    assert opened[0] == ("model_quantized.onnx", "1" if wrong else None)
    assert opened[-1] == ("model.onnx", None)
    assert ("the slower way" in classifier.opened.engine.description) == wrong
    if not saturates():  # both ways are exact here, so they agree to the bit
        encoded = classifier.encode(TEXTS)
        for ours, theirs in zip(classifier.logits(encoded), expected(encoded), strict=True):
            np.testing.assert_array_equal(ours, theirs)
