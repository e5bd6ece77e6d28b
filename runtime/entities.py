"""Token logits to spans of text: portabert's own reading, and the five readings of transformers' token-classification pipeline."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .conll import entities
from .encode import Encoder, Tokens

Floats = npt.NDArray[np.float32]


class Entity(NamedTuple):
    """A stretch of text that means something.

    Attributes:
        text: `original[start:end]`.
        label: its type, without the B- or I- of the tags.
        start: first character.
        end: the character after the last.
        score: mean probability of its words' tags.
    """

    text: str
    label: str
    start: int
    end: int
    score: float


def find_entities(probabilities: Floats, tokens: Tokens, labels: tuple[str, ...]) -> tuple[Entity, ...]:
    """Read entities from tag probabilities.

    A word takes the tag of its first token (as trained), so that no entity begins or ends inside a word; tags are joined as conlleval does, so that an
    I- without a B- still starts an entity.

    Args:
        probabilities: (t, C).
        tokens: the text's tokens.
        labels: C BIO tags.
    """
    words = first_tokens(tokens)
    best = probabilities[words].argmax(axis=-1)
    found = []
    for first, end, label in entities([labels[index] for index in best]):
        start = int(tokens.offsets[words[first], 0])
        stop = int(tokens.offsets[_last_token(tokens, words[end - 1]), 1])
        score = float(np.mean([probabilities[words[word], best[word]] for word in range(first, end)]))
        found.append(Entity(tokens.text[start:stop], label, start, stop, score))
    return tuple(found)


def first_tokens(tokens: Tokens) -> npt.NDArray[np.intp]:
    """Find the first token of each word that has characters: special tokens and a lone "▁" or "Ġ" have none."""
    visible = np.flatnonzero((tokens.word_ids >= 0) & (tokens.offsets[:, 1] > tokens.offsets[:, 0]))
    words = tokens.word_ids[visible]
    return np.asarray(visible[np.append(True, words[1:] != words[:-1])[: len(words)]], dtype=np.intp)


def _last_token(tokens: Tokens, first: int) -> int:
    return int(np.flatnonzero(tokens.word_ids == tokens.word_ids[first])[-1])


class _Piece(NamedTuple):
    """A token or word on its way through the pipeline's grouping."""

    entity: str
    score: Any
    position: int
    word: str
    start: int
    end: int
    scores: Floats
    is_subword: bool


def pipeline_entities(
    logits: Floats, tokens: Tokens, encoder: Encoder, labels: tuple[str, ...], *, strategy: str
) -> list[dict[str, Any]]:
    """Give what transformers' TokenClassificationPipeline (4.57) gives, tags "O" left out as it does.

    Args:
        logits: (t, C).
        tokens: the text's tokens.
        encoder: for the spelling of tokens.
        labels: C tags.
        strategy: a key of STRATEGIES.
    """
    pieces = _pieces(logits, tokens, encoder, labels)
    choose = STRATEGIES[strategy]
    if choose is not None:
        pieces = [_word(group, choose, encoder, labels) for group in _words(pieces)]
    if strategy == "none":
        return [_item(piece) for piece in pieces if piece.entity != "O"]
    groups = [_group(group, encoder) for group in _runs(pieces)]
    return [group for group in groups if group["entity_group"] != "O"]


def _pieces(logits: Floats, tokens: Tokens, encoder: Encoder, labels: tuple[str, ...]) -> list[_Piece]:
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores = exp / exp.sum(axis=-1, keepdims=True)
    pieces = []
    for index, word in enumerate(encoder.token_strings(tokens.input_ids)):
        if tokens.word_ids[index] < 0:
            continue
        start, end = (int(position) for position in tokens.offsets[index])
        surface = tokens.text[start:end]
        if encoder.marks_subwords:
            is_subword = len(word) != len(surface)
        else:  # the pipeline's own fallback for vocabularies that do not mark continuations
            is_subword = start > 0 and " " not in tokens.text[start - 1 : start + 1]
        if tokens.input_ids[index] == encoder.unk_token_id:
            word, is_subword = surface, False
        best = int(scores[index].argmax())
        pieces.append(_Piece(labels[best], scores[index, best], index, word, start, end, scores[index], is_subword))
    return pieces


def _item(piece: _Piece) -> dict[str, Any]:
    return {
        "entity": piece.entity,
        "score": float(piece.score),
        "index": piece.position,
        "word": piece.word,
        "start": piece.start,
        "end": piece.end,
    }


def _words(pieces: Iterable[_Piece]) -> list[list[_Piece]]:
    words: list[list[_Piece]] = []
    for piece in pieces:
        if words and piece.is_subword:
            words[-1].append(piece)
        else:
            words.append([piece])
    return words


def _word(
    group: Sequence[_Piece], choose: Callable[[Sequence[_Piece]], Floats], encoder: Encoder, labels: tuple[str, ...]
) -> _Piece:
    scores = choose(group)
    best = int(scores.argmax())
    word = encoder.join_tokens([piece.word for piece in group])
    return _Piece(
        labels[best], scores[best], group[0].position, word, group[0].start, group[-1].end, scores, is_subword=False
    )


def _runs(pieces: Iterable[_Piece]) -> list[list[_Piece]]:
    """Join neighbours of one type; a B- tag starts anew."""
    runs: list[list[_Piece]] = []
    for piece in pieces:
        if runs and _type(piece.entity) == _type(runs[-1][-1].entity) and not piece.entity.startswith("B-"):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return runs


def _group(group: Sequence[_Piece], encoder: Encoder) -> dict[str, Any]:
    return {
        "entity_group": group[0].entity.split("-", 1)[-1],
        "score": float(np.mean([piece.score for piece in group])),
        "word": encoder.join_tokens([piece.word for piece in group]),
        "start": group[0].start,
        "end": group[-1].end,
    }


def _type(tag: str) -> str:
    return tag[2:] if tag.startswith(("B-", "I-")) else tag


def _first(group: Sequence[_Piece]) -> Floats:
    return group[0].scores


def _average(group: Sequence[_Piece]) -> Floats:
    return np.asarray(np.mean([piece.scores for piece in group], axis=0))


def _max(group: Sequence[_Piece]) -> Floats:
    return max(group, key=lambda piece: piece.scores.max()).scores


# How a word's tokens agree on one tag; None where tokens stay as they are.
STRATEGIES: dict[str, Callable[[Sequence[_Piece]], Floats] | None] = {
    "none": None,
    "simple": None,
    "first": _first,
    "average": _average,
    "max": _max,
}
