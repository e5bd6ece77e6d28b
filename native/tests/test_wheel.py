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


def test_words_are_cut_into_pieces() -> None:
    rules = native.Rules(0, 100, 8, 1, [(1, 0), (native.FIRST_PART, 0), (2, 0)])
    vocabulary = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "ant": 3, "##en": 4, "##na": 5}
    wordpiece = native.WordPiece(vocabulary, rules, leave=["[SEP]"])
    for letter in "aentx":
        wordpiece.learn(letter, letter, [native.Kind.LETTER])
    wordpiece.learn(" ", " ", [native.Kind.SPACE])
    encodings = wordpiece.encode(["antenna ant", "ax", "an [SEP]"])
    assert encodings.input_ids.tolist() == [1, 3, 4, 5, 3, 2, 1, 0, 2]
    assert encodings.cu_seqlens.tolist() == [0, 6, 9, 9]
    assert encodings.outcomes.tolist() == [native.WHOLE, native.WHOLE, native.LEFT]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": 3}, "parts must be 1 or 2. Got 3"),
        ({"max_characters": 0}, "max_characters must be 1 or more. Got 0"),
        ({"max_length": 2}, "max_length must be more than 2. Got 2"),
        ({"template": [(1, 0)]}, "a template must have one place for each part of a text"),
        ({"template": [(-3, 0)]}, "a place must have an id, −1 or −2. Got -3"),
        ({"template": [(1, 0)] * 9}, "a template must have at most 8 places. Got 9"),
    ],
)
def test_rules_that_no_text_can_be_cut_by_are_refused(change: dict[str, Any], message: str) -> None:
    rules = native.Rules(0, 100, 8, 1, [(1, 0), (native.FIRST_PART, 0), (2, 0)])
    with pytest.raises(native.NativeError, match=message):
        native.WordPiece({"[UNK]": 0}, rules._replace(**change))
