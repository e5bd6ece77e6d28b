"""Which languages texts are written in, where they are long enough to tell."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from .finding import Found, first_lines, percent, share
from .splits import Dataset, Split, texts_of

LONG_ENOUGH = 60  # letters; ten words. Of shorter texts a third is not told at all
SURE = 0.9  # the identifier's probability; of 15,000 texts in seven languages that it was as sure of, one in three thousand was wrong
# A second language in one text of a hundred, and in five at the least: three times what mistakes brought at worst, in German tweets.
SHARE, FEWEST = 0.01, 5


def find_languages(data: Dataset) -> Iterator[Found]:
    """Tell splits in more than one language."""
    for split in data.splits:
        lines = _lines_by_language(split)
        told = sum(map(len, lines.values()))
        counts = Counter({language: len(found) for language, found in lines.items()}).most_common()
        mixed = [(language, number) for language, number in counts if number >= max(FEWEST, SHARE * told)]
        if len(mixed) > 1:
            shares = ", ".join(f"{language} {percent(number, told)}" for language, number in mixed)
            message = f"{share(told, split.num_rows, 'are')} long enough to tell their language: {shares}."
            fewer = [line for language, _ in mixed[1:] for line in lines[language]]
            yield Found(split.name, len(fewer), told, first_lines(fewer), message)


def _lines_by_language(split: Split) -> dict[str, list[int]]:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    lines: dict[str, list[int]] = defaultdict(list)
    for record in split.records:
        text = " ".join(texts_of(record))
        if len(text) >= LONG_ENOUGH and sum(map(str.isalpha, text)) >= LONG_ENOUGH:
            language, probability = identifier.classify(text)
            if probability >= SURE:
                lines[language].append(record.line)
    return lines
