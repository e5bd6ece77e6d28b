"""Folders that are there already: a run is replaced only when asked, and what is no run never."""

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle import sha256
from runtime.errors import InputError
from trainer.checkpoint import open_run, read_record
from trainer.errors import ModelError, RunError

from .runs import Run


@pytest.fixture
def old_run(train: Run) -> Path:
    return train(epochs=1)


def test_a_run_that_is_there_is_refused_and_replaced_when_asked(old_run: Path, train: Run) -> None:
    before = sha256(old_run / "model.safetensors")
    with pytest.raises(RunError, match=rf"{old_run} exists already\. .*--overwrite"):
        train(epochs=1, seed=5)
    assert sha256(old_run / "model.safetensors") == before
    (old_run / "mine.txt").write_text("left over")
    train(epochs=1, seed=5, overwrite=True)
    assert sha256(old_run / "model.safetensors") != before
    assert not (old_run / "mine.txt").exists()


@pytest.mark.parametrize(
    "settings",
    [{"model": "no/such/folder"}, {"max_length": 999}, {"train": "none.csv"}, {"labels": ("a", "b")}],
    ids=str,
)
def test_what_cannot_be_trained_does_not_cost_the_older_run(
    settings: dict[str, Any], old_run: Path, train: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.utils.hub._is_offline_mode", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = {file.name: sha256(file) for file in old_run.iterdir()}
    with pytest.raises((ModelError, InputError)):
        train(overwrite=True, **settings)
    assert {file.name: sha256(file) for file in old_run.iterdir()} == before
    with pytest.raises((ModelError, InputError)):
        train("new", **settings)
    assert not old_run.with_name("new").exists(), "and leaves no half of a new one"


def test_a_folder_that_is_no_run_is_never_replaced(train: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.png").write_bytes(b"png")
    with pytest.raises(RunError, match="photos is not a run of this program; it will not be replaced"):
        train("photos", overwrite=True)
    assert (tmp_path / "photos" / "me.png").exists()


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_in_the_place_of_a_run_is_refused(overwrite: bool, train: Run, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RunError, match="taken is a file; a run is a folder"):
        train("taken", overwrite=overwrite)
    assert (tmp_path / "taken").read_text() == "a file"


def test_an_empty_folder_is_used(train: Run, tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    assert read_record(train("mounted", epochs=1)).complete


def test_a_run_of_another_version_is_refused_with_the_fields_that_differ(old_run: Path) -> None:
    values = json.loads((old_run / "train_config.json").read_text())
    del values["epochs"]
    (old_run / "train_config.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match=r"does not have the fields this version writes \(differing: epochs\)"):
        open_run(old_run)
