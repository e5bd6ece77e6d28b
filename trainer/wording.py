"""What people and the Hugging Face Hub call tasks and metrics."""

from typing import NamedTuple


class Wording(NamedTuple):
    """What people call a task.

    Attributes:
        title: the task.
        answer: what a model of it gives for a text.
        pipeline: transformers' name for its pipeline, and the Hub's for its tag.
        arguments: what to call that pipeline with.
    """

    title: str
    answer: str
    pipeline: str
    arguments: str


WORDING: dict[str, Wording] = {
    "single-label": Wording("Single-label classification", "the one label that fits", "text-classification", ""),
    "multi-label": Wording(
        "Multi-label classification", "every label that fits, with its score", "text-classification", ", top_k=None"
    ),
    "regression": Wording("Regression", "a number", "text-classification", ', function_to_apply="none"'),
    "token": Wording(
        "Token classification", "the spans it finds", "token-classification", ', aggregation_strategy="first"'
    ),
}


class Name(NamedTuple):
    """What people call a metric, and what the Hub does."""

    title: str
    hub: str


NAMES: dict[str, Name] = {
    "accuracy": Name("Accuracy", "accuracy"),
    "macro_f1": Name("Macro F1", "f1"),
    "micro_f1": Name("Micro F1", "f1"),
    "map": Name("Mean average precision", "mean_average_precision"),
    "spearman": Name("Spearman correlation", "spearmanr"),
    "pearson": Name("Pearson correlation", "pearsonr"),
    "rmse": Name("Root mean squared error", "rmse"),
    "span_f1": Name("Span F1", "f1"),
    "span_precision": Name("Span precision", "precision"),
    "span_recall": Name("Span recall", "recall"),
}
