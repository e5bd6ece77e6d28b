"""BERT's tokenizer in portabert-native: which `tokenizer.json` it can stand for, and what it is told of characters.

It gives what `tokenizers` gives, in a fifth of the time, because it asks it: what a character becomes, and whether it ends a word, is learnt from the tokenizer itself
when a text first has it. Only ASCII is known beforehand, so that `tokenizers` need not be opened for texts that have nothing else. Texts that hold a special
token, or a character whose place depends on its neighbours, are left to `tokenizers`.
"""

import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from .errors import InputError

LEFT, TRUNCATED = 2, 1  # outcomes of portabert-native, which may not be there to be asked
_SPACES = "\t\n\r "


class OtherTokenizerError(Exception):
    """This tokenizer is none that WordPiece can stand for; the message says why."""


class LearningWordPiece:
    """A native WordPiece that learns characters as it meets them. Safe to share between threads."""

    def __init__(self, wordpiece: Any, tokenizer: Callable[[], Any], *, lowercase: bool, decomposes: bool) -> None:
        """Take a vocabulary, and where to ask.

        Args:
            wordpiece: a `portabert_native.WordPiece` that knows no character yet.
            tokenizer: gives the `tokenizers.Tokenizer` that it stands for.
            lowercase: whether that lower-cases.
            decomposes: whether it takes characters apart, to strip their accents, which brings marks into an order of their own.
        """
        self._wordpiece, self._tokenizer, self._decomposes = wordpiece, tokenizer, decomposes
        self._known: set[str] = set()
        self._learning = threading.Lock()
        for character in map(chr, range(128)):
            self._learn(character, *_ascii(character, lowercase=lowercase))

    def encode(self, texts: Sequence[str]) -> Any:
        """Encode texts, of pairs both parts one after the other, to `portabert_native.Encodings`. Those that only `tokenizers` can do are LEFT.

        Raises:
            UnicodeEncodeError: a text holds half a surrogate pair.
        """
        known = len(self._known)
        encodings = self._wordpiece.encode(texts)
        if LEFT in encodings.outcomes.tobytes():
            self._learn_all(set().union(*texts))
            if len(self._known) > known:  # by this call, or by another meanwhile
                encodings = self._wordpiece.encode(texts)
        return encodings

    def _learn_all(self, characters: set[str]) -> None:
        with self._learning:
            for character in characters - self._known:
                self._learn(character, *self._ask(character))

    def _learn(self, character: str, becomes: str, kinds: Sequence[Any]) -> None:
        self._wordpiece.learn(character, becomes, kinds)
        self._known.add(character)

    def _ask(self, character: str) -> tuple[str, list[Any]]:
        tokenizer = self._tokenizer()
        becomes: str = tokenizer.normalizer.normalize_str(character)
        return becomes, [
            _native().Kind.LEFT if self._decomposes and _moves(normal) else _kind(tokenizer.pre_tokenizer, normal)
            for normal in becomes
        ]


def open_wordpiece(
    description: Mapping[str, Any], tokenizer: Callable[[], Any], *, max_length: int, pair: bool
) -> LearningWordPiece:
    """Open a tokenizer in portabert-native.

    Args:
        description: its `tokenizer.json`.
        tokenizer: gives the `tokenizers.Tokenizer` of it.
        max_length: tokens of a text, special ones included; a longer one is truncated on the right.
        pair: whether texts are pairs.

    Raises:
        OtherTokenizerError: it is another kind of tokenizer, or portabert-native is not there.
        InputError: `max_length` leaves no room.
    """
    if find_spec("portabert_native") is None:
        raise OtherTokenizerError("portabert-native is not installed")
    try:
        vocabulary, rules, added = _read(description, max_length=max_length, pair=pair)
        wordpiece = _native().WordPiece(vocabulary, rules, leave=added)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise OtherTokenizerError(f"its tokenizer.json is laid out otherwise: {exc!r}") from exc
    except (_native().NativeError, OSError) as exc:
        raise OtherTokenizerError(f"portabert-native cannot open it: {exc}") from exc
    lowercase, strips = (description["normalizer"].get(name) for name in ("lowercase", "strip_accents"))
    return LearningWordPiece(
        wordpiece, tokenizer, lowercase=bool(lowercase), decomposes=bool(lowercase if strips is None else strips)
    )


