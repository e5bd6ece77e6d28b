"""What each task trains on and is judged by, against PyTorch, scikit-learn and seqeval."""

import copy
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils.class_weight import compute_class_weight

from runtime.encode import Encoded, Encoder
from runtime.entities import find_entities, first_tokens
from runtime.errors import InputError
from runtime.records import Record, Span, bio_tags, to_records, word_spans
from runtime.tasks import TASKS, sigmoid, softmax
from trainer import demo, metrics
from trainer.losses import IGNORED, LossOptions, Target
from trainer.network import Network
from trainer.objectives import OBJECTIVES
from trainer.packed import Packed
from trainer.padded import Padded
from trainer.step import _parts

VIEWS = {"single-label": "intent", "multi-label": "topics", "regression": "urgency", "token": "entities"}
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def test_every_task_of_the_runtime_can_be_trained() -> None:
    assert OBJECTIVES.keys() == TASKS.keys()
    assert all(objective.best_metric in objective.metrics for objective in OBJECTIVES.values())


def demo_records(task: str, *, count: int) -> list[Record]:
    rows = demo.rows(VIEWS[task], split="train")
    return list(to_records(rows, path="demo", target=TASKS[task].target, problems=[]))[:count]


@pytest.fixture(scope="module")
def encode(make_encoder_folder: Callable[[str], Path]) -> Callable[..., Encoded]:
    """Give a function: (family, texts, max_length) → encoded texts with offsets."""

    def run(family: str, texts: Sequence[str], max_length: int = 64) -> Encoded:
        return Encoder(make_encoder_folder(family), max_length=max_length, pair=False, offsets=True).encode(texts)

    return run


# losses

LOGITS = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 1, 2, 3, 1, 1, 0])
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 3.0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_single_label_loss_is_torchs_cross_entropy(weights: torch.Tensor | None, smoothing: float) -> None:
    expected = F.cross_entropy(LOGITS, CLASSES, weight=weights, label_smoothing=smoothing)  # divides by the weights
    divisor = len(CLASSES) if weights is None else weights[CLASSES].sum()
    loss = OBJECTIVES["single-label"].loss(LOGITS, CLASSES, LossOptions(weights, smoothing))
    torch.testing.assert_close(loss, expected * divisor)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_multi_label_loss_is_torchs_binary_cross_entropy(weights: torch.Tensor | None) -> None:
    truth = F.one_hot(CLASSES, 4).float()
    expected = F.binary_cross_entropy_with_logits(LOGITS, truth, pos_weight=weights)
    objective = OBJECTIVES["multi-label"]
    count = objective.count([row.numpy() for row in truth])
    assert count == 28
    torch.testing.assert_close(objective.loss(LOGITS, truth, LossOptions(weights)), expected * count)


def test_the_regression_loss_is_torchs_mean_square() -> None:
    scores = torch.linspace(-1, 1, 7)
    objective = OBJECTIVES["regression"]
    expected = F.mse_loss(LOGITS[:, 0], scores)
    torch.testing.assert_close(objective.loss(LOGITS[:, :1], scores, LossOptions()), expected * 7)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_token_loss_is_torchs_cross_entropy_over_the_tokens_with_a_target(
    weights: torch.Tensor | None, smoothing: float
) -> None:
    logits = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([[IGNORED, 0, 1, IGNORED, IGNORED], [IGNORED, 2, 3, 3, IGNORED]])
    kept = targets != IGNORED
    expected = F.cross_entropy(logits[kept], targets[kept], weight=weights, label_smoothing=smoothing)
    objective = OBJECTIVES["token"]
    assert objective.count([row.numpy() for row in targets]) == 5
    divisor = 5 if weights is None else weights[targets[kept]].sum()
    torch.testing.assert_close(objective.loss(logits, targets, LossOptions(weights, smoothing)), expected * divisor)


# accumulation


def tiny_model(task: str, num_labels: int, vocab_size: int) -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        num_labels=num_labels,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return getattr(transformers, OBJECTIVES[task].auto_model).from_config(config).train()


def padded(model: Any, task: str) -> Network:
    return Padded(model, inputs=INPUTS, pad_token_id=0)


def packed(model: Any, task: str) -> Network:
    return Packed(model, per_token=TASKS[task].per_token, inputs=INPUTS)


