"""portabert-native's WordPiece gives what `tokenizers` gives, whatever the text, the options and the template; what it cannot give it leaves."""

import json
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors

from runtime.encode import Encoder
from runtime.errors import BundleError, InputError
from runtime.wordpiece import LEFT, OtherTokenizerError, open_wordpiece

native = pytest.importorskip("portabert_native", reason="portabert-native is not built")

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PIECES = (*"aebnstüé漢字ßиσς.,-!0_😀ก", "the", "an", "ant", "antenna", "über", "naïve", "de", "deja")
CONTINUING = (*"aebnstüéßиσς0ก", "t", "ten", "tenna", "ja", "nte")
VOCABULARY = {
    piece: number for number, piece in enumerate(dict.fromkeys([*SPECIAL, *PIECES, *(f"##{p}" for p in CONTINUING)]))
}
# What tends to be cut in another way: marks, controls, spaces of all kinds, letters that grow when they are lower-cased, and what only looks like a special token.
ALPHABET = (
    st.sampled_from(
        [*PIECES, *CONTINUING, " ", "  ", "\t", "\n", "\x00", "\x7f", "\u00a0", "\u2028", "\u3000", "\ufffd"]
    )
    | st.sampled_from(
        [
            "\u0301",
            "\u302e",
            "\u0345",
            "\u200d",
            "İ",
            "Σ",
            "ΟΔΟΣ",
            "ﬁ",
            "각",
            "[",
            "]",
            "[SEP",
            "##",
            "'",
            "’",
            "…",
            "§",
            "a" * 40,
        ]
    )
    | st.characters(codec="utf-8")
)
TEXTS = st.lists(ALPHABET, max_size=30).map("".join)
TEMPLATES: dict[str, Any] = {
    "template": processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    ),
    "bert": processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)),
    "roberta": processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2)),
}


@cache
def tokenizer(
    *, template: str = "template", lowercase: bool = True, strip_accents: bool | None = None, chinese: bool = True
) -> Any:
    made: Any = tokenizers.Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]", max_input_chars_per_word=50))
    made.add_special_tokens(list(SPECIAL))
    made.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=chinese
    )
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = TEMPLATES[template]
    return made


def open_one(made: Any, *, max_length: int = 32, pair: bool = False) -> Any:
    return open_wordpiece(json.loads(made.to_str()), lambda: made, max_length=max_length, pair=pair)


def same(made: Any, texts: Sequence[Any], *, max_length: int, pair: bool) -> int:
    """Assert that all texts that are not left are encoded alike; give how many those are."""
    encodings = open_one(made, max_length=max_length, pair=pair).encode(
        [part for text in texts for part in text] if pair else texts
    )
    theirs = tokenizers.Tokenizer.from_str(made.to_str())
    theirs.enable_truncation(max_length, strategy="longest_first")
    for index, (text, expected) in enumerate(zip(texts, theirs.encode_batch(list(texts)), strict=True)):
        own = slice(encodings.cu_seqlens[index], encodings.cu_seqlens[index + 1])
        if encodings.outcomes[index] == LEFT:
            assert own.start == own.stop
            continue
        assert encodings.input_ids[own].tolist() == expected.ids, text
        assert encodings.token_type_ids[own].tolist() == expected.type_ids
        assert bool(encodings.outcomes[index]) == bool(expected.overflowing)
    return int((encodings.outcomes != LEFT).sum())


OPTIONS = st.fixed_dictionaries(
    {
        "template": st.sampled_from(sorted(TEMPLATES)),
        "lowercase": st.booleans(),
        "strip_accents": st.sampled_from([None, True, False]),
        "chinese": st.booleans(),
    }
)


@settings(max_examples=300, deadline=None)
@given(options=OPTIONS, texts=st.lists(TEXTS, min_size=1, max_size=5), max_length=st.integers(4, 40))
@example(options={}, texts=["Déjà-vu, ΑΣ Σ [SEP] über"], max_length=40)
@example(options={"lowercase": False}, texts=["e\u0323\u0301", "क\u094d\u093c"], max_length=40)
def test_texts_are_encoded_as_tokenizers_encodes_them(
    options: dict[str, Any], texts: list[str], max_length: int
) -> None:
    same(tokenizer(**options), texts, max_length=max_length, pair=False)


@settings(max_examples=300, deadline=None)
@given(options=OPTIONS, texts=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5), max_length=st.integers(6, 40))
def test_pairs_are_encoded_as_tokenizers_encodes_them(
    options: dict[str, Any], texts: list[tuple[str, str]], max_length: int
) -> None:
    same(tokenizer(**options), texts, max_length=max_length, pair=True)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [None, True, False])
def test_every_ascii_character_is_known_as_tokenizers_has_it(lowercase: bool, strip_accents: bool | None) -> None:
    made = tokenizer(lowercase=lowercase, strip_accents=strip_accents)
    texts = [f"a{chr(code)}b{chr(code)}" for code in range(128)]
    assert same(made, texts, max_length=32, pair=False) == len(texts)


def test_texts_of_many_languages_are_not_left() -> None:
    texts = [
        "Grüße, où ça?",
        "Привет, мир!",
        "漢字かな交じり",
        "안녕하세요",
        "مرحبا بالعالم",
        "नमस्ते दुनिया",
        "emoji 😀👍🏽",
        "“quotes” – dashes…",
    ]
    for lowercase in (True, False):
        assert same(tokenizer(lowercase=lowercase), texts, max_length=32, pair=False) == len(texts)


