"""Texts to token ids: the only code in the project that tokenises, for training, verification and prediction alike.

    "Reset my Kestrel 2"  ──►  input_ids  [101 25141 2026 ... 102]   packed, text after text, no padding
                               cu_seqlens [0 8 ...]                  text i is input_ids[cu_seqlens[i]:cu_seqlens[i+1]]

`tokenizer.json` may carry truncation and padding of its own (all-MiniLM-L6-v2: 128 and 128); both are switched off here and the given
`max_length` applies.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from .errors import BundleError, InputError
from .wordpiece import LEFT, TRUNCATED, LearningWordPiece, OtherTokenizerError, check_length, open_wordpiece

Ints: TypeAlias = npt.NDArray[np.int64]
Text: TypeAlias = str | tuple[str, str] | Mapping[str, str]  # a mapping is {"text": …} or {"text": …, "text_pair": …}


class Batch(NamedTuple):
    """Packed texts, all that an engine gets to see.

    Attributes:
        input_ids: (T,) token ids of B texts, one after the other.
        token_type_ids: (T,) 0 for the first sentence, 1 for the second of a pair.
        cu_seqlens: (B+1,) int32; text i is `input_ids[cu_seqlens[i]:cu_seqlens[i+1]]`.
    """

    input_ids: Ints
    token_type_ids: Ints
    cu_seqlens: npt.NDArray[np.int32]

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """Tokens of each text, (B,)."""
        return np.diff(self.cu_seqlens)

    def take(self, indices: npt.NDArray[np.intp]) -> "Batch":
        """Pick texts, in the order of `indices`."""
        starts, lengths = self.cu_seqlens[indices], self.lengths[indices]
        cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        positions = np.arange(cu_seqlens[-1]) + np.repeat(starts - cu_seqlens[:-1], lengths)  # (T',)
        return Batch(self.input_ids[positions], self.token_type_ids[positions], cu_seqlens)


def join(batches: Sequence[Batch]) -> Batch:
    """Put batches one after the other."""
    if len(batches) == 1:
        return batches[0]
    starts = np.cumsum([len(batch.input_ids) for batch in batches])
    ends = [batch.cu_seqlens[1:] + start for batch, start in zip(batches[1:], starts, strict=False)]
    return Batch(
        np.concatenate([batch.input_ids for batch in batches]),
        np.concatenate([batch.token_type_ids for batch in batches]),
        np.concatenate([batches[0].cu_seqlens, *ends]).astype(np.int32),
    )


class Tokens(NamedTuple):
    """Where the t tokens of one text stand in it; only taggers need this.

    Attributes:
        text: what was tokenised.
        input_ids: (t,).
        offsets: (t, 2) characters of the text, end exclusive; (0, 0) for special tokens.
        word_ids: (t,) the pre-tokeniser's word of each token; -1 for special tokens.
    """

    text: str
    input_ids: Ints
    offsets: Ints
    word_ids: Ints


class Encoded(NamedTuple):
    """B encoded texts.

    Attributes:
        batch: the packed ids.
        truncated: (B,) whether a text was longer than the model takes.
        tokens: per text, where offsets were asked for.
    """

    batch: Batch
    truncated: npt.NDArray[np.bool_]
    tokens: tuple[Tokens, ...] | None


class Encoder:
    """Tokenise texts for one model. Safe to share between threads.

    Attributes:
        description: what tokenises, for people; where it is not the fastest, why.
    """

    def __init__(self, folder: Path, *, max_length: int, pair: bool, offsets: bool = False) -> None:
        """Open `folder/tokenizer.json`.

        Args:
            folder: a checkpoint or bundle, as Hugging Face lays tokenizers out.
            max_length: tokens of a text, special tokens included; longer texts are cut, the longer half of a pair first.
            pair: whether texts are sentence pairs.
            offsets: whether to give `Tokens` (costs time).

        Raises:
            BundleError: the tokenizer cannot be read.
        """
        self._folder, self._pair, self._offsets, self._max_length = folder, pair, offsets, max_length
        self._wordpiece: LearningWordPiece | None = None
        try:
            self._json, config_json = (
                (folder / name).read_text(encoding="utf-8") for name in ("tokenizer.json", "tokenizer_config.json")
            )
            tokenizer, config = json.loads(self._json), json.loads(config_json)
            self._direction = config.get("truncation_side", "right")
            self._unk_token = _token_string(config.get("unk_token"))
        except (OSError, ValueError, AttributeError, RecursionError) as exc:
            raise self._unreadable(exc) from exc
        try:
            if offsets:
                raise OtherTokenizerError("it gives no offsets, which taggers need")
            if self._direction != "right":
                raise OtherTokenizerError(f"it does not truncate on the {self._direction}")
            self._wordpiece = open_wordpiece(tokenizer, lambda: self._tokenizer, max_length=max_length, pair=pair)
        except OtherTokenizerError as exc:
            self.description = f"tokenizers; not portabert-native's WordPiece: {exc}"
            _ = self._tokenizer  # what is wrong with it is said now
        else:
            self.description = "portabert-native's WordPiece"

    @cached_property
    def _tokenizer(self) -> Any:
        """Open `tokenizers`, which takes longer than WordPiece needs for a thousand texts."""
        import tokenizers

        try:
            tokenizer: Any = tokenizers.Tokenizer.from_str(self._json)
        except Exception as exc:  # tokenizers raises bare Exception
            raise self._unreadable(exc) from exc
        special = tokenizer.num_special_tokens_to_add(self._pair)
        check_length(self._max_length, special=special, pair=self._pair)
        tokenizer.no_padding()
        tokenizer.enable_truncation(self._max_length, strategy="longest_first", direction=self._direction)
        return tokenizer

    def _unreadable(self, exc: Exception) -> BundleError:
        return BundleError(f"{self._folder}: the tokenizer cannot be read: {exc}. Export the model again.")

    @cached_property
    def unk_token_id(self) -> int | None:
        """The id of the token for what the vocabulary has no other for."""
        number: int | None = self._tokenizer.token_to_id(self._unk_token)
        return number

    def encode(self, texts: Sequence[Text], *, position: int = 0) -> Encoded:
        """Tokenise texts.

        Args:
            texts: strings, or pairs as (text, text_pair) or {"text": …, "text_pair": …}.
            position: added to a text's index in messages, where `texts` is a chunk of something longer.

        Raises:
            InputError: not a text, a pair where the model takes none (or the reverse), half a surrogate pair, or a text without a single token.
        """
        inputs = [self._input(text, position + index) for index, text in enumerate(texts)]
        try:
            encoded = self.encode_by_tokenizers(inputs) if self._wordpiece is None else self._encode(inputs)
        except (TypeError, UnicodeEncodeError) as exc:
            halves = [index for index, text in enumerate(inputs) if not _is_unicode(text)]
            if not halves:
                raise
            raise InputError(
                f"text {position + halves[0]} holds half a surrogate pair, which no UTF-8 text can: {_shown(inputs[halves[0]])}."
            ) from exc
        starts = encoded.batch.cu_seqlens
        if (starts[1:] == starts[:-1]).any():
            empty = int(encoded.batch.lengths.argmin())
            raise InputError(f"text {position + empty} has no token: {_shown(inputs[empty])}.")
        return encoded

    def _encode(self, inputs: list[str | tuple[str, str]]) -> Encoded:
        """Encode by WordPiece, and by `tokenizers` what that leaves."""
        assert self._wordpiece is not None
        parts = cast(list[str], inputs)
        if self._pair:
            parts = list(chain.from_iterable(inputs))
        *packed, outcomes = self._wordpiece.encode(parts)
        encoded = Encoded(Batch(*packed), outcomes == TRUNCATED, None)
        if LEFT not in outcomes.tobytes():  # twenty times as fast as numpy for one text
            return encoded
        left = np.flatnonzero(outcomes == LEFT)
        rest = self.encode_by_tokenizers([inputs[index] for index in left])
        order = np.arange(len(inputs))
        order[left] = len(inputs) + np.arange(len(left))
        encoded.truncated[left] = rest.truncated
        return encoded._replace(batch=join([encoded.batch, rest.batch]).take(order))

    def encode_by_tokenizers(self, inputs: Sequence[str | tuple[str, str]]) -> Encoded:
        """Encode strings, or pairs of them, by `tokenizers` alone."""
        if len(inputs) == 1:  # no hop through the thread pool
            encodings = [_encode_one(self._tokenizer, inputs[0])]
        else:
            batch = self._tokenizer.encode_batch if self._offsets else self._tokenizer.encode_batch_fast
            encodings = list(batch(inputs))
        lengths = np.fromiter((len(e) for e in encodings), dtype=np.int32, count=len(encodings))
        total = int(lengths.sum())
        packed = Batch(
            np.fromiter(chain.from_iterable(e.ids for e in encodings), dtype=np.int64, count=total),
            np.fromiter(chain.from_iterable(e.type_ids for e in encodings), dtype=np.int64, count=total),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        )
        truncated = np.fromiter((bool(e.overflowing) for e in encodings), dtype=np.bool_, count=len(encodings))
        tokens = tuple(_tokens(e, text) for e, text in zip(encodings, inputs, strict=True)) if self._offsets else None
        return Encoded(packed, truncated, tokens)

    def token_strings(self, input_ids: Ints) -> list[str]:
        """Spell token ids as the vocabulary does ("##ing")."""
        return [self._tokenizer.id_to_token(int(i)) for i in input_ids]

    def join_tokens(self, tokens: Sequence[str]) -> str:
        """Join token strings to readable text, as transformers' `convert_tokens_to_string`."""
        decoder = self._tokenizer.decoder
        return str(decoder.decode(list(tokens))) if decoder is not None else " ".join(tokens)

    @property
    def marks_subwords(self) -> bool:
        """Whether the vocabulary marks word continuations ("##"), as transformers' pipeline asks."""
        return bool(getattr(self._tokenizer.model, "continuing_subword_prefix", None))

    def _input(self, text: Text, index: int) -> str | tuple[str, str]:
        if isinstance(text, Mapping):
            unknown = set(text) - {"text", "text_pair"}
            if unknown or "text" not in text:
                raise InputError(
                    f'text {index} must be {{"text": …}} or {{"text": …, "text_pair": …}}. Got keys {list(text)} instead.'
                )
            text = (text["text"], text["text_pair"]) if "text_pair" in text else text["text"]
        if self._pair:
            if isinstance(text, tuple) and len(text) == 2 and all(isinstance(part, str) for part in text):
                return text
            raise InputError(
                f"text {index} must be a pair (text, text_pair): this model compares two texts. Got {_shown(text)} instead."
            )
        if not isinstance(text, str):
            raise InputError(
                f"text {index} must be a string: this model takes single texts. Got {_shown(text)} instead."
            )
        return text


def _encode_one(tokenizer: Any, text: str | tuple[str, str]) -> Any:
    return tokenizer.encode(*text) if isinstance(text, tuple) else tokenizer.encode(text)


def _is_unicode(text: str | tuple[str, str]) -> bool:
    try:
        "".join(text).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _tokens(encoding: Any, text: str | tuple[str, str]) -> Tokens:
    word_ids = [-1 if word is None else word for word in encoding.word_ids]
    return Tokens(
        text[0] if isinstance(text, tuple) else text,
        np.array(encoding.ids, dtype=np.int64),
        np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2),
        np.where(np.array(encoding.special_tokens_mask, dtype=np.bool_), -1, np.array(word_ids, dtype=np.int64)),
    )


def _token_string(token: Any) -> str:
    """Read a special token as tokenizer_config.json spells it: a string, or an object with "content"."""
    return str(token.get("content", "") if isinstance(token, dict) else token or "")


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
