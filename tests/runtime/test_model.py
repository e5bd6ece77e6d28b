"""A loaded model: what it answers, that company does not change an answer, and what opens it."""

import itertools
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runtime
from runtime.bundle import read
from runtime.engines import Settings, open_engine
from runtime.errors import BundleError, EngineUnavailable, InputError
from runtime.tasks import sigmoid, softmax
from runtime.testing import LABELS, MAX_LENGTH, FakeEngine, tiny_bundle

pytestmark = pytest.mark.filterwarnings("ignore:texts longer than:UserWarning")

FAMILIES = ("bert", "roberta", "distilbert", "electra", "mpnet", "deberta-v2", "xlm-roberta", "modernbert", "gpt2")
CASES = [*((family, "single-label") for family in FAMILIES), ("bert", "token"), ("bert", "pair")]
POOL = 32  # texts that batches are drawn from
LONG = "word " * MAX_LENGTH


def fake(folder: Path, *, task: str = "single-label", pair: bool = False, **changes: Any) -> runtime.Classifier:
    """Load a tiny bundle, with changes to its manifest."""
    tiny_bundle(folder, task=task, pair=pair)
    change(folder, **changes)
    return runtime.load(folder, engine=engine_for(task))


def engine_for(task: str) -> FakeEngine:
    return FakeEngine(num_labels=len(LABELS[task]), per_token=runtime.TASKS[task].per_token)


def change(folder: Path, **changes: Any) -> None:
    """Change fields of a bundle's manifest."""
    file = folder / "bundle.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def change_variant(folder: Path, name: str, **changes: Any) -> None:
    variants = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["variants"]
    change(folder, variants={**variants, name: {**variants[name], **changes}})


# Answers


def test_one_text_gets_one_answer_and_a_list_a_list(tmp_path: Path) -> None:
    classifier = fake(tmp_path / "bundle")
    one, many = classifier.predict("my parcel"), classifier.predict(["my parcel", {"text": "late"}, "my parcel"])
    assert isinstance(one, runtime.Prediction)
    assert [one, one] == [many[0], many[2]]
    assert many[1] == classifier.predict({"text": "late"}) != one
    assert classifier.predict([]) == []
    assert classifier.predict(["late"]) == [classifier.predict("late")]


def test_anything_iterable_holds_many_texts(tmp_path: Path) -> None:
    classifier = fake(tmp_path / "bundle")
    expected = classifier.predict(["my", "parcel"])
    assert classifier.predict(np.array(["my", "parcel"])) == expected
    assert classifier.predict(text for text in ("my", "parcel")) == expected  # type: ignore[call-overload]


def test_pairs_come_as_tuples_or_mappings_alone_or_in_lists(tmp_path: Path) -> None:
    classifier = fake(tmp_path / "bundle", pair=True)
    one = classifier.predict(("my parcel", "late"))
    assert one == classifier.predict({"text": "my parcel", "text_pair": "late"})
    assert [one, one] == classifier.predict([("my parcel", "late"), {"text": "my parcel", "text_pair": "late"}])
    assert one != classifier.predict(("late", "my parcel"))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, "texts must be a text or a list of texts. Got None instead"),
        (0, "texts must be a text or a list of texts. Got 0 instead"),
        (3.5, "texts must be a text or a list of texts. Got 3.5 instead"),
        (["fine", None], "text 1 must be a string: .* Got None instead"),
        (["fine", "fine", ["late"]], r"text 2 must be a string: .* Got \['late'\] instead"),
        (("a", "b"), r"text 0 must be a string: .* Got \('a', 'b'\) instead"),
        ((), r"text 0 must be a string: .* Got \(\) instead"),
        (b"late", "text 0 must be a string: .* Got 108 instead"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place_and_value(tmp_path: Path, texts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fake(tmp_path / "bundle").predict(texts)


@pytest.mark.parametrize("task", LABELS)
def test_each_task_sets_its_own_fields_and_no_other(tmp_path: Path, task: str) -> None:
    prediction = fake(tmp_path / "bundle", task=task).predict("my parcel never came")
    fields = set(runtime.TASKS[task].columns.values())
    for name in ("label", "score", "labels", "scores", "value", "entities"):
        assert (getattr(prediction, name) is not None) == (name in fields)
    with pytest.raises(FrozenInstanceError):
        prediction.truncated = True  # type: ignore[misc]


def test_a_label_has_its_probability(tmp_path: Path) -> None:
    prediction = fake(tmp_path / "bundle").predict("my parcel never came")
    expected = dict(zip(LABELS["single-label"], softmax(prediction.logits).tolist(), strict=True))
    assert prediction.probabilities() == expected
    assert prediction.label == max(expected, key=lambda label: expected[label])
    assert prediction.score == expected[prediction.label]


@pytest.mark.parametrize("task", ["regression", "token"])
def test_a_task_without_probabilities_says_so(tmp_path: Path, task: str) -> None:
    with pytest.raises(InputError, match=f"a {task} answer has no probabilities by label"):
        fake(tmp_path / "bundle", task=task).predict("late").probabilities()


def test_the_fake_engine_answers_by_its_rule(tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path / "bundle", task="token")
    classifier = runtime.load(folder, engine=engine_for("token"))
    ids = classifier.encode(["late"]).batch.input_ids
    expected = [[(v * (c + 1)) % 31 / 5 - 3 for c in range(3)] for v in ids.tolist()]
    np.testing.assert_allclose(classifier.predict("late").logits, expected, atol=1e-6)
    ((text,),) = FakeEngine(num_labels=3).run([classifier.encode(["late"]).batch])
    np.testing.assert_allclose(text, np.mean(expected, axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"task": "tokens"}, "task must be one of .* Got 'tokens' instead"), ({"labels": ("a", "a")}, "labels")],
)
def test_a_tiny_bundle_that_could_not_be_is_refused(tmp_path: Path, arguments: Any, message: str) -> None:
    with pytest.raises(runtime.Error, match=message):
        tiny_bundle(tmp_path / "bundle", **arguments)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="full is not empty"):
        tiny_bundle(tmp_path / "full")


