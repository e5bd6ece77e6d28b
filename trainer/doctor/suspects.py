"""Labels that a model trained on the other rows does not believe (confident learning, Northcutt et al. 2021, by cleanlab).

The model is a logistic regression on words and pairs of words (TF-IDF), cross-validated: it takes seconds, and never sees the row it judges.
What it knows is words, so irony and negation look like errors to it. Its findings are to be read, not obeyed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.records import Record

from .finding import Found, counted, listed, percent
from .splits import Dataset, labels_of

FOLDS = 5
# Where the judge contradicts three labels of ten, most of what it doubts is sound.
TRUSTED = 0.7
MOST_LINES = 20  # the most doubtful, first


def find_suspects(data: Dataset) -> Iterator[Found]:
    """Tell rows of train whose label the other rows speak against, the most doubtful first."""
    counts = Counter(label for record in data.train.records for label in labels_of(record))
    # Each fold must have a row to learn a label from and one to judge.
    names = sorted(label for label in counts if counts[label] >= FOLDS)
    records = [r for r in data.train.records if labels_of(r) and set(labels_of(r)) <= set(names)]
    if len(names) < 2 or len(records) < 2 * FOLDS:
        return
    order, agreement = JUDGES[data.target](records, names)
    judge = f"a cross-validated logistic regression on TF-IDF of words, which agrees with {agreement * 100:.0f} % of all labels"
    skipped = sorted(set(counts) - set(names))
    left_out = f" Left out, with fewer than {FOLDS} rows: {listed(skipped)}." if skipped else ""
    if agreement < TRUSTED:
        message = f"asked {judge}: too few to trust its doubts, so no row is named.{left_out}"
        yield Found("train", 0, len(records), (), message)
    elif len(order):
        lines = tuple(records[index].line for index in order[:MOST_LINES])
        message = f"{counted(len(order), 'label')} of {len(records):,} rows ({percent(len(order), len(records))}) doubted by {judge}; the most doubtful first.{left_out}"
        yield Found("train", len(order), len(records), lines, message)


def _judge_single(records: Sequence[Record], names: Sequence[str]) -> tuple[npt.NDArray[np.intp], float]:
    from cleanlab.filter import find_label_issues
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    index = {name: number for number, name in enumerate(names)}
    labels = np.array([index[label] for record in records for label in labels_of(record)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    sure = cross_val_predict(_classifier(), _features(records), labels, cv=folds, method="predict_proba")
    order = find_label_issues(labels, sure, return_indices_ranked_by="self_confidence", n_jobs=1)
    return np.asarray(order, dtype=np.intp), float((sure.argmax(axis=1) == labels).mean())


def _judge_several(records: Sequence[Record], names: Sequence[str]) -> tuple[npt.NDArray[np.intp], float]:
    from cleanlab.multilabel_classification.filter import find_label_issues
    from sklearn.model_selection import KFold, cross_val_predict

    index = {name: number for number, name in enumerate(names)}
    labels = [[index[label] for label in labels_of(record)] for record in records]
    truth = np.zeros((len(records), len(names)), dtype=np.int64)
    for row, present in enumerate(labels):
        truth[row, present] = 1
    features, folds = _features(records), KFold(FOLDS, shuffle=True, random_state=0)
    columns = [
        cross_val_predict(_classifier(), features, column, cv=folds, method="predict_proba")[:, 1] for column in truth.T
    ]
    sure = np.stack(columns, axis=1)
    order = find_label_issues(labels, sure, return_indices_ranked_by="self_confidence", n_jobs=1)
    return np.asarray(order, dtype=np.intp), float(((sure >= 0.5) == truth).mean())


def _classifier() -> Any:
    from sklearn.linear_model import LogisticRegression

    # Rows of TF-IDF have length 1, and few features each where texts are short: the default C of 1 holds their weights near 0.
    return LogisticRegression(C=10.0, max_iter=200)


def _features(records: Sequence[Record]) -> Any:
    """Weigh words and pairs of words; two texts side by side as what they share and what each has alone."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")
    first = words.fit_transform([f"{record.text} {record.text_pair or ''}" for record in records])
    if records[0].text_pair is None:
        return first
    left, right = (words.transform(texts) for texts in zip(*((r.text, r.text_pair) for r in records), strict=True))
    return hstack([left.multiply(right), abs(left - right)]).tocsr()


JUDGES: dict[str, Callable[[Sequence[Record], Sequence[str]], tuple[npt.NDArray[np.intp], float]]] = {
    "label": _judge_single,
    "labels": _judge_several,
}
