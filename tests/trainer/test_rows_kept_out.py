"""Rows stand in one place of a run, the report's section that says so, and --show-rows 0 keeps them out of that, too."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from export import speed
from export.__main__ import main as export
from trainer.__main__ import main

MARK = "zebra"  # a word of every row, and of nothing else

Make = Callable[..., Path]


@pytest.fixture
def make(make_encoder_folder: Callable[[str], Path], tmp_path: Path, texts: list[str]) -> Make:
    """Give a function that trains on marked rows: flags → run folder."""
    for split in ("train", "dev", "held"):
        rows = [
            {"text": f"{MARK} {split} {text[:40]}", "label": "ab"[index % 2]} for index, text in enumerate(texts[:40])
        ]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(*flags: str) -> Path:
        files = [
            f"--{flag}={tmp_path / split}.jsonl"
            for flag, split in (("train", "train"), ("eval", "dev"), ("test", "held"))
        ]
        given = [
            f"--model={make_encoder_folder('bert')}",
            f"--output={tmp_path / 'run'}",
            "--epochs=1",
            "--precision=fp32",
        ]
        assert main([*given, *files, "--overwrite", *flags]) == 0
        return tmp_path / "run"

    return run


def holding(folder: Path, phrase: str = MARK) -> list[str]:
    return sorted(
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and phrase.encode() in file.read_bytes()
    )


@pytest.mark.slow
def test_the_report_holds_evaluation_rows_alone_and_nothing_else_holds_any(make: Make) -> None:
    run = make("--track", "tensorboard")
    assert [name for name in holding(run) if name not in ("tokenizer.json", ".export")] == ["report.html"]
    assert holding(run, f"{MARK} dev") == ["report.html"]
    assert holding(run, f"{MARK} train") == holding(run, f"{MARK} held") == []
    page = (run / "report.html").read_text(encoding="utf-8")
    section = page[page.index("<h2>Hardest rows") :]
    assert "<strong>This section holds rows of the evaluation data</strong>; --show-rows 0 leaves them out" in section
    assert page.count(MARK) == section[: section.index("</section>")].count(MARK) == 2 * 10


@pytest.mark.slow
def test_show_rows_0_keeps_them_out_of_the_report(make: Make) -> None:
    run = make("--show-rows=0")
    assert holding(run) == []
    assert "Hardest rows" not in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_export_takes_nothing_from_the_report(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make()
    (run / "report.html").write_text("only in the report: quagga " + (run / "report.html").read_text())
    for name, value in (("MAX_TEXTS", 16), ("REPEATS", 1), ("LATENCY_TEXTS", 2)):
        monkeypatch.setattr(speed, name, value)
    lenient = ["--variants", "fp32", "--max-change=1", "--max-metric-drop=1"]
    assert export([str(run), f"--output={tmp_path / 'bundle'}", *lenient]) == 0
    assert holding(tmp_path / "bundle") == holding(tmp_path / "bundle", "quagga") == []
    assert holding(run / ".export") == holding(run / ".export", "quagga") == []
