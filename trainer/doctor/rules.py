"""The table of everything that the doctor looks at, and the loop over it."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict
from typing import NamedTuple

from .characters import (
    find_controls,
    find_csv_cells,
    find_leading_quotes,
    find_markup,
    find_mojibake,
    find_replacements,
    find_unseen,
)
from .duplicates import find_conflicts, find_duplicates, find_eval_in_test, find_leaks, find_swapped_pairs
from .finding import SEVERITIES, Finding, Found, Severity
from .giveaways import find_giveaways
from .labels import find_absent, find_imbalance, find_rare, find_variants
from .languages import find_languages
from .lengths import find_outliers, find_truncated
from .near import MOST_ROWS, find_near_leaks
from .scores import find_far_scores, find_one_score, find_other_units
from .splits import Dataset
from .suspects import find_suspects
from .tags import find_iob1, find_transitions
from .unusable import find_too_few_labels, find_unknown_labels, find_unusable
from .words import find_word_splits


class Rule(NamedTuple):
    """One thing that is looked at.

    Attributes:
        severity: error: rows that cannot be used; warning: what spoils a model or its figures; note: what is worth knowing.
        says: what a finding means, for the documents.
        way_out: what to do about it.
        find: the function.
        quick: whether training looks at it too: linear in the rows, and nothing large to load.
        most_rows: above so many rows it is left out, and that is said.
        asked: whether it is applied only where it is asked for by name.
    """

    severity: Severity
    says: str
    way_out: str
    find: Callable[[Dataset], Iterable[Found]]
    quick: bool = True
    most_rows: int | None = None
    asked: bool = False


class Examination(NamedTuple):
    """What was found, errors first, and which rules were left out and why."""

    findings: list[Finding]
    skipped: list[str]


RULES: dict[str, Rule] = {
    "unusable-row": Rule(
        "error",
        "a row that training refuses: NULL, empty, undecodable, cells missing, no such label form",
        "Correct them, or let --fix leave them out.",
        find_unusable,
    ),
    "unknown-label": Rule(
        "error",
        "a label that no training row has, or that --labels does not name",
        "Correct them, give train rows of these labels, name all with --labels, or let --fix leave these rows out.",
        find_unknown_labels,
    ),
    "too-few-labels": Rule(
        "error", "fewer labels than can be told apart", "Look at --label-column and --task.", find_too_few_labels
    ),
    "one-score": Rule(
        "error", "training scores that are all the same", "Look at --label-column and --task.", find_one_score
    ),
    "leak": Rule(
        "warning",
        "a row to measure on that is also a training row",
        "Let --fix take them out of train.",
        find_leaks,
    ),
    "near-leak": Rule(
        "warning",
        "a row to measure on that is nearly a training row",
        "Read some: if they say the same, take one of each out, or split by where the texts come from.",
        find_near_leaks,
        most_rows=MOST_ROWS,
    ),
    "eval-in-test": Rule(
        "warning", "a test row that is also an evaluation row", "Take them out of one of the two.", find_eval_in_test
    ),
    "conflict": Rule(
        "warning",
        "one text with several truths in a split",
        "Decide for one; --fix keeps what most of a text's rows say, and none where there is no majority.",
        find_conflicts,
    ),
    "duplicate": Rule(
        "warning", "a row again in its split, truth and all", "Let --fix keep the first of each.", find_duplicates
    ),
    "label-spelling": Rule(
        "warning",
        "a label in two spellings that differ in case or white space alone: the model takes them for two",
        "Let --fix write the most frequent one everywhere.",
        find_variants,
    ),
    "giveaway": Rule(
        "warning",
        "a token that came into the texts with the label; the model will learn it and nothing else",
        "See where it comes from. If texts to be predicted will not have it, take it out of these.",
        find_giveaways,
    ),
    "mojibake": Rule("warning", "text that was decoded by the wrong encoding", "Let --fix repair them.", find_mojibake),
    "lost-character": Rule(
        "warning", "U+FFFD in place of a character", "Export the texts again from their source.", find_replacements
    ),
    "control-character": Rule(
        "warning",
        "characters that no keyboard writes",
        "See which program wrote them. U+0085 to U+009F are often Windows-1252 read as latin-1.",
        find_controls,
    ),
    "quoted-cell": Rule(
        "warning", "cells quoted as in CSV in a file read without", "Set --quoting True.", find_csv_cells
    ),
    "tag-transition": Rule(
        "warning",
        "a tag that goes on with an entity that is not there; it is read as the beginning of one",
        "Nothing, where that is meant. Else begin entities with B-.",
        find_transitions,
        quick=False,
    ),
    "word-split": Rule(
        "warning",
        'tagged words that another split parts otherwise: "@name" there is "@" and "name" here, and so are their tags',
        "Part the words of all splits by one program, and see that the tags of such words mean the same.",
        find_word_splits,
    ),
    "far-score": Rule(
        "warning",
        "scores so far from the rest that little else would be learned, or measured",
        "Correct them. Where they are meant, as of prices, give all scores as logarithms.",
        find_far_scores,
    ),
    "other-unit": Rule(
        "warning",
        "a split with many scores outside of train's, such as percents beside shares",
        "See that all splits give their scores in one unit.",
        find_other_units,
    ),
    "swapped-pair": Rule(
        "note",
        "a pair that stands in train the other way round",
        "Nothing, where the order matters. Else count them as the same pair.",
        find_swapped_pairs,
    ),
    "iob1": Rule(
        "note",
        "a file of tags in which entities begin with I-",
        "Nothing: it is read as meant. Two neighbours of one type without a B- between them are one entity.",
        find_iob1,
        quick=False,
    ),
    "imbalance": Rule(
        "note",
        "labels of very different frequency",
        "Look at macro-F1, not at accuracy; --class-weights weighs rare labels more.",
        find_imbalance,
    ),
    "rare-label": Rule("note", "labels with hardly a row", "Gather more rows of them, or merge them.", find_rare),
    "absent-label": Rule(
        "note",
        "labels that a split has no row of: nothing is measured of them",
        "Split again, label by label.",
        find_absent,
    ),
    "outlier": Rule(
        "note",
        "texts far longer than the rest, such as rows that ran together",
        "Look at them; a quote or line end may be missing.",
        find_outliers,
    ),
    "language-mix": Rule(
        "note",
        "texts of several languages",
        "Choose a model that knows them all; take them out where they came in by mistake.",
        find_languages,
        quick=False,
    ),
    "markup": Rule(
        "note",
        "what is left of HTML",
        "Nothing, where texts to be predicted have it too. Else take it out of these.",
        find_markup,
    ),
    "unseen-character": Rule(
        "note",
        "blanks and marks that a reader does not see as such",
        "Nothing for most models. Tabs and line ends may be rows that ran together.",
        find_unseen,
    ),
    "leading-quote": Rule(
        "note",
        "texts that begin with a double quote in a file without quoting",
        "Nothing here. Programs that take the file for CSV lose rows: read it without quoting there too.",
        find_leading_quotes,
    ),
    "too-long": Rule(
        "note",
        "texts longer than a model takes: it never sees their ends",
        "Raise --max-length, or choose a model that takes more.",
        find_truncated,
        quick=False,  # training counts them itself, by its own tokenizer
    ),
    "suspect-label": Rule(
        "note",
        "a label that the other rows speak against",
        "Read them, the first ones first, and correct those that are wrong.",
        find_suspects,
        quick=False,
        asked=True,
    ),
}


def examine(data: Dataset, *, quick: bool, asked: Collection[str] = ()) -> Examination:
    """Apply the rules.

    Args:
        data: the splits.
        quick: whether to leave out those that take long.
        asked: the names of rules that are applied only where asked for.
    """
    num_rows = sum(split.num_rows for split in data.splits)
    findings, skipped = list[Finding](), list[str]()
    for name, rule in RULES.items():
        if (quick and not rule.quick) or (rule.asked and name not in asked):
            continue
        if rule.most_rows is not None and num_rows > rule.most_rows:
            skipped.append(f"{name}: left out, for {num_rows:,} rows are more than the {rule.most_rows:,} it looks at")
            continue
        findings += [
            Finding(rule=name, severity=rule.severity, way_out=rule.way_out, **asdict(found))
            for found in rule.find(data)
        ]
    return Examination(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)), skipped)
