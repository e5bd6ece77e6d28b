"""The mean of the last evaluations' weights: how it is reckoned, when it is kept, and what is kept for it."""

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from trainer.average import choose, write_mean
from trainer.states import Progress, last_evaluated, save_evaluated, save_state


def write_weights(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


# the mean


def test_numbers_are_averaged_and_whole_numbers_and_other_files_are_those_of_the_runs(tmp_path: Path) -> None:
    positions = torch.arange(4)
    folders = [
        write_weights(tmp_path / str(step), {"weight": torch.full((2, 3), value), "positions": positions})
        for step, value in ((1, 1.0), (2, 2.0), (3, 6.0))
    ]
    write_mean(tmp_path / "mean", folders, folders[0])
    found = load_file(tmp_path / "mean" / "model.safetensors")
    assert torch.equal(found["weight"], torch.full((2, 3), 3.0))
    assert found["weight"].dtype == torch.float32
    assert torch.equal(found["positions"], positions)
    assert (tmp_path / "mean" / "config.json").is_file()
    assert torch.equal(load_file(folders[0] / "model.safetensors")["weight"], torch.full((2, 3), 1.0)), "as it was"


def test_the_sum_is_taken_in_double_precision(tmp_path: Path) -> None:
    """In fp32 1e8 would swallow the 1, and the mean would be 0."""
    folders = [
        write_weights(tmp_path / str(step), {"weight": torch.tensor([value])})
        for step, value in ((1, 1e8), (2, 1.0), (3, -1e8))
    ]
    write_mean(tmp_path / "mean", folders, folders[0])
    assert load_file(tmp_path / "mean" / "model.safetensors")["weight"].item() == pytest.approx(1 / 3)


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    folder = write_weights(tmp_path / "1", {"weight": torch.ones(2)})
    for left in ("mean", ".mean.tmp"):
        write_weights(tmp_path / left, {"weight": torch.zeros(2)})
        (tmp_path / left / "stray").write_text("half")
    write_mean(tmp_path / "mean", [folder], folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "mean"]
    assert not (tmp_path / "mean" / "stray").exists()
    assert torch.equal(load_file(tmp_path / "mean" / "model.safetensors")["weight"], torch.ones(2))


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    """A saved folder holds one of them, and so does the mean."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.BertConfig(vocab_size=20, max_position_embeddings=8, **sizes)
    folders = []
    for step in (1, 2):
        transformers.BertForMaskedLM(config).save_pretrained(tmp_path / str(step))
        folders.append(tmp_path / str(step))
    write_mean(tmp_path / "mean", folders, folders[0])
    model = transformers.BertForMaskedLM.from_pretrained(tmp_path / "mean")
    name = "bert.embeddings.word_embeddings.weight"
    one, two = (load_file(folder / "model.safetensors")[name] for folder in folders)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    torch.testing.assert_close(model.get_input_embeddings().weight.detach(), (one + two) / 2)


@pytest.mark.parametrize(
    ("metric", "mean", "single", "better"),
    [
        ("accuracy", 0.9, 0.8, True),
        ("accuracy", 0.8, 0.8, False),
        ("accuracy", 0.7, 0.8, False),
        ("rmse", 0.7, 0.8, True),
        ("rmse", 0.9, 0.8, False),
    ],
)
def test_the_mean_is_kept_only_where_it_is_better_and_the_line_says_so(
    metric: str, mean: float, single: float, better: bool, tmp_path: Path
) -> None:
    measured = {tmp_path / "mean": mean, tmp_path / "best-4": single}
    averaged = [tmp_path / "evaluated-4", tmp_path / "evaluated-6"]
    found = choose(tmp_path / "best-4", tmp_path / "mean", averaged, metric=metric, measure=measured.__getitem__)
    assert (found.folder.name, found.averaged) == (("mean", (4, 6)) if better else ("best-4", None))
    kept = "the mean" if better else "the single step"
    assert found.line == f"the mean of steps 4, 6 has {metric} {mean:.4f}, step 4 {single:.4f}: {kept} is kept"


# what is kept for it


class Saved:
    """Stand for a model."""

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)

    def state_dict(self) -> dict[str, int]:
        return {}


def state_at(folder: Path, step: int, *, keep: int) -> None:
    progress = Progress(num_parts=1, step=step)
    save_state(folder, progress=progress, model=Saved(), optimizer=Saved(), data={}, num_processes=1, keep=keep)


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("evaluated-")) for path in folder.glob("evaluated-*"))


@pytest.mark.parametrize(("keep", "left"), [(1, [20, 30, 40, 50]), (2, [10, 20, 30, 40, 50])])
def test_the_last_are_kept_and_those_that_a_kept_state_goes_on_from(keep: int, left: list[int], tmp_path: Path) -> None:
    for step in (5, 10, 20, 30, 40, 50):
        save_evaluated(tmp_path, step, model=Saved(), count=2)
        if step in (10, 20, 30):
            state_at(tmp_path, step, keep=keep)
    assert steps(tmp_path) == left
    assert [path.name for path in last_evaluated(tmp_path, 50, count=2)] == ["evaluated-40", "evaluated-50"]
    assert [path.name for path in last_evaluated(tmp_path, 30, count=2)] == ["evaluated-20", "evaluated-30"]


def test_those_of_a_run_that_got_farther_before_it_was_killed_stay_and_do_not_count(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        save_evaluated(tmp_path, step, model=Saved(), count=9)
    (tmp_path / ".evaluated-20.tmp").mkdir()  # killed while it wrote
    state_at(tmp_path, 10, keep=1)
    save_evaluated(tmp_path, 20, model=Saved(), count=1)  # resumed at 10
    assert steps(tmp_path) == [10, 20, 30, 40]
    assert not (tmp_path / ".evaluated-20.tmp").exists()
    assert [path.name for path in last_evaluated(tmp_path, 20, count=9)] == ["evaluated-10", "evaluated-20"]


def test_fewer_are_found_where_there_were_fewer(tmp_path: Path) -> None:
    save_evaluated(tmp_path, 3, model=Saved(), count=5)
    assert [path.name for path in last_evaluated(tmp_path, 3, count=5)] == ["evaluated-3"]
