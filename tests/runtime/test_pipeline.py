"""`to_pipeline` gives what transformers' own pipeline gives on the same checkpoint (transformers 4.57, PyTorch)."""

import json
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.pipelines.text_classification import ClassificationFunction
from transformers.pipelines.token_classification import AggregationStrategy

import runtime
from runtime.encode import Encoder, Text
from runtime.entities import STRATEGIES, find_entities, pipeline_entities
from runtime.errors import InputError
from runtime.tasks import Head
from runtime.testing import tiny_bundle

from .classifiers import engine_for

pytestmark = [
    pytest.mark.filterwarnings("ignore:Tokenizer does not support real words:UserWarning"),  # the pipeline's own
    pytest.mark.filterwarnings("ignore:texts longer than:UserWarning"),  # while tiny models are exported
]

CLASSIFIERS = [
    *(("bert", shape) for shape in ("single-label", "multi-label", "regression", "pair")),
    *(
        (family, shape)
        for family in ("roberta", "xlm-roberta", "deberta-v2", "gpt2")
        for shape in ("single-label", "pair")
    ),
]
TAGGERS = ("bert", "roberta", "xlm-roberta")
FUNCTIONS = (None, "softmax", "sigmoid", "none")
LIMIT = 64  # tokens that every tiny model takes
TOLERANCE = 1e-5
AWKWARD = (
    "a",
    "?",
    "Ünïcödé, naïve café",
    "東京 is a city, and so is 大阪",
    "emoji 🙂👍🏽 and a family 👩‍👩‍👧‍👦",
    "e\u0301 and a\u0308 combine, as do u\u0308\u0304s",
    "double  spaces   here",
    " leading space",
    "trailing space ",
    "\ttabs\tin\tit",
    "two\nlines\r\nor three",
    "wait!!!???...,,,;; -- (what?)",
    "literal [SEP] and [CLS] tokens",
    "a </s> b <s> c <pad>",
    "[UNK] [MASK] <mask> <unk>",
    "ﬁ ligature ½ ① Ⅳ",
    "ß ẞ İ ı ſ K",
    "\u200bzero\u200bwidth\u200d",
    "nbsp\u00a0here\u2009thin\u3000wide",
    "\u202eRTL שלום עולם",
    "مرحبا بالعالم हिन्दी ภาษาไทย",
    "nul\x00 and \x01 control \x7f",
    "'quotes' \"double\" `back` «guillemets»",
    "don't can't it's I'm they'll",
    "A.B.C. U.S.A. e.g. 3.14 1,000,000 50% $5",
    "http://example.org/?q=1&r=2 me@example.org",
    "CamelCaseWord snake_case kebab-case",
    "line\u2028separator next\u0085line",
    "\ufeffbyte order mark",
    "▁lower one eighth▁block ▁ alone",
    "##s ##ing a ##b",
    "Ġbyte level Ċ marks",
    "<|endoftext|> of GPT-2",
)


@pytest.fixture(scope="module")
def load(
    make_run: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], tuple[runtime.Classifier, Any]]:
    """Give a function that makes our model and transformers' pipeline: (family, key of SHAPES) → both."""
    from export.__main__ import main

    @cache
    def make(family: str, shape: str) -> tuple[runtime.Classifier, Any]:
        run, bundle = make_run(family, shape), tmp_path_factory.mktemp("fp32") / f"{family}-{shape}"
        assert main([str(run), f"--output={bundle}", "--variants", "fp32"]) == 0
        classifier = runtime.load(bundle, variant="fp32", engine="ort-cpu")
        task = "token-classification" if shape == "token" else "text-classification"
        return classifier, transformers.pipeline(task, model=str(run), device="cpu")

    return make