@pytest.mark.parametrize("network", [padded, packed])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("task", OBJECTIVES)
def test_neither_packing_nor_accumulation_nor_processes_change_the_gradient(
    task: str, smoothing: float, network: Callable[[Any, str], Network], encode: Callable[..., Encoded]
) -> None:
    """A padded batch in one go is the reference; 9 rows divide by neither 2, 4 nor 2 × 4."""
    objective, records = OBJECTIVES[task], demo_records(task, count=9)
    labels = objective.find_labels(demo_records(task, count=200), None)
    encoded = encode("bert", [record.text for record in records])
    targets = objective.targets(records, encoded, labels)
    weights = torch.linspace(0.5, 2.0, len(labels))
    model = tiny_model(task, len(labels), 600)

    def gradients(
        processes: int, accumulation: int, network: Callable[[Any, str], Network] = network
    ) -> list[torch.Tensor]:
        twin = copy.deepcopy(model)
        trained = network(twin, task)
        count = objective.count(targets)
        for rank in range(processes):
            place: Any = SimpleNamespace(accelerator=SimpleNamespace(process_index=rank, num_processes=processes))
            for part, weight in _parts(np.arange(len(records)), place, accumulation):
                batch = encoded.batch.take(part)
                stacked = trained.stack([targets[index] for index in part], batch.lengths)
                loss = objective.loss(trained(trained.feed(batch)), stacked, LossOptions(weights, smoothing))
                (loss / count * weight).backward()
        return [parameter.grad for parameter in twin.parameters()]

    reference = gradients(1, 1, padded)
    assert max(float(gradient.abs().max()) for gradient in reference) > 1e-3
    for processes, accumulation in ((1, 1), (1, 2), (1, 4), (2, 1), (2, 4), (4, 3)):
        for gradient, expected in zip(gradients(processes, accumulation), reference, strict=True):
            torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-5)


# token targets


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2"])
def test_the_first_token_of_each_word_has_a_target_and_no_other(family: str, encode: Callable[..., Encoded]) -> None:
    records = demo_records("token", count=40)
    labels = OBJECTIVES["token"].find_labels(records, None)
    encoded = encode(family, [record.text for record in records])
    assert encoded.tokens is not None
    for tokens, target in zip(encoded.tokens, OBJECTIVES["token"].targets(records, encoded, labels), strict=True):
        assert len(target) == len(tokens.input_ids)
        assert np.flatnonzero(target != IGNORED).tolist() == first_tokens(tokens).tolist()


def targets_of(encode: Callable[..., Encoded], family: str, record: Record) -> list[tuple[str, str]]:
    """Pair the text of each token that has a target with its tag."""
    labels = OBJECTIVES["token"].find_labels([record], None)
    encoded = encode(family, [record.text])
    assert encoded.tokens is not None
    (target,) = OBJECTIVES["token"].targets([record], encoded, labels)
    offsets = encoded.tokens[0].offsets
    return [
        (record.text[slice(*offsets[index])].strip(), labels[target[index]])
        for index in np.flatnonzero(target != IGNORED)
    ]


def test_characters_become_b_and_i_tags(encode: Callable[..., Encoded]) -> None:
    text = "My Kestrel 2 shows E-417, in Porto."
    spans = (Span(start=3, end=12, label="product"), Span(start=19, end=24, label="code"), Span(start=29, end=34, label="place"))  # fmt: skip
    tags = [tag for _, tag in targets_of(encode, "bert", Record(text=text, spans=spans))]
    assert tags == ["O", "B-product", "I-product", "O", "B-code", "I-code", "I-code", "O", "O", "B-place", "O"]


def test_neighbours_of_one_type_stay_two(encode: Callable[..., Encoded]) -> None:
    spans = (Span(start=0, end=5, label="place"), Span(start=6, end=10, label="place"))
    assert [tag for _, tag in targets_of(encode, "bert", Record(text="Porto Faro", spans=spans))] == ["B-place"] * 2


def test_an_entity_behind_a_bracket_of_its_word_is_learnt(encode: Callable[..., Encoded]) -> None:
    """SentencePiece has "(Porto)" as one word, whose first token may be the bracket alone."""
    record = Record(text="in (Porto) now", spans=(Span(start=4, end=9, label="place"),))
    assert [tag for _, tag in targets_of(encode, "deberta-v2", record)] == ["O", "B-place", "O"]


# word tags and span F1


def test_a_word_of_ours_that_is_many_to_the_tokeniser_counts_once_by_each_of_its_places_in_turn(
    encode: Callable[..., Encoded],
) -> None:
    """Tweets are full of links, which are no entities."""
    words = ["see", "a/b/c", "in", "x", "a/b/c", "a/b/c", "by", "e-4"]
    starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])]).tolist()
    text, places = " ".join(words), tuple((start, start + len(word)) for start, word in zip(starts, words, strict=True))
    spans = tuple(Span(start=places[index][0], end=places[index][1], label="x") for index in (3, 7))
    assert targets_of(encode, "bert", Record(text=text, words=places, spans=spans)) == [
        ("see", "O"),
        ("/", "O"),  # the second word of the row: its second place of five
        ("in", "O"),
        ("x", "B-x"),
        ("c", "O"),  # the fifth word, its last place
        ("a", "O"),  # the sixth, its first
        ("by", "O"),
        ("e", "B-x"),  # an entity is learned whole
        ("-", "I-x"),
        ("4", "I-x"),
    ]


