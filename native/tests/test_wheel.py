"""What a wheel must do, wherever it was built: find its library and compute."""

from typing import Any

import numpy as np
import pytest

native = pytest.importorskip("portabert_native", reason="portabert-native is not built")


def open_empty() -> Any:
    """Open an encoder of one layer, without weights."""
    widths = {"embedding": 16, "hidden": 16, "heads": 1, "head_size": 16, "intermediate": 16, "layers": 1}
    head = {"steps": 1, "step_width": (2, 0, 0, 0), "step_activation": (0, 0, 0, 0)}
    texts = {"vocabulary": 10, "positions": 8, "types": 1, "max_length": 8, "padding_idx": -1}
    numbers = {"precision": 0, "activation": 1, "zero_point": 24, "floor": 0.007, "relative": 0, "per_token": 0}
    return native.Model(native.Shape(**widths, **head, **texts, **numbers), threads=1)


def test_the_library_is_there_and_knows_its_processor() -> None:
    names = native.instruction_sets()
    assert "scalar" in names
    assert open_empty().instruction_set == names[0]


def test_a_model_without_weights_says_which_are_missing() -> None:
    with pytest.raises(native.NativeError, match=r"these tensors are missing: .*layer_0_up_bias"):
        open_empty().set({"words_scale": np.ones(10, dtype=np.float32)})
