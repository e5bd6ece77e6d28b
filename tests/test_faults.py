"""Processes killed and interrupted for real: what they leave is whole or is refused, and the next call puts it right.

Every process is a `python -m trainer` or `python -m export` of its own, sent a signal just before one of its own file operations, so that the moment is the
same on a fast machine and a busy one.
"""

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file

import runtime.__main__
from export.__main__ import main as export
from runtime.bundle import MANIFEST, read
from trainer import demo
from trainer.__main__ import main as train
from trainer.checkpoint import CONFIG, RECORD, open_run, read_record
from trainer.errors import RunError
from trainer.states import latest_state

ROOT = Path(__file__).parents[1]

# Runs a module as `python -m` does; before the file operation whose arguments match, it sends itself a signal.
SIGNALLED = """
import os, re, runpy, sys
number, event, pattern, count, module = int(sys.argv[1]), sys.argv[2], re.compile(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
def hook(name, arguments):
    global count
    if name == event and pattern.search(" ".join(map(str, arguments))):
        count -= 1
        if count == 0:
            os.kill(os.getpid(), number)
sys.addaudithook(hook)
sys.argv = sys.argv[5:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


class Moment(NamedTuple):
    """The count-th time that a file operation, as Python's audit events tell it, matches a pattern."""

    event: str
    pattern: str
    count: int = 1


class Finished(NamedTuple):
    """How a process ended and what it said on stderr."""

    returncode: int
    stderr: str


def run_signalled(number: signal.Signals, moment: Moment, module: str, flags: list[str]) -> Finished:
    """Run `python -m module flags…` in a process that gets a signal at a moment."""
    where = [str(int(number)), moment.event, moment.pattern, str(moment.count)]
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, *where, module, *flags],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        encoding="utf-8",
        timeout=200,
    )
    return Finished(done.returncode, done.stderr)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Give every process the same number of threads: sums over more of them may round otherwise."""
    patch = pytest.MonkeyPatch()
    patch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    patch.undo()


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    """Run two processes at a time; each needs seconds to import torch."""
    with ThreadPoolExecutor(2) as running:
        yield running


def write_rows(file: Path, rows: Iterable[tuple[str, str]]) -> str:
    """Write a CSV file of texts and labels."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    return str(file)


def demo_texts(split: str) -> Iterator[str]:
    return (row.values["text"] for row in demo.rows("intent", split=split))


# The trainer. 96 rows in batches of 16 are 6 steps an epoch, 18 in all; an evaluation every 3 steps, a state every 2.

KILLED_TRAINERS = {
    "before a state is renamed": Moment("os.rename", r"\.state-8\.tmp .*state-8\.pt"),
    "before the second best is renamed": Moment("os.rename", r"\.best-\d+\.tmp .*/best-\d+", 2),
    "before older best weights are removed": Moment("shutil.rmtree", r"/best-\d+"),
    "before a line of the log": Moment("open", r"/metrics\.jsonl a", 4),
    "while the result is copied": Moment("os.rename", r"/\.model\.safetensors\.tmp "),
    "before the states are removed": Moment("shutil.rmtree", r"/checkpoints( None)?$"),
}
STOPPED_TRAINERS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
DURING_STATE_8 = Moment("os.rename", r"\.state-8\.tmp .*state-8\.pt")


class Trainers(NamedTuple):
    """Runs of the same flags: one undisturbed, the others killed or stopped."""

    flags: list[str]
    undisturbed: Path
    runs: dict[str, Path]
    finished: dict[str, Future[Finished]]