def perfect_logits(encoded: Encoded, targets: list[Target], num_labels: int) -> list[Any]:
    """Give logits that find every target, O where another word begins, and nonsense elsewhere."""
    generator = np.random.default_rng(0)
    assert encoded.tokens is not None
    found = []
    for target, tokens in zip(targets, encoded.tokens, strict=True):
        logits = generator.normal(size=(len(target), num_labels)).astype(np.float32)
        logits[first_tokens(tokens), 0] = 9
        kept = target != IGNORED
        logits[kept] = 9 * np.eye(num_labels, dtype=np.float32)[target[kept]]
        found.append(logits)
    return found


def measure_perfect(encode: Callable[..., Encoded], family: str, records: list[Record], max_length: int = 512) -> Any:
    objective = OBJECTIVES["token"]
    labels = objective.find_labels(records, None)
    encoded = encode(family, [record.text for record in records], max_length)
    logits = perfect_logits(encoded, objective.targets(records, encoded, labels), len(labels))
    return objective.measure(logits, records, encoded.tokens, labels).values


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_perfect_tagger_has_span_f1_1(family: str, encode: Callable[..., Encoded]) -> None:
    values = measure_perfect(encode, family, demo_records("token", count=300))
    assert values == {"span_f1": 1.0, "span_precision": 1.0, "span_recall": 1.0}


def test_an_entity_of_one_word_to_the_tokeniser_and_three_to_us_is_found(encode: Callable[..., Encoded]) -> None:
    record = Record(text="it shows E-417 since Friday", spans=(Span(start=9, end=14, label="code"),))
    assert measure_perfect(encode, "deberta-v2", [record])["span_f1"] == 1.0


def test_a_tagger_learns_most_entities_over_sentencepiece(encode: Callable[..., Encoded]) -> None:
    """Not all: in "to Porto, then" the comma belongs to the tokeniser's word."""
    assert measure_perfect(encode, "deberta-v2", demo_records("token", count=300))["span_f1"] > 0.6


def test_words_given_by_the_file_are_what_is_counted(encode: Callable[..., Encoded]) -> None:
    record = Record(text="to St. Ives-on-Sea .", words=((0, 2), (3, 6), (7, 18), (19, 20)), spans=(Span(start=3, end=18, label="place"),))  # fmt: skip
    assert measure_perfect(encode, "bert", [record])["span_f1"] == 1.0
    labels = OBJECTIVES["token"].find_labels([record], None)
    encoded = encode("bert", [record.text])
    logits = perfect_logits(encoded, OBJECTIVES["token"].targets([record], encoded, labels), len(labels))
    tags = OBJECTIVES["token"].decide(logits, [record], encoded.tokens, labels)
    assert tags.tolist() == ["O", "B-place", "I-place", "O"]


def test_words_cut_off_by_truncation_count_as_missed(encode: Callable[..., Encoded]) -> None:
    places = ["Porto", "Faro", "Braga", "Sines"]
    text = " and then on to ".join(places)
    spans = tuple(Span(start=text.index(place), end=text.index(place) + len(place), label="place") for place in places)
    record = Record(text=text, spans=spans)
    whole = encode("bert", [text], 512)
    assert whole.tokens is not None
    assert measure_perfect(encode, "bert", [record])["span_recall"] == 1.0
    second = int(np.flatnonzero(whole.tokens[0].offsets[:, 0] == spans[2].start)[0])  # where the third place begins
    values = measure_perfect(encode, "bert", [record], second + 1)  # [SEP] takes that place
    assert values == {"span_f1": pytest.approx(2 / 3), "span_precision": 1.0, "span_recall": 0.5}


def test_the_measured_entities_are_those_that_prediction_gives(encode: Callable[..., Encoded]) -> None:
    """Where BERT's words are ours (it parts NET_3, we do not), what is counted is what the runtime reads from the same logits."""
    records = [record for record in demo_records("token", count=60) if "_" not in record.text]
    labels = OBJECTIVES["token"].find_labels(records, None)
    encoded = encode("bert", [record.text for record in records], 512)
    assert encoded.tokens is not None
    generator = np.random.default_rng(0)
    logits = [generator.normal(size=(len(t.input_ids), len(labels))).astype(np.float32) for t in encoded.tokens]
    tags = OBJECTIVES["token"].decide(logits, records, encoded.tokens, labels)
    expected = [
        tag
        for record, tokens, row in zip(records, encoded.tokens, logits, strict=True)
        for tag in bio_tags(
            word_spans(record.text),
            [Span(start=e.start, end=e.end, label=e.label) for e in find_entities(softmax(row), tokens, labels)],
        )
    ]
    assert tags.tolist() == expected


