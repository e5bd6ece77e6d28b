"""Our token ids are those of transformers' own tokenizer classes, for every family of vocabularies."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.encode import Encoder, Text
from runtime.errors import BundleError, InputError
from runtime.testing import MAX_LENGTH, tiny_bundle

# The class that transformers gives each family, where the tiny tokenizers of conftest say only PreTrainedTokenizerFast.
CLASSES = {
    "bert": "BertTokenizerFast",
    "roberta": "RobertaTokenizerFast",
    "distilbert": "DistilBertTokenizerFast",
    "electra": "ElectraTokenizerFast",
    "mpnet": "MPNetTokenizerFast",
    "deberta-v2": "DebertaV2TokenizerFast",
    "xlm-roberta": "XLMRobertaTokenizerFast",
    "modernbert": "PreTrainedTokenizerFast",
    "gpt2": "GPT2TokenizerFast",
}
LIMIT = 16
# Words of the demo, so that whole words and not single characters alone are met, and anything else.
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(["parcel", "Refund", "late!!", "[SEP]", "</s>", "it's", "東京", "é", "  ", "\n"]), st.text()
    ),
    max_size=12,
).map(" ".join)


@pytest.fixture(scope="module")
def folder_of(
    make_encoder_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Give a function that makes a tokenizer of the family's own class: (family) → folder."""

    @cache
    def make(family: str) -> Path:
        made = tmp_path_factory.mktemp(f"tokenizer-{family}")
        plain = transformers.AutoTokenizer.from_pretrained(make_encoder_folder(family))
        names = ("bos_token", "eos_token", "unk_token", "cls_token", "sep_token", "pad_token", "mask_token")
        special = {name: getattr(plain, name) for name in names if getattr(plain, name) is not None}
        own = getattr(transformers, CLASSES[family])(tokenizer_object=plain.backend_tokenizer, **special)
        own.save_pretrained(made)
        return made

    return make


def agree(folder: Path, texts: list[Text], *, pair: bool) -> None:
    """Assert that a batch, and each text alone, are encoded as AutoTokenizer encodes them."""
    encoder, theirs = Encoder(folder, max_length=LIMIT, pair=pair, offsets=True), load(folder)
    encoded = encoder.encode(texts)
    assert encoded.tokens is not None
    for index, text in enumerate(texts):
        parts = text if isinstance(text, tuple) else (text,)
        expected = theirs(
            *parts, truncation=True, max_length=LIMIT, return_offsets_mapping=True, return_token_type_ids=True
        )
        whole = theirs(*parts)
        ours = encoded.batch.take(np.array([index], dtype=np.intp))
        assert ours.input_ids.tolist() == expected["input_ids"]
        assert ours.token_type_ids.tolist() == expected["token_type_ids"]
        assert encoded.tokens[index].offsets.tolist() == [list(pair) for pair in expected["offset_mapping"]]
        assert bool(encoded.truncated[index]) == (len(whole["input_ids"]) > LIMIT)
        alone = encoder.encode([text]).batch
        assert alone.input_ids.tolist() == expected["input_ids"]


@cache
def load(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("family", CLASSES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXTS.filter(bool), min_size=1, max_size=4))
def test_texts_are_encoded_as_transformers_encodes_them(
    family: str, folder_of: Callable[[str], Path], texts: list[Text]
) -> None:
    agree(folder_of(family), texts, pair=False)


@pytest.mark.parametrize("family", CLASSES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.tuples(TEXTS.filter(bool), TEXTS.filter(bool)), min_size=1, max_size=4))
def test_pairs_are_encoded_as_transformers_encodes_them(
    family: str, folder_of: Callable[[str], Path], texts: list[Text]
) -> None:
    agree(folder_of(family), texts, pair=True)


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("family", CLASSES)
def test_only_a_text_longer_than_the_limit_counts_as_truncated(
    family: str, pair: bool, folder_of: Callable[[str], Path]
) -> None:
    texts = [" ".join(["a"] * count) for count in range(1, 40)]
    rows: list[Text] = [(text, "a") for text in texts] if pair else list(texts)
    whole = [len(load(folder_of(family))(*((row,) if isinstance(row, str) else row))["input_ids"]) for row in rows]
    assert {LIMIT, LIMIT + 1} <= set(whole)
    encoded = Encoder(folder_of(family), max_length=LIMIT, pair=pair).encode(rows)
    assert encoded.truncated.tolist() == [length > LIMIT for length in whole]
    assert encoded.batch.lengths.tolist() == [min(length, LIMIT) for length in whole]
    assert encoded.tokens is None


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_tokenizers_own_truncation_side_holds(
    family: str, side: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(folder_of(family), folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "truncation_side": side}))
    agree(folder, ["my parcel never came and nobody answers the telephone so what now please"], pair=False)
    agree(folder, [("my parcel never came and nobody answers", "the telephone so what now please")], pair=True)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_truncation_and_padding_inside_tokenizer_json_are_switched_off(
    family: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(folder_of(family), folder)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=24)
    tokenizer.save(str(folder / "tokenizer.json"))
    texts = ["ok", "my parcel never came", "word " * 40]
    changed, plain = (Encoder(path, max_length=LIMIT, pair=False).encode(texts) for path in (folder, folder_of(family)))
    assert changed.batch.input_ids.tolist() == plain.batch.input_ids.tolist()
    assert changed.truncated.tolist() == [False, False, True]