def chosen(texts: list[str], pipe: Any, *, pair: bool) -> list[Any]:
    """Give forty texts of the demo and the awkward ones, as pairs where asked for, those that fit the model."""
    singles = (*texts[:40], *AWKWARD)
    rows = [{"text": a, "text_pair": b} for a, b in zip(singles, reversed(singles), strict=True)] if pair else singles
    fitting = [row for row in rows if len(token_ids(pipe, row)) <= LIMIT]
    assert len(fitting) > len(singles) / 3
    return list(fitting)


def token_ids(pipe: Any, row: Any) -> list[int]:
    return list(pipe.tokenizer(**row)["input_ids"] if isinstance(row, dict) else pipe.tokenizer(row)["input_ids"])


def same(ours: Any, theirs: Any) -> None:
    """Assert that two items are equal, scores within TOLERANCE, and that ours is plain JSON."""
    ours, theirs = ([item] if isinstance(item, dict) else item for item in (ours, theirs))
    assert [{**item, "score": 0} for item in ours] == [{**item, "score": 0} for item in theirs]
    scores = [item["score"] for item in ours]
    np.testing.assert_allclose(scores, [item["score"] for item in theirs], rtol=0, atol=TOLERANCE)
    assert {type(score) for score in scores} <= {float}
    json.dumps(ours)


# Text classification


@pytest.mark.parametrize(("family", "shape"), CLASSIFIERS)
def test_a_classifier_answers_as_its_pipeline(
    family: str, shape: str, load: Callable[[str, str], tuple[runtime.Classifier, Any]], texts: list[str]
) -> None:
    classifier, pipe = load(family, shape)
    rows = chosen(texts, pipe, pair=shape == "pair")
    predictions = classifier.predict(rows)
    for prediction, expected in zip(predictions, pipe(rows[:5]), strict=False):
        same(prediction.to_pipeline(), expected)
    for row, prediction in zip(rows, predictions, strict=True):
        assert not prediction.truncated
        outputs = pipe.forward(pipe.preprocess(row))
        for function in FUNCTIONS:
            name = None if function is None else ClassificationFunction[function.upper()]
            same(prediction.to_pipeline(function_to_apply=function), pipe.postprocess(outputs, function_to_apply=name))
            for top_k in (2, None):
                expected = pipe.postprocess(outputs, function_to_apply=name, top_k=top_k, _legacy=False)
                ours = prediction.to_pipeline(top_k=top_k, function_to_apply=function)
                assert isinstance(ours, list)
                same(ours, expected)


def test_top_k_1_is_one_item_where_the_pipeline_makes_a_list_of_it(
    load: Callable[[str, str], tuple[runtime.Classifier, Any]],
) -> None:
    """The pipeline tells a top_k of 1 that was given from one that was not: a list of one dict, or a dict. Ours is a dict both times."""
    classifier, pipe = load("bert", "single-label")
    (given,) = pipe(["where is it"], top_k=1)
    assert isinstance(given, list)
    ours = classifier.predict("where is it").to_pipeline(top_k=1)
    assert isinstance(ours, dict)
    same(ours, given[0])


class _Pipe:
    """transformers' own post-processing, without a model."""

    postprocess = transformers.TextClassificationPipeline.postprocess
    framework = "pt"

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.model = type("Model", (), {})()
        self.model.config = transformers.BertConfig(
            id2label=dict(enumerate(labels)), problem_type="single_label_classification"
        )


@settings(deadline=None)
@given(st.lists(st.floats(-90, 90, width=32), min_size=2, max_size=12), st.sampled_from(FUNCTIONS))
@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")  # in the pipeline's sigmoid
def test_labels_come_in_the_pipelines_order_whatever_the_logits(logits: list[float], function: str | None) -> None:
    """Ties and saturated scores included: both sort stably by the same float32 numbers."""
    labels = tuple(f"label {index}" for index in range(len(logits)))
    row = np.array(logits, dtype=np.float32)
    name = None if function is None else ClassificationFunction[function.upper()]
    pipe, outputs = _Pipe(labels), {"logits": torch.from_numpy(row)[None]}
    expected = pipe.postprocess(outputs, function_to_apply=name, top_k=None, _legacy=False)
    same(prediction_of(row, labels).to_pipeline(top_k=None, function_to_apply=function), expected)
    if function != "sigmoid":
        same(prediction_of(row, labels).to_pipeline(function_to_apply=function), pipe.postprocess(outputs, name))