@pytest.fixture(scope="module")
def trainers(
    tmp_path_factory: pytest.TempPathFactory, make_encoder_folder: Callable[..., Path], pool: ThreadPoolExecutor
) -> Trainers:
    """Start all trainers, on rows whose last word tells their label: a few steps learn that."""
    folder = tmp_path_factory.mktemp("trainers")
    train_rows, eval_rows = (
        [
            (f"{text.split()[0]} {label}", label)
            for text, label in zip(islice(demo_texts(split), number), cycle(("parcel", "refund")))
        ]
        for split, number in (("train", 96), ("eval", 48))
    )
    flags = [
        f"--model={make_encoder_folder('bert')}",
        f"--train={write_rows(folder / 'train.csv', train_rows)}",
        f"--eval={write_rows(folder / 'eval.csv', eval_rows)}",
        "--seed=1",
        "--epochs=3",
        "--batch-size=16",
        "--learning-rate=0.01",
        "--eval-steps=3",
        "--save-steps=2",
        "--device=cpu",
        "--precision=fp32",
    ]
    runs = {name: folder / name.replace(" ", "-") for name in (*KILLED_TRAINERS, *STOPPED_TRAINERS)}
    plan = [(name, signal.SIGKILL, moment) for name, moment in KILLED_TRAINERS.items()]
    plan += [(name, number, DURING_STATE_8) for name, number in STOPPED_TRAINERS.items()]
    finished = {
        name: pool.submit(run_signalled, number, moment, "trainer", [*flags, f"--output={runs[name]}"])
        for name, number, moment in plan
    }
    assert train([*flags, f"--output={folder / 'undisturbed'}"]) == 0
    return Trainers(flags, folder / "undisturbed", runs, finished)


def assert_same_result(run: Path, undisturbed: Path) -> None:
    """Hold a resumed run to one that was never disturbed: every weight, bit for bit, and the log, byte for byte."""
    found, expected = read_record(run), read_record(undisturbed)
    assert found.complete
    assert not (run / "checkpoints").exists()
    assert (found.step, found.best_step, found.eval) == (expected.step, expected.best_step, expected.eval)
    weights, expected_weights = load_file(run / "model.safetensors"), load_file(undisturbed / "model.safetensors")
    for name in expected_weights:
        np.testing.assert_array_equal(weights[name], expected_weights[name], err_msg=name)
    assert (run / "metrics.jsonl").read_bytes() == (undisturbed / "metrics.jsonl").read_bytes()


def test_the_undisturbed_run_gets_better_more_than_once(trainers: Trainers) -> None:
    """Else the moments above would not come, and equal results would say little."""
    record = read_record(trainers.undisturbed)
    assert record.complete
    assert record.best_step is not None
    assert record.best_step > 3
    assert record.eval is not None
    assert record.eval["accuracy"] > 0.8