def test_a_mapping_is_the_text_it_holds(tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path / "bundle")
    single = Encoder(folder, max_length=MAX_LENGTH, pair=False).encode(["late", {"text": "late"}]).batch
    assert single.take(np.array([0])).input_ids.tolist() == single.take(np.array([1])).input_ids.tolist()
    both = Encoder(folder, max_length=MAX_LENGTH, pair=True).encode([("a", "b"), {"text": "a", "text_pair": "b"}]).batch
    assert both.take(np.array([0])).input_ids.tolist() == both.take(np.array([1])).input_ids.tolist()


def test_tokens_say_where_they_stand_in_the_text(tmp_path: Path) -> None:
    encoder = Encoder(tiny_bundle(tmp_path / "bundle"), max_length=MAX_LENGTH, pair=False, offsets=True)
    (tokens,) = encoder.encode(["My parcels"]).tokens or ()
    assert encoder.token_strings(tokens.input_ids) == ["[CLS]", "my", "parcel", "##s", "[SEP]"]
    assert tokens.offsets.tolist() == [[0, 0], [0, 2], [3, 9], [9, 10], [0, 0]]
    assert tokens.word_ids.tolist() == [-1, 0, 1, 1, -1]
    assert (tokens.text, encoder.join_tokens(["parcel", "##s"]), encoder.marks_subwords) == (
        "My parcels",
        "parcels",
        True,
    )


def test_no_texts_make_an_empty_batch(tmp_path: Path) -> None:
    encoded = Encoder(tiny_bundle(tmp_path / "bundle"), max_length=MAX_LENGTH, pair=False).encode([])
    assert (len(encoded.batch.input_ids), encoded.batch.cu_seqlens.tolist(), len(encoded.truncated)) == (0, [0], 0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "text 12 must be a string: this model takes single texts. Got None instead"),
        (4.5, "text 12 must be a string: this model takes single texts. Got 4.5 instead"),
        (("a", "b"), r"text 12 must be a string: this model takes single texts. Got \('a', 'b'\) instead"),
        (["a"], r"text 12 must be a string: .* Got \['a'\] instead"),
        ({"text": None}, "text 12 must be a string: .* Got None instead"),
        ({"text": "a", "text_pair": "b"}, "text 12 must be a string: .* Got .'a', 'b'. instead"),
        ({"txt": "a"}, r"text 12 must be .*text_pair.* Got keys \['txt'\] instead"),
        ({"text": "a", "label": "b", 3: 4}, r"text 12 must be .* Got keys \['text', 'label', 3\] instead"),
        ({}, r"text 12 must be .* Got keys \[\] instead"),
        ("broken \ud83d", r"text 12 holds half a surrogate pair, .*: 'broken \\ud83d'"),
        (["long"] * 99, r"Got \['long', .{68}\.\.\. instead"),
    ],
)
def test_what_is_no_single_text_is_refused_with_place_and_value(tmp_path: Path, value: Any, message: str) -> None:
    encoder = Encoder(tiny_bundle(tmp_path / "bundle"), max_length=MAX_LENGTH, pair=False)
    for texts, position in (([value], 12), (["fine", "fine", value, "fine"], 10)):
        with pytest.raises(InputError, match=message):
            encoder.encode(texts, position=position)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("alone", r"text 1 must be a pair \(text, text_pair\): this model compares two texts. Got 'alone' instead"),
        ({"text": "alone"}, "text 1 must be a pair .* Got 'alone' instead"),
        (("a", None), r"text 1 must be a pair .* Got \('a', None\) instead"),
        (("a", "b", "c"), r"text 1 must be a pair .* Got \('a', 'b', 'c'\) instead"),
        (["a", "b"], r"text 1 must be a pair .* Got \['a', 'b'\] instead"),
        (("a", "\udc00"), "text 1 holds half a surrogate pair"),
    ],
)
def test_what_is_no_pair_is_refused_with_place_and_value(tmp_path: Path, value: Any, message: str) -> None:
    encoder = Encoder(tiny_bundle(tmp_path / "bundle", pair=True), max_length=MAX_LENGTH, pair=True)
    with pytest.raises(InputError, match=message):
        encoder.encode([("fine", "fine"), value])


def test_a_text_without_a_token_is_refused(folder_of: Callable[[str], Path]) -> None:
    encoder = Encoder(folder_of("gpt2"), max_length=LIMIT, pair=False)
    with pytest.raises(InputError, match="text 8 has no token: ''"):
        encoder.encode(["fine", ""], position=7)


@pytest.mark.parametrize(("pair", "least"), [(False, 2), (True, 4)])
def test_a_limit_without_room_for_text_is_refused(tmp_path: Path, pair: bool, least: int) -> None:
    folder = tiny_bundle(tmp_path / "bundle")
    with pytest.raises(
        InputError, match=f"max_length must be more than {least} for this tokenizer. Got {least} instead"
    ):
        Encoder(folder, max_length=least, pair=pair)
    assert Encoder(folder, max_length=least + 1, pair=pair)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, "{", '{"a": 1'])
def test_a_damaged_tokenizer_is_refused_with_its_folder(tmp_path: Path, name: str, content: str | None) -> None:
    folder = tiny_bundle(tmp_path / "bundle")
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    with pytest.raises(BundleError, match=f"{folder}: the tokenizer cannot be read: .* Export the model again"):
        Encoder(folder, max_length=MAX_LENGTH, pair=False)