# Calibration


def test_the_manifests_temperature_scales_scores_and_leaves_labels_and_the_pipeline(tmp_path: Path) -> None:
    warm, plain = fake(tmp_path / "warm", temperature=4.0), fake(tmp_path / "plain")
    for text in ("my parcel never came", "thanks", "cancel it"):
        ours, raw = warm.predict(text), plain.predict(text)
        assert ours.label == raw.label
        assert ours.score == pytest.approx(softmax(raw.logits / 4).max())
        assert ours.probabilities() != raw.probabilities()
        for options in ({}, {"top_k": None}, {"function_to_apply": "sigmoid"}):
            assert ours.to_pipeline(**options) == raw.to_pipeline(**options)


def test_each_label_counts_from_its_own_threshold(tmp_path: Path) -> None:
    plain = fake(tmp_path / "plain", task="multi-label").predict("my parcel")
    scores = sigmoid(plain.logits)
    best_first = [LABELS["multi-label"][index] for index in np.argsort(-scores)]
    for number, chosen in itertools.product((0, 1), repeat=2):
        thresholds = [float(score) if take else 1.0 for score, take in zip(scores, (number, chosen, 1), strict=True)]
        ours = fake(tmp_path / f"{number}{chosen}", task="multi-label", thresholds=thresholds).predict("my parcel")
        taken = dict(zip(LABELS["multi-label"], (number, chosen, 1), strict=True))
        assert ours.labels == tuple(label for label in best_first if taken[label])
        assert ours.scores == tuple(
            sorted((float(s) for s, t in zip(scores, taken.values(), strict=True) if t), reverse=True)
        )
        assert ours.to_pipeline(top_k=None) == plain.to_pipeline(top_k=None)
    nothing = fake(tmp_path / "none", task="multi-label", thresholds=[1.0] * 3).predict("my parcel")
    assert (nothing.labels, nothing.scores) == ((), ())


@pytest.mark.parametrize("num_labels", [2, 3, 9, 150])
@pytest.mark.parametrize("task", ["single-label", "multi-label"])
def test_scores_are_the_same_to_the_bit_alone_and_beside_others(tmp_path: Path, task: str, num_labels: int) -> None:
    labels = tuple(f"label {index}" for index in range(num_labels))
    classifier = runtime.load(
        tiny_bundle(tmp_path / "b", task=task, labels=labels), engine=FakeEngine(num_labels=num_labels)
    )
    texts = [" ".join(words) for words in itertools.permutations(["my", "parcel", "never", "came", "late"], 4)]
    assert [classifier.predict(text) for text in texts] == classifier.predict(texts)


