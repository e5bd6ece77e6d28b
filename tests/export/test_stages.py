"""What an earlier export did is used again where nothing it depends on has changed, and never otherwise."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runtime
from export.__main__ import main
from export.stages import Stages

Make = Callable[[str, str], Path]


class Counting:
    """A stage that counts how often it is made."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, folder: Path) -> dict[str, Any]:
        self.count += 1
        (folder / "onnx").mkdir(exist_ok=True)
        (folder / "onnx" / "model").write_text(f"made {self.count}")
        return {"number": self.count}


def run(stages: Stages, into: Path, make: Counting, *depends_on: object) -> int:
    into.mkdir(exist_ok=True)
    result = stages.run("graph", *depends_on, make=make, into=into)
    assert (into / "onnx" / "model").read_text() == f"made {result['number']}"
    return int(result["number"])


def test_the_same_is_made_once_and_anything_else_anew(tmp_path: Path) -> None:
    said: list[str] = []
    stages, make = Stages(tmp_path / "kept", ("weights",), said.append), Counting()
    numbers = [run(stages, tmp_path / f"b{turn}", make, flag) for turn, flag in enumerate("aabbab")]
    assert numbers == [1, 1, 2, 2, 3, 4], "one result a stage is kept, the last"
    assert said == ["graph: as an earlier export made it"] * 2
    assert run(stages._replace(base=("other weights",)), tmp_path / "c", make, "b") == 5


@pytest.mark.parametrize("damage", ["changed", "missing", "no record", "not JSON", "not an object"])
def test_a_kept_result_that_is_not_whole_is_made_anew(tmp_path: Path, damage: str) -> None:
    stages, make = Stages(tmp_path / "kept", (), lambda line: None), Counting()
    run(stages, tmp_path / "a", make)
    model, record = tmp_path / "kept" / "graph" / "onnx" / "model", tmp_path / "kept" / "graph" / "stage.json"
    {
        "changed": lambda: model.write_text("mode 1"),
        "missing": model.unlink,
        "no record": record.unlink,
        "not JSON": lambda: record.write_text("{"),
        "not an object": lambda: record.write_text("[]"),
    }[damage]()
    assert run(stages, tmp_path / "b", make) == 2
    assert run(stages, tmp_path / "c", make) == 2


def test_a_stage_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def breaks(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path / "kept", (), print).run("graph", make=breaks, into=tmp_path)
    assert list((tmp_path / "kept").iterdir()) == []


def test_what_a_killed_export_left_is_swept_after_a_day(tmp_path: Path) -> None:
    stages = Stages(tmp_path / "kept", (), lambda line: None)
    for name, age_s in ((".int8-old", 2 * 24 * 3600), (".int8-live", 60)):
        (tmp_path / "kept" / name).mkdir(parents=True)
        os.utime(tmp_path / "kept" / name, (time.time() - age_s,) * 2)
    run(stages, tmp_path / "a", Counting())
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {".int8-live", "graph"}


def test_a_folder_that_cannot_be_written_is_told_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    said: list[str] = []
    assert run(Stages(tmp_path / "kept", (), said.append), tmp_path / "a", Counting()) == 1
    assert said[0].startswith("note: nothing is kept for the next export, ")


def test_a_second_export_writes_the_same_models_and_says_what_it_used(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "run"
    shutil.copytree(make_run("bert", "single-label"), source, ignore=shutil.ignore_patterns(".export"))
    flags = [str(source), "--max-change=1", "--max-metric-drop=1"]
    assert main([*flags, f"--output={tmp_path / 'a'}"]) == 0
    assert "as an earlier export made it" not in capsys.readouterr().err
    assert main([*flags, f"--output={tmp_path / 'b'}"]) == 0
    said = capsys.readouterr().err
    assert [f"{stage}: as an earlier export made it" in said for stage in ("graph", "pytorch", "int8")] == [True] * 3
    one, two = (json.loads((tmp_path / name / "bundle.json").read_text()) for name in "ab")
    same = [name for name in one["files"] if name not in ("report.json", "README.md")]  # they hold speeds
    assert {name: one["files"][name] for name in same} == {name: two["files"][name] for name in same}
    assert one["variants"] == two["variants"]
    reports = [json.loads((tmp_path / name / "report.json").read_text())["lines"][-1] for name in "ab"]
    assert reports[0]["restored"] == reports[1]["restored"]
    assert not (tmp_path / "b" / "pytorch.npy").exists(), "a bundle holds no answers to anybody's rows"
    assert main([*flags, f"--output={tmp_path / 'c'}", "--variants=int8", "--no-reuse"]) == 0
    assert "as an earlier export made it" not in capsys.readouterr().err
    assert runtime.load(tmp_path / "c").opened.variant == "int8"