def prediction_of(logits: npt.NDArray[np.float32], labels: tuple[str, ...]) -> runtime.Prediction:
    head: Any = Head(labels, None, 1.0, None)
    return runtime.Prediction(task="single-label", logits=logits, _head=head, _tokens=None)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("single-label", {"function_to_apply": "relu"}, "one of softmax, sigmoid, none. Got 'relu' instead"),
        ("token", {"aggregation_strategy": "mean"}, "one of none, simple, first, average, max. Got 'mean' instead"),
    ],
)
def test_an_unknown_option_is_refused_with_its_value(
    tmp_path: Path, task: str, options: dict[str, Any], message: str
) -> None:
    engine = engine_for(task)
    classifier = runtime.load(tiny_bundle(tmp_path / "bundle", task=task), engine=engine)
    with pytest.raises(InputError, match=message):
        classifier.predict("late").to_pipeline(**options)


# Token classification


@pytest.mark.parametrize("family", TAGGERS)
def test_a_tagger_answers_as_its_pipeline(
    family: str, load: Callable[[str, str], tuple[runtime.Classifier, Any]], texts: list[str]
) -> None:
    classifier, pipe = load(family, "token")
    rows = chosen(texts, pipe, pair=False)
    predictions = classifier.predict(rows)
    for prediction, expected in zip(predictions, pipe(rows[:5]), strict=False):
        same(prediction.to_pipeline(), expected)
    for row, prediction in zip(rows, predictions, strict=True):
        (inputs,) = pipe.preprocess(row, is_split_into_words=False)
        outputs = pipe.forward(inputs)
        for strategy in STRATEGIES:
            expected = pipe.postprocess([dict(outputs)], aggregation_strategy=AggregationStrategy(strategy))
            same(prediction.to_pipeline(aggregation_strategy=strategy), expected)


@pytest.mark.parametrize("family", TAGGERS)
def test_random_logits_are_grouped_as_the_pipeline_groups_them(
    family: str, load: Callable[[str, str], tuple[runtime.Classifier, Any]], texts: list[str]
) -> None:
    """A tiny model finds one tag everywhere; random logits make words disagree inside, B- follow B-, I- follow O, and scores tie."""
    classifier, pipe = load(family, "token")
    labels, encoder = classifier.manifest.labels, classifier._head.encoder
    rows = chosen(texts, pipe, pair=False)
    for seed, (row, tokens) in enumerate(zip(rows, encoder.encode(rows).tokens or (), strict=True)):
        (outputs,) = pipe.preprocess(row, is_split_into_words=False)
        assert outputs["input_ids"][0].tolist() == tokens.input_ids.tolist()
        generator = np.random.default_rng(seed)
        for rounded in (False, False, True, True):
            logits = generator.normal(size=(len(tokens.input_ids), len(labels)), scale=3).astype(np.float32)
            logits = np.round(logits / 3) if rounded else logits
            given = {**outputs, "logits": torch.from_numpy(logits)[None]}
            for strategy in STRATEGIES:
                expected = pipe.postprocess([dict(given)], aggregation_strategy=AggregationStrategy(strategy))
                same(pipeline_entities(logits, tokens, encoder, labels, strategy=strategy), expected)


# Our own reading of tags


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(
        tiny_bundle(tmp_path_factory.mktemp("tagger"), task="token"), max_length=64, pair=False, offsets=True
    )


TAGS = ("O", "B-NAME", "I-NAME", "B-CITY", "I-CITY")


