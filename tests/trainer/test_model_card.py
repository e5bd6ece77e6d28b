"""README.md is a model card, and its code runs."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.config import TrainConfig

from .reports import MEASURED, TASK_LABELS, front_matter, single_label, write


def test_the_card_opens_with_metadata_of_the_hub(tmp_path: Path) -> None:
    write(tmp_path, measured=single_label())
    found = front_matter(tmp_path)
    assert found.pop("model-index")[0]["name"] == "all-MiniLM-L6-v2-single-label"
    assert found == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "tags": ["portabert", "single-label"],
        "metrics": ["accuracy", "f1"],
    }


def test_the_card_names_no_file_and_no_folder(tmp_path: Path) -> None:
    config = TrainConfig(model="/home/someone/model", train="/home/someone/train.csv", task="token")
    write(tmp_path, config=config, labels=TASK_LABELS["token"], measured=MEASURED["token"]())
    assert front_matter(tmp_path)["pipeline_tag"] == "token-classification"
    assert "base_model" not in front_matter(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "someone" not in card
    assert "`date`, `place`" in card


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["single-label", "multi-label", "regression", "token", "pair"])
def test_a_real_run_has_a_report_and_its_card_s_code_runs(
    shape: str, make_run: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("bert", shape)
    assert "Training report" in (run / "report.html").read_text(encoding="utf-8")
    card = (run / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    capsys.readouterr()
    exec(code.replace("RUN", str(run)), {})
    assert capsys.readouterr().out.startswith(("[", "{"))
