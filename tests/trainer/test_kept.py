"""Whole runs with adapters and with a mean: what they leave, and that a run killed at any moment and resumed is the undisturbed one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from trainer import average, finish, run, states
from trainer.checkpoint import open_run, read_record
from trainer.errors import RunError

from .runs import Run, evaluations

LORA = {"lora_rank": 4, "learning_rate": 1e-2}
WAYS: dict[str, dict[str, Any]] = {
    "adapters": LORA,
    "a mean": {"average": 3},
    "adapters and a mean": {**LORA, "average": 3},
    "adapters below a new layer": {**LORA, "reinit_layers": 1, "layer_decay": 0.9},
}


@pytest.fixture
def train(train: Run) -> Run:
    """Give the function that trains with four epochs and a rate that teaches in few steps, unless other settings are given."""

    def run(output: str = "run", **settings: Any) -> Path:
        return train(output, **{"epochs": 4, "learning_rate": 3e-3, **settings})

    run.said = train.said  # type: ignore[attr-defined]
    return run


def said(train: Run) -> str:
    return "\n".join(train.said)  # type: ignore[attr-defined]


# resuming


MOMENTS = [
    (way, name)
    for way, settings in WAYS.items()
    for name in (
        "run.save_state",
        "run.save_best",
        "finish.publish",
        *(("run.save_evaluated", "finish.write_mean") if "average" in settings else ()),
    )
]


class Killed(BaseException):
    """A kill: nothing catches it."""


@pytest.mark.parametrize(("way", "name"), MOMENTS)
def test_a_run_killed_before_anything_is_kept_resumes_to_the_undisturbed_one(
    way: str, name: str, train: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time that something of the name is kept, or the first where there is but one: how often weights get better is not the same on every CPU."""
    settings = {**WAYS[way], "save_steps": 2, "eval_steps": 1, "keep_checkpoints": 2}
    place, function = {"run": run, "finish": finish}[name.partition(".")[0]], name.partition(".")[2]
    true, calls, dies_at = getattr(place, function), [0], [0]

    def kill(*arguments: Any, **given: Any) -> Any:
        calls[0] += 1
        if calls[0] == dies_at[0]:
            raise Killed
        return true(*arguments, **given)

    monkeypatch.setattr(place, function, kill)
    undisturbed = train("undisturbed", **settings)
    calls[0], dies_at[0] = 0, min(2, calls[0])
    with pytest.raises(Killed):
        train("killed", **settings)
    killed = train("killed", **settings, resume=True)
    assert "resumed at step" in said(train) or "no state was saved yet" in said(train)
    for file in ("model.safetensors", "metrics.jsonl", "run.json"):
        assert (killed / file).read_bytes() == (undisturbed / file).read_bytes(), file
    assert not (killed / "checkpoints").exists()