@pytest.mark.parametrize("name", [name for name in KILLED_TRAINERS if name != "before the states are removed"])
def test_a_killed_run_is_refused_and_resumes_to_the_result_of_an_undisturbed_one(
    trainers: Trainers, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, flags = trainers.runs[name], [*trainers.flags, f"--output={trainers.runs[name]}"]
    finished = trainers.finished[name].result()
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    with pytest.raises(RunError, match=f"{run} has no run.json: it was stopped before its end.*--resume"):
        open_run(run)
    assert export([str(run), f"--output={run}-bundle"]) == 1
    assert not Path(f"{run}-bundle").exists()
    assert train(flags) == 1
    assert f"error: {run} exists already. Choose another --output, go on with it by --resume" in capsys.readouterr().err
    resumed_from = latest_state(run / "checkpoints")
    assert resumed_from is not None
    assert train([*flags, "--resume"]) == 0
    assert f"resumed at step {resumed_from.stem.removeprefix('state-')} of 18" in capsys.readouterr().err
    assert_same_result(run, trainers.undisturbed)


def test_a_run_killed_after_its_result_is_whole(trainers: Trainers, capsys: pytest.CaptureFixture[str]) -> None:
    name = "before the states are removed"
    run = trainers.runs[name]
    finished = trainers.finished[name].result()
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    assert open_run(run).notes == ()
    assert (run / "model.safetensors").read_bytes() == (trainers.undisturbed / "model.safetensors").read_bytes()
    assert train([*trainers.flags, f"--output={run}", "--resume"]) == 1
    assert f"error: {run} is complete; there is nothing to resume." in capsys.readouterr().err


@pytest.mark.parametrize("name", STOPPED_TRAINERS)
def test_a_stopped_run_says_how_to_go_on_and_does(
    trainers: Trainers, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The signal comes while step 8 is saved; step 9 is the next that looks at it."""
    run, finished, flags = trainers.runs[name], trainers.finished[name].result(), trainers.flags
    assert finished.returncode == 130, finished.stderr
    assert finished.stderr.endswith(
        f"stopped at step 9 of 18; {run} holds the best weights so far. Go on with the same command and --resume.\n"
    )
    assert "Traceback" not in finished.stderr
    assert open_run(run).notes == (f"{run} was interrupted at step 9 of 18; its best weights so far are used",)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(run)
    tokenizer = transformers.AutoTokenizer.from_pretrained(run)
    with torch.no_grad():
        assert model(**tokenizer("ok", return_tensors="pt")).logits.isfinite().all()

    changed = [*flags, f"--output={run}", "--resume", "--seed=2", "--weight-decay=0.5"]
    assert train(changed) == 1
    said = capsys.readouterr().err
    assert "--seed was 1, is 2" in said
    assert "--weight-decay was 0.01, is 0.5" in said
    assert "--learning-rate" not in said
    assert read_record(run).step == 9

    assert train([*flags, f"--output={run}", "--resume"]) == 0
    assert "resumed at step 9 of 18" in capsys.readouterr().err
    assert_same_result(run, trainers.undisturbed)


def test_a_complete_run_is_neither_resumed_nor_silently_replaced(
    trainers: Trainers, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainers.undisturbed
    before = (run / RECORD).read_bytes()
    for more, message in (
        ([], f"error: {run} exists already. Choose another --output, or replace it with --overwrite."),
        (["--resume"], f"error: {run} is complete; there is nothing to resume. Train again with --overwrite."),
        (["--resume", "--overwrite"], "error: --resume and --overwrite exclude each other. Got 'both' instead."),
    ):
        assert train([*trainers.flags, f"--output={run}", *more]) == 1
        assert message in capsys.readouterr().err
        assert (run / RECORD).read_bytes() == before


def test_a_folder_that_is_no_run_is_neither_replaced_nor_resumed(
    trainers: Trainers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("chapter 1")
    for more, message in (
        ([], f"error: {tmp_path} exists already. Choose another --output, or replace it with --overwrite."),
        (["--overwrite"], f"error: {tmp_path} is not a run of this program; it will not be replaced."),
        (["--resume"], f"error: --resume, but {tmp_path} holds no run. Start it without --resume."),
    ):
        assert train([*trainers.flags, f"--output={tmp_path}", *more]) == 1
        assert message in capsys.readouterr().err
        assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_run_whose_weights_are_not_those_of_its_record_is_refused(
    trainers: Trainers, tmp_path: Path, damage: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trainers.undisturbed, run)
    weights = run / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    if damage == "gone":
        weights.unlink()
    with pytest.raises(RunError, match=r"model\.safetensors is not the file run\.json speaks of.*--resume"):
        open_run(run)


@pytest.mark.parametrize("name", [RECORD, CONFIG])
def test_a_run_with_a_damaged_record_is_refused(trainers: Trainers, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(trainers.undisturbed, run)
    content = (run / name).read_bytes()
    for end in range(0, len(content) - 2, 50):
        (run / name).write_bytes(content[:end])
        with pytest.raises(RunError, match=f"{name} is not valid JSON"):
            open_run(run)
    (run / name).write_text("[]")
    with pytest.raises(RunError, match=f"{name} does not have the fields"):
        open_run(run)


def test_a_damaged_state_is_told_and_the_run_can_begin_anew(
    trainers: Trainers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trainers.undisturbed, run)
    (run / RECORD).unlink()
    (run / "checkpoints").mkdir()
    state = run / "checkpoints" / "state-12.pt"
    for content in (b"", b"PK\3\4", b"not a state"):
        state.write_bytes(content)
        assert train([*trainers.flags, f"--output={run}", "--resume"]) == 1
        assert f"error: {state} is damaged: " in capsys.readouterr().err
    state.unlink()
    assert train([*trainers.flags, f"--output={run}", "--resume"]) == 0
    assert_same_result(run, trainers.undisturbed)


# The exporter. The old bundle has fp32 and int8, the new one fp32 alone.

KILLED_EXPORTERS = {
    # name: (moment, variants of what is there before the kill and after it; None for nothing)
    "first export, before the graph": (Moment("os.mkdir", r"/onnx "), None, None),
    "first export, before the manifest is renamed": (Moment("os.rename", r"\.bundle\.json\.tmp "), None, None),
    "before the quantized model": (Moment("open", r"model_quantized\.onnx wb?"), "fp32 int8", "fp32 int8"),
    "before the old one is moved aside": (Moment("os.rename", r"/bundle .*/\.bundle\.old "), "fp32 int8", "fp32 int8"),
    "between the two renames": (Moment("os.rename", r"/\.bundle\.new-\w+ .*/bundle "), "fp32 int8", None),
    "while the old one is removed": (Moment("os.remove", r"tokenizer\.json"), "fp32 int8", "fp32"),
}


class Exporters(NamedTuple):
    """Exports of the same run, all killed."""

    flags: list[str]
    targets: dict[str, Path]
    finished: dict[str, Future[Finished]]


@pytest.fixture(scope="module")
def exporters(
    tmp_path_factory: pytest.TempPathFactory,
    make_run: Callable[[str, str], Path],
    make_bundle: Callable[[str, str], Path],
    pool: ThreadPoolExecutor,
) -> Exporters:
    """Start all exporters."""
    old, folder = make_bundle("bert", "single-label"), tmp_path_factory.mktemp("exporters")
    rows = [(text, label) for text, label in zip(islice(demo_texts("eval"), 24), cycle(read(old).labels))]
    flags = [str(make_run("bert", "single-label")), f"--eval={write_rows(folder / 'eval.csv', rows)}", "--overwrite"]
    targets = {name: folder / str(number) / "bundle" for number, name in enumerate(KILLED_EXPORTERS)}
    for name, (_, before, _) in KILLED_EXPORTERS.items():
        targets[name].parent.mkdir()
        if before:
            shutil.copytree(old, targets[name])
    finished = {
        name: pool.submit(
            run_signalled,
            signal.SIGKILL,
            moment,
            "export",
            [*flags, f"--output={targets[name]}", *variants_flags(name)],
        )
        for name, (moment, _, _) in KILLED_EXPORTERS.items()
    }
    return Exporters(flags, targets, finished)


def variants_flags(name: str) -> list[str]:
    if "quantized" in name:
        return ["--max-change=1", "--max-metric-drop=1"]
    return ["--variants", "fp32"]


@pytest.mark.parametrize("name", KILLED_EXPORTERS)
def test_a_killed_export_leaves_the_old_bundle_the_new_one_or_none(
    exporters: Exporters, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target, finished, after = exporters.targets[name], exporters.finished[name].result(), KILLED_EXPORTERS[name][2]
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    assert os.listdir(target.parent) != ["bundle"], "the kill left nothing to put right"
    assert target.exists() == (after is not None)
    if after:
        assert " ".join(read(target).variants) == after
        assert runtime.__main__.main(["check", str(target)]) == 0
    for left in target.parent.glob(".bundle.new-*"):
        assert not (left / MANIFEST).exists() or read(left)
    assert export([*exporters.flags, f"--output={target}", "--variants", "fp32"]) == 0
    assert runtime.__main__.main(["check", str(target)]) == 0
    assert "fp32 answer as they should" in capsys.readouterr().out
    assert os.listdir(target.parent) == ["bundle"]