def test_a_temperature_reaches_entities_too(tmp_path: Path) -> None:
    warm = fake(tmp_path / "warm", task="token", temperature=9.0).predict("my parcels never came")
    plain = fake(tmp_path / "plain", task="token").predict("my parcels never came")
    assert plain.entities
    assert [e[:4] for e in warm.entities or ()] == [e[:4] for e in plain.entities]
    assert all(a.score < b.score for a, b in zip(warm.entities or (), plain.entities, strict=True))
    assert warm.to_pipeline() == plain.to_pipeline()


def test_raw_probabilities_are_those_without_calibration(tmp_path: Path) -> None:
    for task in ("single-label", "multi-label"):
        warm, plain = fake(tmp_path / f"warm {task}", task=task, temperature=3.0), fake(tmp_path / task, task=task)
        ours, raw = warm.predict("my parcel"), plain.predict("my parcel")
        assert (ours.calibrated, raw.calibrated) == (True, False)
        assert ours.probabilities(raw=True) == raw.probabilities() == raw.probabilities(raw=True)
        assert ours.probabilities() != raw.probabilities()


# Abstaining

TEXTS = [" ".join(words) for words in itertools.permutations(["my", "parcel", "never", "came"], 3)]


def test_answers_below_the_level_abstain_and_keep_label_and_score(tmp_path: Path) -> None:
    plain = fake(tmp_path / "plain", temperature=2.0).predict(TEXTS)
    level = sorted(prediction.score or 0 for prediction in plain)[len(plain) // 2]  # one is exactly as sure
    sure = fake(tmp_path / "sure", temperature=2.0, format=2, abstain_below=level)
    found = sure.predict(TEXTS)
    assert [p.abstained for p in found] == [(p.score or 0) < level for p in plain]
    assert {p.abstained for p in found} == {True, False}
    assert [(p.label, p.score) for p in found] == [(p.label, p.score) for p in plain]
    assert [sure.predict(text) for text in TEXTS] == found
    assert found[0].to_pipeline() == plain[0].to_pipeline()


@pytest.mark.parametrize("task", LABELS)
def test_without_a_level_nobody_is_asked_whether_to_abstain(tmp_path: Path, task: str) -> None:
    assert fake(tmp_path / "bundle", task=task).predict("my parcel").abstained is None


def test_the_level_given_when_loading_comes_before_the_bundles(tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path / "bundle")
    change(folder, format=2, abstain_below=1.0)

    def abstained(level: float | None) -> bool | None:
        return runtime.load(folder, engine=engine_for("single-label"), abstain_below=level).predict("late").abstained

    assert [abstained(level) for level in (None, 1, 0.5, 0)] == [True, True, False, None]
    change(folder, format=1)
    fields = json.loads((folder / "bundle.json").read_text())
    del fields["abstain_below"]
    (folder / "bundle.json").write_text(json.dumps(fields))
    assert [abstained(level) for level in (None, 1, 0.5, 0)] == [None, True, False, None]


@pytest.mark.parametrize("level", [-0.1, 1.1, float("nan")])
def test_a_level_that_is_no_probability_is_refused(tmp_path: Path, level: float) -> None:
    folder = tiny_bundle(tmp_path / "bundle")
    with pytest.raises(InputError, match=rf"abstain_below must be a probability from 0 to 1\. Got {level} instead"):
        runtime.load(folder, engine=engine_for("single-label"), abstain_below=level)


@pytest.mark.parametrize("task", ["multi-label", "regression", "token"])
def test_a_level_for_a_task_that_cannot_abstain_is_refused(tmp_path: Path, task: str) -> None:
    with pytest.raises(InputError, match=rf"answers with one label; this bundle's task is {task}\. Leave it out"):
        runtime.load(tiny_bundle(tmp_path / "bundle", task=task), engine=engine_for(task), abstain_below=0.5)


# Truncation


def test_a_text_that_is_cut_is_flagged_and_warned_about_where_it_was_asked(tmp_path: Path) -> None:
    classifier = fake(tmp_path / "bundle")
    for ask in (classifier.predict, lambda texts: list(classifier.stream(texts))):
        with pytest.warns(
            UserWarning, match=f"texts longer than {MAX_LENGTH} tokens were cut; .* truncated=True"
        ) as seen:
            predictions = ask(["short", LONG, "short", LONG])
        assert [prediction.truncated for prediction in predictions] == [False, True, False, True]
        assert [warning.filename for warning in seen] == [__file__]


def test_the_warning_is_shown_once_a_line_however_many_texts_were_cut(tmp_path: Path) -> None:
    classifier = fake(tmp_path / "bundle")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for count in (1, 2, 3):
            classifier.predict(["short", *[LONG] * count])
    assert len(seen) == 1


def test_texts_that_fit_are_not_warned_about(tmp_path: Path) -> None:
    classifier = fake(tmp_path / "bundle")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not classifier.predict("late " * (MAX_LENGTH - 2)).truncated


# Streams


def test_a_stream_answers_as_predict_does_whatever_its_chunks(tmp_path: Path) -> None:
    classifier = fake(tmp_path / "bundle")
    texts = [f"parcel {number}" for number in range(25)]
    expected = classifier.predict(texts)
    for chunk in (1, 7, 25, 100):
        assert list(classifier.stream(texts, chunk=chunk)) == expected
    assert list(classifier.stream([])) == []


def test_a_stream_reads_one_chunk_ahead_and_no_more(tmp_path: Path) -> None:
    classifier, num_read = fake(tmp_path / "bundle"), 0

    def source() -> Iterator[str]:
        nonlocal num_read
        for num_read in itertools.count(1):
            yield f"text {num_read}"

    stream = classifier.stream(source(), chunk=10)
    assert num_read == 0
    for taken in range(1, 35):
        next(stream)
        assert num_read == -(-taken // 10) * 10


def test_an_error_in_a_stream_names_the_place_in_the_whole(tmp_path: Path) -> None:
    stream = fake(tmp_path / "bundle").stream(["a", "b", "c", "d", "e", None], chunk=2)  # type: ignore[list-item]
    assert len(list(itertools.islice(stream, 4))) == 4
    with pytest.raises(InputError, match="text 5 must be a string"):
        next(stream)


# Alone or in company


@pytest.fixture(scope="module")
def answered_alone(
    make_bundle: Callable[[str, str], Path], texts: list[str]
) -> Callable[[str, str, str], tuple[runtime.Classifier, list[Any], list[Any]]]:
    """Give a function that answers a pool of texts one by one: (family, shape, variant) → classifier, texts, logits."""

    @cache
    def answer(family: str, shape: str, variant: str) -> tuple[runtime.Classifier, list[Any], list[Any]]:
        classifier = runtime.load(make_bundle(family, shape), engine="ort-cpu", variant=variant)
        singles = ["?", "ok", *texts[: POOL - 3], "word " * 80]
        pool = list(zip(singles, reversed(singles), strict=True)) if classifier.manifest.pair else singles
        return classifier, pool, [classifier.predict(text).logits for text in pool]

    return answer


BATCHES = st.tuples(
    st.lists(st.integers(0, POOL - 1), min_size=1, max_size=24), st.sampled_from([1, 64, 200, 512, 4096])
)
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize(("family", "shape"), CASES)
@FEW
@given(batch=BATCHES)
def test_int8_answers_are_bitwise_the_same_alone_and_in_any_batch(
    family: str, shape: str, answered_alone: Callable[[str, str, str], Any], batch: tuple[list[int], int]
) -> None:
    indices, max_batch_tokens = batch
    classifier, pool, alone = answered_alone(family, shape, "int8")
    together = replace(classifier, max_batch_tokens=max_batch_tokens).predict([pool[index] for index in indices])
    for index, prediction in zip(indices, together, strict=True):
        np.testing.assert_array_equal(prediction.logits, alone[index])


@pytest.mark.parametrize(("family", "shape"), CASES)
@FEW
@given(batch=BATCHES)
def test_fp32_answers_agree_alone_and_in_any_batch(
    family: str, shape: str, answered_alone: Callable[[str, str, str], Any], batch: tuple[list[int], int]
) -> None:
    indices, max_batch_tokens = batch
    classifier, pool, alone = answered_alone(family, shape, "fp32")
    together = replace(classifier, max_batch_tokens=max_batch_tokens).predict([pool[index] for index in indices])
    for index, prediction in zip(indices, together, strict=True):
        np.testing.assert_allclose(prediction.logits, alone[index], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shape", "variant"), [("single-label", "int8"), ("token", "int8"), ("pair", "fp32")])
def test_threads_that_share_a_model_get_the_answers_of_one(
    shape: str, variant: str, answered_alone: Callable[[str, str, str], Any]
) -> None:
    classifier, pool, _ = answered_alone("bert", shape, variant)
    parts = [pool[start::8] * 3 for start in range(8)]
    expected = [classifier.predict(part) for part in parts]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            for ours, theirs in zip(threads.map(classifier.predict, parts), expected, strict=True):
                for a, b in zip(ours, theirs, strict=True):
                    np.testing.assert_array_equal(a.logits, b.logits)


# Engines and variants


def test_an_unknown_engine_or_variant_is_refused_with_those_there_are(bundle: Path) -> None:
    with pytest.raises(
        InputError, match=r"engine must be 'auto' or one of 'ort-cuda', 'native', 'ort-cpu', 'openvino'. Got 'tpu'"
    ):
        runtime.load(bundle, engine="tpu")
    with pytest.raises(InputError, match=r"variant must be 'auto' or one of 'fp32', 'int8'. Got 'int4' instead"):
        runtime.load(bundle, variant="int4")


def test_an_engine_of_ones_own_is_used_and_nothing_else_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    engine = FakeEngine(num_labels=2)
    classifier = runtime.load(tiny_bundle(tmp_path / "bundle"), engine=engine)
    assert classifier.opened.engine is engine
    assert (classifier.opened.name, classifier.opened.reason) == ("custom", "given")
    assert classifier.predict("late").label in LABELS["single-label"]


@pytest.mark.parametrize("task", LABELS)
def test_an_engine_that_wants_no_batches_gets_all_texts_in_one_as_they_come(tmp_path: Path, task: str) -> None:
    class Packed(FakeEngine):
        num_lanes = None  # type: ignore[assignment]

        def run(self, batches: Any) -> Any:
            seen.append([batch.lengths.tolist() for batch in batches])
            return super().run(batches)

    seen: list[Any] = []
    folder = tiny_bundle(tmp_path / "b", task=task)
    engine = Packed(num_labels=len(LABELS[task]), per_token=task == "token")
    texts = ["late", "my parcel never came", "it", "the parcel came late"]
    answers = runtime.load(folder, engine=engine, max_batch_tokens=8).predict(texts)
    assert seen == [[[3, 6, 3, 6]]]
    assert answers == runtime.load(folder, engine=engine_for(task)).predict(texts)


@pytest.mark.parametrize(
    "option", [{"variant": "fp32"}, {"variant": "nonsense"}, {"threads": 2}, {"instruction_set": "avx2"}]
)
def test_options_that_an_engine_of_ones_own_could_not_follow_are_refused(tmp_path: Path, option: Any) -> None:
    with pytest.raises(
        InputError, match="variant, threads and instruction_set are for engines that are opened by name"
    ):
        runtime.load(tiny_bundle(tmp_path / "bundle"), engine=FakeEngine(num_labels=2), **option)


def test_without_any_engine_the_error_says_what_to_install(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnxruntime", "openvino", "portabert_native"):
        monkeypatch.setitem(sys.modules, package, None)
    missing = "{} is not installed: pip install {}"
    with pytest.raises(
        EngineUnavailable,
        match=r"engine 'ort-cpu' cannot run here: " + missing.format("onnxruntime", r"'portabert\[cpu\]'"),
    ):
        runtime.load(bundle, engine="ort-cpu")
    each = "; ".join(
        f"not {engine}: {missing.format(package, what)}"
        for engine, package, what in (
            ("ort-cuda", "onnxruntime", r"'portabert\[gpu\]'"),
            ("native", "portabert-native", "portabert-native"),
            ("ort-cpu", "onnxruntime", r"'portabert\[cpu\]'"),
            ("openvino", "OpenVINO", r"'portabert\[openvino\]'"),
        )
    )
    with pytest.raises(EngineUnavailable, match="no engine can run here: " + each):
        runtime.load(bundle)


def test_cuda_that_is_not_there_is_an_error_by_name_and_a_reason_by_auto(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EngineUnavailable, match="engine 'ort-cuda' cannot run here: this onnxruntime has no CUDA"):
        runtime.load(bundle, engine="ort-cuda")
    opened = runtime.load(bundle).opened
    assert opened.name == "ort-cpu"
    assert opened.reason.startswith("first that runs here; not ort-cuda: this onnxruntime has no CUDA")


def test_auto_takes_int8_where_its_gate_passed_and_else_fp32(bundle: Path) -> None:
    for passed, expected in ((True, "int8"), (False, "fp32")):
        change_variant(bundle, "int8", passed=passed)
        assert runtime.load(bundle, engine="ort-cpu").opened.variant == expected
    assert runtime.load(bundle, variant="int8", engine="ort-cpu").opened.variant == "int8"


def test_where_no_gate_passed_a_variant_must_be_named(bundle: Path) -> None:
    for name in ("fp32", "int8"):
        change_variant(bundle, name, passed=False)
    with pytest.raises(
        InputError, match=r"no variant of this bundle passed its accuracy gate; name one .*: fp32, int8"
    ):
        runtime.load(bundle)
    assert runtime.load(bundle, variant="fp32").predict("late").label


def test_the_number_of_threads_is_the_engines(bundle: Path) -> None:
    ort = f"onnxruntime {onnxruntime.__version__}"
    assert runtime.load(bundle, engine="ort-cpu", threads=1).opened.engine.description.startswith(
        f"{ort}, CPU, 1 thread"
    )
    assert runtime.load(bundle, engine="ort-cpu", threads=3).opened.engine.description.startswith(
        f"{ort}, CPU, 3 threads"
    )
    with pytest.raises(InputError, match=r"threads must be a positive integer. Got 0 instead"):
        runtime.load(bundle, threads=0)


@pytest.mark.parametrize("variant", ["fp32", "int8"])
@pytest.mark.parametrize("how", [Settings(threads=4, streams=2), Settings(threads=2, streams=1, spinning=False)])
def test_settings_change_no_answer(bundle: Path, variant: str, how: Settings) -> None:
    texts = ["late", "the parcel is late again", "where", "a b c d e f"] * 3
    opened = open_engine("ort-cpu", path=bundle, manifest=read(bundle), variant=variant, settings=how)
    assert opened.engine.num_lanes == how.streams
    expected = runtime.load(bundle, engine="ort-cpu", variant=variant, threads=1)
    own = runtime.load(bundle, engine=opened.engine, max_batch_tokens=16)
    for ours, theirs in zip(own.predict(texts), expected.predict(texts), strict=True):
        np.testing.assert_allclose(ours.logits, theirs.logits, rtol=0, atol=0 if variant == "int8" else 1e-5)


@pytest.mark.parametrize("streams", [0, 3])
def test_more_streams_than_threads_are_refused(bundle: Path, streams: int) -> None:
    how = Settings(threads=2, streams=streams)
    with pytest.raises(InputError, match=rf"streams must be between 1 and threads \(2\). Got {streams} instead"):
        open_engine("ort-cpu", path=bundle, manifest=read(bundle), variant="fp32", settings=how)


def test_a_precision_an_engine_does_not_compute_in_is_refused_and_never_converted(bundle: Path) -> None:
    change_variant(bundle, "fp32", precision="bf16")
    with pytest.raises(
        EngineUnavailable, match=r"computes in int8 or fp32 or fp16, and variant 'fp32' is bf16. Choose another variant"
    ):
        runtime.load(bundle, engine="ort-cpu", variant="fp32")
    change_variant(bundle, "int8", passed=False)
    with pytest.raises(EngineUnavailable, match="this bundle's verified variants are fp32"):
        runtime.load(bundle, engine="ort-cpu")


def test_whether_answers_depend_on_the_batch_was_measured_at_export(bundle: Path) -> None:
    assert runtime.load(bundle, variant="int8").batch_invariant
    change_variant(bundle, "int8", batch_invariant=False)
    assert not runtime.load(bundle, variant="int8").batch_invariant


def test_a_model_file_that_is_no_model_is_refused_with_its_name(bundle: Path) -> None:
    file = bundle / "onnx/model.onnx"
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(BundleError, match=r"onnxruntime cannot open .*model\.onnx: .* export the model again"):
        runtime.load(bundle, variant="fp32", engine="ort-cpu")
    with pytest.raises(BundleError, match=r"1 changed files\n  onnx/model\.onnx was changed after export"):
        runtime.load(bundle, verify=True)


def test_graph_inputs_other_than_the_manifests_are_refused(bundle: Path) -> None:
    change_variant(bundle, "fp32", inputs=["input_ids", "attention_mask"])
    with pytest.raises(
        BundleError, match=r"has the inputs \[.*'token_type_ids'.*\], bundle.json says \['input_ids', 'attention"
    ):
        runtime.load(bundle, variant="fp32", engine="ort-cpu")


def test_a_budget_of_no_tokens_is_refused(tmp_path: Path) -> None:
    classifier = runtime.load(tiny_bundle(tmp_path / "b"), engine=FakeEngine(num_labels=2), max_batch_tokens=0)
    with pytest.raises(InputError, match=r"max_batch_tokens must be a positive integer. Got 0 instead"):
        classifier.predict("late")