def test_the_longer_part_of_a_pair_is_cut_first() -> None:
    pairs = [("a " * first, "b " * second) for first in range(0, 40, 3) for second in range(0, 40, 3)]
    for max_length in (7, 8, 32, 33):
        assert same(tokenizer(), pairs, max_length=max_length, pair=True) == len(pairs)


def write(folder: Path, made: Any, *, side: str = "right") -> Path:
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"unk_token": "[UNK]", "truncation_side": side}))
    return folder


def test_what_is_left_is_encoded_by_tokenizers_and_stands_in_its_place(tmp_path: Path) -> None:
    texts = ["an ant", "the [MASK] antenna", "Déjà", "an a\u302e\u0301b", "a " * 50, "[SEP] " * 50]
    encoder = Encoder(write(tmp_path, tokenizer()), max_length=16, pair=False)
    assert encoder.description == "portabert-native's WordPiece"
    ours, theirs = encoder.encode(texts), encoder.encode_by_tokenizers(texts)
    assert ours.truncated.tolist() == theirs.truncated.tolist() == [False] * 4 + [True] * 2
    for mine, other in zip(ours.batch, theirs.batch, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("pair", [False, True])
def test_more_texts_than_a_chunk_are_encoded_in_order(pair: bool) -> None:
    texts = ["a " * (1 + index % 7) for index in range(2 * 4096 + 3)]
    rows = [(text, text) for text in texts] if pair else texts
    assert same(tokenizer(), rows, max_length=32, pair=pair) == len(rows)


def test_no_texts_have_no_tokens() -> None:
    encodings = open_one(tokenizer()).encode([])
    assert [len(array) for array in encodings] == [0, 0, 1, 0]


def test_half_a_surrogate_pair_is_refused_by_name(tmp_path: Path) -> None:
    encoder = Encoder(write(tmp_path, tokenizer()), max_length=16, pair=False)
    with pytest.raises(InputError, match="text 8 holds half a surrogate pair"):
        encoder.encode(["fine", "a\ud800"], position=7)


def sequence() -> Any:
    made = tokenizers.Tokenizer.from_str(tokenizer().to_str())
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])  # type: ignore[assignment]
    return made


def with_normalized_token() -> Any:
    made = tokenizers.Tokenizer.from_str(tokenizer().to_str())
    made.add_tokens([AddedToken("Kestrel", normalized=True)])
    return made


@pytest.mark.parametrize(
    ("make", "side", "why"),
    [
        (sequence, "right", "its normalizer is 'Sequence', not 'BertNormalizer'"),
        (with_normalized_token, "right", "its added token 'Kestrel' is looked for in normalised text"),
        (tokenizer, "left", "it does not truncate on the left"),
    ],
)
def test_another_tokenizer_is_left_to_tokenizers_and_info_says_why(
    make: Any, side: str, why: str, tmp_path: Path
) -> None:
    encoder = Encoder(write(tmp_path, make(), side=side), max_length=16, pair=False)
    assert encoder.description == f"tokenizers; not portabert-native's WordPiece: {why}"
    assert encoder.encode(["an ant"]).batch.input_ids.tolist()[0] == VOCABULARY["[CLS]"]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["model"].update(vocab={"a\nb": 0, "[UNK]": 1}),
        lambda d: d["model"].update(vocab={"a": 0}),
        lambda d: d["model"].update(vocab={"a": "b", "[UNK]": 1}),
        lambda d: d["model"].update(vocab={"a": 2**40, "[UNK]": 1}),
        lambda d: d["model"].update(vocab=["a", "[UNK]"]),
        lambda d: d["model"].pop("max_input_chars_per_word"),
        lambda d: d["model"].update(max_input_chars_per_word=0),
        lambda d: d["model"].update(max_input_chars_per_word=2**40),
        lambda d: d.update(added_tokens=[{}]),
        lambda d: d.update(model=None),
        lambda d: d["post_processor"].update(single=[{"SpecialToken": {"id": "[NO]", "type_id": 0}}]),
        lambda d: d["post_processor"].update(single=[{"Sequence": {"id": "A", "type_id": 0}}] * 2),
        lambda d: d["post_processor"].update(single=[{"SpecialToken": {"id": "[CLS]", "type_id": 0}}] * 9),
        lambda d: d.update(post_processor=None),
    ],
)
def test_a_tokenizer_that_is_laid_out_otherwise_is_left(change: Any) -> None:
    description = json.loads(tokenizer().to_str())
    change(description)
    with pytest.raises(OtherTokenizerError):
        open_wordpiece(description, tokenizer, max_length=16, pair=False)


def test_a_tokenizer_that_cannot_be_read_is_said_when_it_is_opened(tmp_path: Path) -> None:
    write(tmp_path, tokenizer())
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}')
    with pytest.raises(BundleError, match="the tokenizer cannot be read"):
        Encoder(tmp_path, max_length=16, pair=False)


@pytest.mark.parametrize("pair", [False, True])
def test_a_limit_that_leaves_no_room_is_refused(pair: bool, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"max_length must be more than {2 + 2 * pair} for this tokenizer. Got 2"):
        Encoder(write(tmp_path, tokenizer()), max_length=2, pair=pair)


def test_threads_that_learn_beside_each_other_get_the_same_ids() -> None:
    made = tokenizer()
    shared = open_one(made, max_length=40)
    texts = [f"a{chr(code)}b é漢 the" for code in range(0x100, 0x1F00)]
    found: list[list[int]] = []

    def encode() -> None:
        found.append(shared.encode(texts).input_ids.tolist())

    threads = [threading.Thread(target=encode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(ids == open_one(made, max_length=40).encode(texts).input_ids.tolist() for ids in found)