def _read(description: Mapping[str, Any], *, max_length: int, pair: bool) -> tuple[dict[str, int], Any, list[str]]:
    """Read the vocabulary, the rules and the added tokens."""
    normalizer, pre_tokenizer, model, processor = (
        description[part] or {} for part in ("normalizer", "pre_tokenizer", "model", "post_processor")
    )
    wanted = {
        "normalizer": (normalizer.get("type"), "BertNormalizer"),
        "clean_text": (normalizer.get("clean_text"), True),
        "pre_tokenizer": (pre_tokenizer.get("type"), "BertPreTokenizer"),
        "model": (model.get("type"), "WordPiece"),
        "continuing_subword_prefix": (model.get("continuing_subword_prefix"), "##"),
    }
    for name, (found, expected) in wanted.items():
        if found != expected:
            raise OtherTokenizerError(f"its {name} is {found!r}, not {expected!r}")
    added = description["added_tokens"]
    if normalized := [token["content"] for token in added if token["normalized"]]:
        raise OtherTokenizerError(f"its added token {normalized[0]!r} is looked for in normalised text")
    vocabulary, unknown = model["vocab"], model["unk_token"]
    if unknown not in vocabulary:
        raise OtherTokenizerError(f"its vocabulary has no {unknown!r}")
    template = _template(processor, pair=pair)
    check_length(max_length, special=len(template) - 1 - pair, pair=pair)
    rules = _native().Rules(vocabulary[unknown], model["max_input_chars_per_word"], max_length, 1 + pair, template)
    return vocabulary, rules, [token["content"] for token in added]


def check_length(max_length: int, *, special: int, pair: bool) -> None:
    """Refuse a limit that leaves no room for a token of each text beside the special ones.

    Raises:
        InputError: it does.
    """
    if max_length <= special + pair:
        raise InputError(f"max_length must be more than {special + pair} for this tokenizer. Got {max_length} instead.")


def _native() -> Any:
    import portabert_native

    return portabert_native


def _template(processor: Mapping[str, Any], *, pair: bool) -> list[tuple[int, int]]:
    """Read what stands around a text: (id, type) of special tokens, and of its parts."""
    kind = processor.get("type")
    if kind == "TemplateProcessing":
        return [_place(item, processor["special_tokens"]) for item in processor["pair" if pair else "single"]]
    if kind in ("BertProcessing", "RobertaProcessing"):
        begin, end, types = processor["cls"][1], processor["sep"][1], int(kind == "BertProcessing")
        single = [(begin, 0), (_native().FIRST_PART, 0), (end, 0)]
        between = [] if types else [(end, 0)]
        return [*single, *between, (_native().SECOND_PART, types), (end, types)] if pair else single
    raise OtherTokenizerError(f"its post_processor.type is {kind!r}")


def _place(item: Mapping[str, Any], special: Mapping[str, Any]) -> tuple[int, int]:
    if "Sequence" in item:
        parts = {"A": _native().FIRST_PART, "B": _native().SECOND_PART}
        return parts[item["Sequence"]["id"]], item["Sequence"]["type_id"]
    ids = special[item["SpecialToken"]["id"]]["ids"]
    if len(ids) != 1:
        raise OtherTokenizerError(f"its special token {item['SpecialToken']['id']!r} stands for {len(ids)} ids")
    return ids[0], item["SpecialToken"]["type_id"]


def _ascii(character: str, *, lowercase: bool) -> tuple[str, list[Any]]:
    kinds = _native().Kind
    if character in _SPACES:
        return " ", [kinds.SPACE]
    if not character.isprintable():  # BERT's normaliser takes control characters out
        return "", []
    return character.lower() if lowercase else character, [kinds.LETTER if character.isalnum() else kinds.SIGN]


def _moves(normal: str) -> bool:
    """Say whether a mark may change places with its neighbours; of a character that is not assigned nobody knows."""
    return unicodedata.combining(normal) != 0 or unicodedata.category(normal) == "Cn"


def _kind(pre_tokenizer: Any, normal: str) -> Any:
    kinds = _native().Kind
    words = tuple(word for word, _ in pre_tokenizer.pre_tokenize_str(f"a{normal}a"))
    found = {(f"a{normal}a",): kinds.LETTER, ("a", "a"): kinds.SPACE, ("a", normal, "a"): kinds.SIGN}
    return found.get(words, kinds.LEFT)
