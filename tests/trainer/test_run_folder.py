"""A run begins only where it can end: folders that cannot be written and disks without room are told beforehand."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainer.config import TrainConfig
from trainer.errors import RunError
from trainer.run_folder import check_folder, check_space, make_folder

needs_a_user = pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")


def config(output: Path, **settings: Any) -> TrainConfig:
    return TrainConfig(output=output, **settings)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that says how many bytes the disk has free."""

    def set_free(free: float) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))

    return set_free


def test_a_disk_without_room_is_told_with_what_is_needed(tmp_path: Path, disk: Any) -> None:
    """1 GB of weights, all trained: 2 states of 3 GB and 3 times the weights."""
    disk(8.9e9)
    message = r"run will need 9\.0 GB while training \(2 states of 3\.0 GB and 3 times the weights\), and its disk has 8\.9 GB free"
    with pytest.raises(RunError, match=message):
        check_space(config(tmp_path / "deep" / "run"), num_weights=250_000_000, num_trained=250_000_000)
    disk(9.1e9)
    check_space(config(tmp_path / "run"), num_weights=250_000_000, num_trained=250_000_000)
    with pytest.raises(RunError, match=r"lower --keep-checkpoints \(it is 2\)"):
        check_space(config(tmp_path / "run", keep_checkpoints=2), num_weights=250_000_000, num_trained=250_000_000)


def test_with_adapters_a_state_holds_what_is_trained_and_no_more(tmp_path: Path, disk: Any) -> None:
    """1 GB of weights, a hundredth of them trained: 2 states of .03 GB and 3 times the weights."""
    disk(3e9)
    with pytest.raises(
        RunError, match=r"will need 3\.1 GB while training \(2 states of 0\.0 GB and 3 times the weights\)"
    ):
        check_space(config(tmp_path / "run", lora_rank=8), num_weights=250_000_000, num_trained=2_500_000)
    disk(3.1e9)
    check_space(config(tmp_path / "run", lora_rank=8), num_weights=250_000_000, num_trained=2_500_000)


def test_what_a_mean_is_of_takes_room(tmp_path: Path, disk: Any) -> None:
    """Two evaluations for the run and for each state, and the mean."""
    disk(13.9e9)
    message = r"will need 14\.0 GB .*\(2 states of 3\.0 GB and 8 times the weights\).* or --average \(it is 2\)\."
    with pytest.raises(RunError, match=message):
        check_space(config(tmp_path / "run", average=2), num_weights=250_000_000, num_trained=250_000_000)
    disk(14.1e9)
    check_space(config(tmp_path / "run", average=2), num_weights=250_000_000, num_trained=250_000_000)


def test_a_run_that_is_replaced_gives_its_room(tmp_path: Path, disk: Any) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "model.safetensors").write_bytes(b"x" * 1000)
    disk(8000)
    check_space(config(tmp_path / "old"), num_weights=250, num_trained=250)
    with pytest.raises(RunError, match="will need"):
        check_space(config(tmp_path / "new"), num_weights=250, num_trained=250)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        RunError, match=r"file/run cannot be written: .*Choose another --output, or mend its permissions"
    ):
        make_folder(config(tmp_path / "file" / "run"))


@needs_a_user
def test_a_read_only_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match=r"run cannot be written: Permission denied"):
        make_folder(config(tmp_path / "run"))


def test_more_states_may_be_kept_when_a_run_is_resumed_and_nothing_else_may_differ(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_folder(config(run))
    check_folder(config(run, resume=True, keep_checkpoints=3), main=True)
    with pytest.raises(RunError, match=r"--epochs was 10, is 2\n  --seed was 0, is 4"):
        check_folder(config(run, resume=True, epochs=2, seed=4), main=True)
