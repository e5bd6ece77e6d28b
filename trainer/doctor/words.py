"""Words as the file parts them, of tagged rows; a program that parts them otherwise means other things by its tags."""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from .finding import Found, listed
from .splits import Dataset, Split

# A character's words have to be so many in both splits, and so many of them have to be parted otherwise: "." and "-" stand alone and in words in any file.
FEWEST = 20
NEARLY_ALL = 0.9


class Uses(NamedTuple):
    """Where a character is met.

    Attributes:
        alone: lines, one for each word that is this character.
        joined: lines, one for each word that has it beside a letter or digit.
    """

    alone: list[int]
    joined: list[int]

    @property
    def number(self) -> int:
        """How many words these are."""
        return len(self.alone) + len(self.joined)

    @property
    def share_alone(self) -> float:
        """Which part of them is the character alone."""
        return len(self.alone) / self.number


def find_word_splits(data: Dataset) -> Iterator[Found]:
    """Tell splits whose words are parted at characters that stand inside words of train, or the other way round."""
    ours = _uses(data.train)
    for split in data.others:
        odd = [
            (character, here, ours[character])
            for character, here in _uses(split).items()
            if character in ours and _differ(here, ours[character])
        ]
        if odd:
            odd.sort(key=lambda pair: min(pair[1].number, pair[2].number), reverse=True)
            (first, here, there), *more = odd
            lines = {line for _, uses, _ in odd for line in (uses.alone if uses.share_alone > 0.5 else uses.joined)}
            others = f"; likewise {listed([character for character, _, _ in more])}" if more else ""
            yield split.tell(
                lines,
                "have",
                f"words parted otherwise than train's: {first!r} stands alone in {len(here.alone):,} of {here.number:,} words with it, "
                f"in train in {len(there.alone):,} of {there.number:,}{others}",
            )


def _uses(split: Split) -> dict[str, Uses]:
    """Find the characters that are no letters or digits in words of the file's own."""
    found: dict[str, Uses] = defaultdict(lambda: Uses([], []))
    for record in split.records:
        for start, end in record.words or ():
            word = record.text[start:end]
            if word.isalnum():
                continue
            if len(word) == 1:
                found[word].alone.append(record.line)
            elif any(map(str.isalnum, word)):
                for mark in {character for character in word if not character.isalnum()}:
                    found[mark].joined.append(record.line)
    return found


def _differ(left: Uses, right: Uses) -> bool:
    return min(left.number, right.number) >= FEWEST and abs(left.share_alone - right.share_alone) >= NEARLY_ALL
