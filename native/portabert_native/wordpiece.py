"""WordPiece: texts to packed token ids, as BERT's tokenizer cuts them."""

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .library import NativeError, check, last_error, library

MAX_PLACES = 8  # of a template
CHUNK = 4096  # texts that one call of the library encodes, which bounds the memory set aside for their tokens
WHOLE, TRUNCATED, LEFT = range(3)  # outcomes
FIRST_PART, SECOND_PART = -1, -2  # in place of an id in a template


class Kind(IntEnum):
    """What a character is to words."""

    LETTER = 0  # part of one
    SPACE = 1  # between two
    SIGN = 2  # one of its own
    LEFT = 3  # texts that hold it are left to the caller


class Rules(NamedTuple):
    """How texts are cut, beside the vocabulary.

    Attributes:
        unknown: the id of a word that has no pieces.
        max_characters: of a word; a longer one is unknown.
        max_length: tokens of a text, special ones included; a longer one is truncated on the right, of a pair the longer part first.
        parts: 1, or 2 where a text is a pair.
        template: (id, type) of each special token, and of each part of a text, whose ids are FIRST_PART and SECOND_PART.
    """

    unknown: int
    max_characters: int
    max_length: int
    parts: int
    template: Sequence[tuple[int, int]]


class Encodings(NamedTuple):
    """B packed texts.

    Attributes:
        input_ids: (T,).
        token_type_ids: (T,).
        cu_seqlens: (B+1,) int32; text i is input_ids[cu_seqlens[i]:cu_seqlens[i+1]].
        outcomes: (B,) WHOLE, TRUNCATED or LEFT; of a text that is LEFT there are no tokens.
    """

    input_ids: npt.NDArray[np.int64]
    token_type_ids: npt.NDArray[np.int64]
    cu_seqlens: npt.NDArray[np.int32]
    outcomes: npt.NDArray[np.uint8]


class _Rules(ctypes.Structure):
    """`portabert_wordpiece_rules` of cpp/portabert.h."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("unknown", "max_characters", "max_length", "parts", "places")),
        ("place_id", ctypes.c_int32 * MAX_PLACES),
        ("place_type", ctypes.c_int32 * MAX_PLACES),
    ]


class WordPiece:
    """A vocabulary and what characters become. `encode` and `learn` may be called from several threads at once."""

    def __init__(self, vocabulary: Mapping[str, int], rules: Rules, *, leave: Iterable[str] = ()) -> None:
        """Open a vocabulary.

        Args:
            vocabulary: ids of pieces; ## begins those that continue a word.
            rules: how texts are cut.
            leave: strings that the tokenizer takes out of a text before all else; a text that holds one is LEFT.

        Raises:
            NativeError: a piece holds a newline, or the rules are none.
        """
        self._library = library()
        pieces = "\n".join(vocabulary).encode()
        if len(rules.template) > MAX_PLACES:
            raise NativeError(f"a template must have at most {MAX_PLACES} places. Got {len(rules.template)} instead")
        ids, types = zip(*rules.template, strict=True)
        structure = _Rules(*rules[:4], len(ids), ids, types)
        numbers = np.fromiter(vocabulary.values(), dtype=np.int32, count=len(vocabulary))
        self._parts = rules.parts
        self._max_length = rules.max_length
        self._handle = self._library.portabert_wordpiece_open(
            ctypes.byref(structure), pieces, len(pieces), numbers.ctypes.data, len(numbers)
        )
        if not self._handle:
            raise NativeError(last_error())
        for string in leave:
            check(self._library.portabert_wordpiece_leave(self._handle, string.encode(), len(string.encode())))

    def learn(self, character: str, becomes: str, kinds: Sequence[Kind]) -> None:
        """Take what a character becomes: characters, and the kind of each."""
        normal = becomes.encode()
        check(
            self._library.portabert_wordpiece_learn(
                self._handle, ord(character), normal, len(normal), bytes(kinds), len(kinds)
            )
        )

    def encode(self, texts: Sequence[str]) -> Encodings:
        """Encode texts, of pairs both parts of each one after the other.

        Raises:
            UnicodeEncodeError: a text holds half a surrogate pair.
        """
        step = CHUNK * self._parts
        chunks = [self._encode(texts[start : start + step]) for start in range(0, len(texts), step)]
        if len(chunks) == 1:
            return chunks[0]
        starts = np.cumsum([0, *(chunk.cu_seqlens[-1] for chunk in chunks)])
        ends = [chunk.cu_seqlens[1:] + start for chunk, start in zip(chunks, starts, strict=False)]
        ids, types, _, outcomes = zip(*chunks, strict=True) if chunks else ((), (), (), ())
        return Encodings(
            np.concatenate([np.zeros(0, np.int64), *ids]),
            np.concatenate([np.zeros(0, np.int64), *types]),
            np.concatenate([[0], *ends]).astype(np.int32),
            np.concatenate([np.zeros(0, np.uint8), *outcomes]),
        )

    def _encode(self, texts: Sequence[str]) -> Encodings:
        count = len(texts) // self._parts
        joined = "".join(texts)
        text = joined.encode()
        sizes = map(len, texts) if len(text) == len(joined) else (len(part.encode()) for part in texts)
        ends = np.cumsum(np.fromiter(sizes, dtype=np.uint64, count=len(texts)), dtype=np.uint64)
        room = count * self._max_length
        ids, types = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
        starts, outcomes = np.empty(count + 1, dtype=np.int32), np.empty(count, dtype=np.uint8)
        check(
            self._library.portabert_wordpiece_encode(
                *(self._handle, text, ends.ctypes.data, count),
                *(ids.ctypes.data, types.ctypes.data, room, starts.ctypes.data, outcomes.ctypes.data),
            )
        )
        total = int(starts[-1])
        return Encodings(ids[:total].copy(), types[:total].copy(), starts, outcomes)

    def __del__(self) -> None:
        """Free its memory."""
        if getattr(self, "_handle", None):
            self._library.portabert_wordpiece_close(self._handle)