TAGS = st.sampled_from(["O", "O", "B-a", "I-a", "B-b", "I-b"])
SENTENCES = st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=8), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(SENTENCES)
def test_span_f1_is_seqevals(sentences: list[list[tuple[str, str]]]) -> None:
    from seqeval.metrics import f1_score, precision_score, recall_score

    truth = [[wanted for wanted, _ in sentence] for sentence in sentences]
    predicted = [[found for _, found in sentence] for sentence in sentences]
    values = metrics.spans(truth, predicted).values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # where there is no entity at all
        expected = {
            "span_f1": f1_score(truth, predicted),
            "span_precision": precision_score(truth, predicted),
            "span_recall": recall_score(truth, predicted),
        }
    assert values == pytest.approx(expected)


# decisions and weights


@pytest.mark.parametrize("task", OBJECTIVES)
def test_decisions_are_flat_and_as_many_as_there_are_things_to_decide(
    task: str, encode: Callable[..., Encoded]
) -> None:
    objective, records = OBJECTIVES[task], demo_records(task, count=30)
    labels = objective.find_labels(demo_records(task, count=200), None)
    encoded = encode("bert", [record.text for record in records], 24)  # texts are cut, and still
    lengths = encoded.batch.lengths
    rows = [np.ones((length, len(labels)) if TASKS[task].per_token else len(labels), np.float32) for length in lengths]
    decisions = objective.decide(rows, records, encoded.tokens, labels)
    expected = {
        "single-label": 30,
        "multi-label": 30 * len(labels),
        "regression": 30,
        "token": sum(len(word_spans(record.text)) for record in records),
    }
    assert decisions.shape == (expected[task],)


def test_weights_of_labels_are_scikit_learns_balanced_ones() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1, 2])
    weights = OBJECTIVES["single-label"].weigh([np.array(label) for label in truth], 3, "inverse")
    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(3), y=truth), rtol=1e-6)
    assert weights[truth].mean() == pytest.approx(1.0)


def test_a_label_without_a_row_leaves_the_others_weights_alone() -> None:
    truth = np.array([0, 0, 0, 2])
    weights = OBJECTIVES["single-label"].weigh([np.array(label) for label in truth], 4, "inverse")
    balanced = compute_class_weight("balanced", classes=np.array([0, 2]), y=truth)
    np.testing.assert_allclose(weights, [balanced[0], 1, balanced[1], 1], rtol=1e-6)


def test_weights_of_tags_leave_out_tokens_without_a_target() -> None:
    rows = [np.array([IGNORED, 0, 0, IGNORED]), np.array([IGNORED, 1, 0, IGNORED])]
    np.testing.assert_allclose(OBJECTIVES["token"].weigh(rows, 2, "inverse"), [4 / 6, 2], rtol=1e-6)


def test_weights_of_several_labels_are_the_ratio_of_the_balanced_ones() -> None:
    truth = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 1], [0, 1, 1]], dtype=np.float32)
    weights = OBJECTIVES["multi-label"].weigh(list(truth), 3, "inverse")
    for column in (0, 1):
        absent, present = compute_class_weight("balanced", classes=np.arange(2), y=truth[:, column])
        assert weights[column] == pytest.approx(present / absent)
    assert weights[2] == pytest.approx(1 / 4), "always there: as if one row lacked it"


def test_a_label_that_is_never_there_has_a_finite_weight() -> None:
    weights = OBJECTIVES["multi-label"].weigh([np.array([0, 1], dtype=np.float32)] * 4, 2, "inverse")
    assert np.isfinite(weights).all()


def test_a_new_head_starts_at_the_log_odds_of_each_label() -> None:
    truth = np.array([[1, 0], [0, 0], [1, 0], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0]], dtype=np.float32)
    prior = OBJECTIVES["multi-label"].prior
    assert prior is not None
    np.testing.assert_allclose(sigmoid(prior(list(truth))), [2 / 8, 1 / 8], rtol=1e-5)


def test_regression_has_a_logit_and_no_labels() -> None:
    objective = OBJECTIVES["regression"]
    record = Record(text="a", score=0.5)
    records = [record, Record(text="b", score=0.75)]
    assert objective.find_labels(records, None) == ("score",)
    assert objective.find_labels(records, ("stars",)) == ("stars",)
    with pytest.raises(
        InputError, match=r"at least 2 different scores to learn\. Got \[0\.5\] instead; look at --label-column"
    ):
        objective.find_labels([record, record], None)
    assert list(objective.labels_of(record)) == []
    np.testing.assert_array_equal(objective.weigh([], 1, "inverse"), [1.0])