def test_adapters_go_on_only_beside_the_weights_they_were_trained_beside(
    train: Run, monkeypatch: pytest.MonkeyPatch, make_encoder_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = transformers.AutoModel.from_pretrained(make_encoder_folder("bert"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(make_encoder_folder("bert"))
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    true = states.save_state

    def kill(*arguments: Any, **given: Any) -> None:
        true(*arguments, **given)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("trainer.run.save_state", kill)
        with pytest.raises(Killed):
            train(model=str(tmp_path / "model"), **LORA)
    with torch.no_grad():
        model.encoder.layer[0].output.dense.bias[0] += 1
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(RunError, match="the weights of --model are not those that the adapters were trained beside"):
        train(model=str(tmp_path / "model"), **LORA, resume=True)


# adapters


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "distilbert", "electra", "modernbert", "mpnet", "deberta-v2", "gpt2"])  # fmt: skip
def test_every_architecture_trains_with_adapters_into_a_plain_folder(family: str, train: Run) -> None:
    run = train(family=family, epochs=1, **LORA)
    record = read_record(run)
    assert record.complete
    assert record.eval == pytest.approx(evaluations(run)[record.best_step or 0], abs=0.05)
    assert 0 < record.num_trained < record.num_weights
    assert not [name for name in load_file(run / "model.safetensors") if "lora" in name or "base_layer" in name]
    assert not list(run.glob("adapter*"))
    assert open_run(run).load_model().num_parameters() == record.num_weights
    padded = family in ("mpnet", "deberta-v2", "gpt2")
    assert ("texts are padded" if padded else "texts are packed") in said(train)


def test_a_small_task_is_learnt_by_adapters_and_the_figures_are_the_merged_weights(train: Run) -> None:
    run = train(epochs=20, **LORA)
    record = read_record(run)
    assert record.eval is not None
    assert record.eval["accuracy"] >= 0.9
    assert record.best_step is not None
    assert record.eval == pytest.approx(evaluations(run)[record.best_step], abs=1e-6)
    assert f"adapters of rank 4: {record.num_trained:,} of {record.num_weights:,} weights are trained" in said(train)


def test_what_adapters_leave_alone_is_as_pretrained(train: Run, make_encoder_folder: Callable[[str], Path]) -> None:
    weights = load_file(train(**LORA) / "model.safetensors")
    pretrained = transformers.AutoModel.from_pretrained(make_encoder_folder("bert")).state_dict()
    changed = {name for name, tensor in pretrained.items() if not torch.equal(weights[f"bert.{name}"], tensor)}
    products = ("query", "key", "value", "dense")
    assert {name for name in pretrained if name.endswith(tuple(f"{product}.weight" for product in products))} < changed
    assert changed - {name for name in pretrained if name.endswith("weight")} == {"pooler.dense.bias"}
    assert not [name for name in changed if "LayerNorm" in name or "embeddings" in name]


def test_a_state_holds_adapters_alone(train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[bool, int] = {}
    true = states.save_state

    def note(folder: Path, **given: Any) -> None:
        true(folder, **given)
        sizes["lora" in str(folder)] = max(file.stat().st_size for file in folder.glob("state-*.pt"))

    monkeypatch.setattr("trainer.run.save_state", note)
    train("whole", epochs=1)
    record = read_record(train("lora", epochs=1, **{**LORA, "lora_rank": 1}))
    assert sizes[True] < 12 * record.num_trained + 100_000 < sizes[False]


def test_alpha_scales_the_adapters(train: Run) -> None:
    """Of the first step's adapters, which are alike: Adam's first step has the length of the learning rate whatever the gradient."""
    one, two = (
        load_file(train(f"alpha{alpha}", epochs=1, batch_size=48, max_grad_norm=0.0, **{**LORA, "lora_alpha": alpha}) / "model.safetensors")
        for alpha in (1, 16)
    )  # fmt: skip
    name = "bert.encoder.layer.1.output.dense.weight"
    base = load_file(train("rate0", epochs=1, learning_rate=1e-12, lora_rank=4) / "model.safetensors")[name]
    ratio = float((two[name] - base).norm() / (one[name] - base).norm())
    assert ratio == pytest.approx(16, rel=0.1)


# the mean


def test_the_mean_is_that_of_the_last_evaluations_and_its_figures_are_true(
    train: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, torch.Tensor] = {}
    true = average.choose

    def choose(best: Path, mean: Path, averaged: Any, **given: Any) -> Any:
        """Let the mean be better."""
        for folder in (mean, *averaged):
            seen[folder.name] = load_file(folder / "model.safetensors")["classifier.weight"]
        return true(best, mean, averaged, metric=given["metric"], measure=lambda folder: float(folder == mean))

    monkeypatch.setattr("trainer.finish.choose", choose)
    run = train(average=3)
    record = read_record(run)
    assert record.averaged == (6, 9, 12)
    parts = torch.stack([seen[f"evaluated-{step}"] for step in (6, 9, 12)])
    kept = load_file(run / "model.safetensors")["classifier.weight"]
    assert torch.equal(kept, parts.double().mean(dim=0).float())
    assert not torch.equal(kept, parts[2])
    assert "the mean of steps 6, 9, 12 has accuracy 1.0000, step" in said(train)
    again = train("again", model=str(run), epochs=1, learning_rate=1e-12)
    assert record.eval == evaluations(again)[3], "measured with the mean's weights"


def test_the_single_step_is_kept_where_the_mean_is_no_better(train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = train("plain")
    true = average.choose
    monkeypatch.setattr(
        "trainer.finish.choose", lambda *folders, metric, measure: true(*folders, metric=metric, measure=lambda folder: measure(folder) * 0)
    )  # fmt: skip
    run = train("averaged", average=2)
    assert (read_record(run).averaged, read_record(run).best_step) == (None, read_record(plain).best_step)
    assert (run / "model.safetensors").read_bytes() == (plain / "model.safetensors").read_bytes()
    assert read_record(run) == read_record(plain)


@pytest.mark.parametrize(("epochs", "evaluations"), [(1, 1), (2, 2)])
def test_fewer_evaluations_than_asked_for_are_warned_of(epochs: int, evaluations: int, train: Run) -> None:
    record = read_record(train(epochs=epochs, average=3))
    assert record.complete
    assert f"warning: --average 3, but there were only {evaluations} evaluations" in said(train)
    assert ("the mean of steps 3, 6 has" in said(train)) == (evaluations == 2)