def read(encoder: Encoder, text: Text, tags: list[str]) -> list[tuple[str, str]]:
    """Give (text, label) of the entities of a text whose tokens, special ones left out, have these tags."""
    (tokens,) = encoder.encode([text]).tokens or ()
    rows = np.array([TAGS.index(tag) for tag in ("O", *tags, "O")])
    found = find_entities(np.eye(len(TAGS), dtype=np.float32)[rows], tokens, TAGS)
    assert all(tokens.text[entity.start : entity.end] == entity.text for entity in found)
    return [(entity.text, entity.label) for entity in found]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["B-NAME", "I-NAME", "O", "O"], [("my parcel", "NAME")]),
        (["B-NAME", "B-NAME", "O", "O"], [("my", "NAME"), ("parcel", "NAME")]),
        (["O", "I-NAME", "I-NAME", "O"], [("parcel never", "NAME")]),
        (["B-NAME", "I-CITY", "I-CITY", "O"], [("my", "NAME"), ("parcel never", "CITY")]),
        (["B-CITY", "O", "I-CITY", "O"], [("my", "CITY"), ("never", "CITY")]),
        (["O", "O", "O", "B-CITY"], [("came", "CITY")]),
        (["I-NAME", "B-NAME", "I-NAME", "I-NAME"], [("my", "NAME"), ("parcel never came", "NAME")]),
        (["O", "O", "O", "O"], []),
    ],
)
def test_tags_are_joined_as_conlleval_does(tagger: Encoder, tags: list[str], expected: list[tuple[str, str]]) -> None:
    assert read(tagger, "my parcel never came", tags) == expected


def test_a_word_takes_the_tag_of_its_first_token(tagger: Encoder) -> None:
    assert read(tagger, "my parcels", ["O", "B-NAME", "O"]) == [("parcels", "NAME")]
    assert read(tagger, "my parcels", ["O", "O", "B-NAME"]) == []


def test_an_entity_has_the_mean_score_of_its_words(tagger: Encoder) -> None:
    (tokens,) = tagger.encode(["my parcels"]).tokens or ()
    probabilities = np.zeros((5, len(TAGS)), dtype=np.float32)
    probabilities[:, 0] = 0.1
    probabilities[1, 1], probabilities[2, 2], probabilities[3, 2] = 0.9, 0.5, 0.2  # the last is no word's first token
    (entity,) = find_entities(probabilities, tokens, TAGS)
    assert (entity.text, entity.start, entity.end) == ("my parcels", 0, 10)
    assert entity.score == pytest.approx(0.7)


@pytest.mark.parametrize("family", TAGGERS)
def test_entities_are_whole_words_of_the_original_text_and_the_same_every_time(
    family: str, load: Callable[[str, str], tuple[runtime.Classifier, Any]], texts: list[str]
) -> None:
    classifier, _ = load(family, "token")
    labels, encoder = classifier.manifest.labels, classifier._head.encoder
    rows = [*texts[:40], *AWKWARD]
    generator = np.random.default_rng(0)
    for tokens in encoder.encode(rows).tokens or ():
        probabilities = generator.dirichlet(np.ones(len(labels)), size=len(tokens.input_ids)).astype(np.float32)
        found = find_entities(probabilities, tokens, labels)
        assert found == find_entities(probabilities.copy(), tokens, labels)
        words = [tokens.offsets[tokens.word_ids == word] for word in np.unique(tokens.word_ids[tokens.word_ids >= 0])]
        starts = {int(part[part[:, 1] > part[:, 0]][0, 0]) for part in words if (part[:, 1] > part[:, 0]).any()}
        ends = {int(part[-1, 1]) for part in words}
        for entity in found:
            assert entity.text == tokens.text[entity.start : entity.end] != ""
            assert entity.start in starts
            assert entity.end in ends
            assert 0 < entity.score <= 1
        assert all(a.end <= b.start for a, b in pairwise(found))
