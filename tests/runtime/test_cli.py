"""`python -m runtime`: what it prints, where, and with which exit code."""

import io
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime.__main__ import main
from runtime.testing import tiny_bundle

from .classifiers import engine_for

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:texts longer than:UserWarning")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Give a function that makes a tiny bundle which the command line opens with a fake engine: (task, pair) → its path."""

    def make(task: str = "single-label", *, pair: bool = False) -> str:
        engine = engine_for(task)
        monkeypatch.setattr("runtime.__main__.load", lambda path, **_: runtime.load(path, engine=engine))
        return str(tiny_bundle(tmp_path / "bundle", task=task, pair=pair))

    return make


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Give a function that sets standard input."""
    return lambda content: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def answered(path: str, texts: list[Any], task: str = "single-label") -> list[runtime.Prediction]:
    engine = engine_for(task)
    return runtime.load(path, engine=engine).predict(texts)


# predict


def test_predict_prints_a_line_a_text(fake: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    bundle = fake()
    assert main(["predict", bundle, "my parcel", "late"]) == 0
    first, second = answered(bundle, ["my parcel", "late"])
    assert (
        capsys.readouterr().out
        == f"{first.label}  {first.score:.4f}\tmy parcel\n{second.label}  {second.score:.4f}\tlate\n"
    )


@pytest.mark.parametrize(
    ("task", "form"),
    [
        ("single-label", r"(no|yes)  \d\.\d{4}"),
        ("multi-label", r"(delivery|money|praise|, )+  (0\.\d{4}|, )+"),
        ("regression", r"-?\d\.\d{4}"),
        ("token", r"(NAME:'[a-z ]+'|, )+"),
    ],
)
def test_every_task_has_its_summary(
    task: str, form: str, fake: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", fake(task), "my parcels never came"]) == 0
    assert re.fullmatch(form + "\tmy parcels never came\n", capsys.readouterr().out)


def test_a_cut_text_is_warned_of_in_one_plain_line(
    fake: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    warnings.simplefilter("always")
    assert main(["predict", fake(), "late " * 99]) == 0
    assert capsys.readouterr().err == (
        "warning: texts longer than 32 tokens were cut; each such answer has truncated=True\n"
    )


def test_an_answer_without_labels_is_a_dash_and_a_cut_text_is_marked(
    fake: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = fake("multi-label")
    manifest = json.loads((Path(bundle) / "bundle.json").read_text())
    (Path(bundle) / "bundle.json").write_text(json.dumps({**manifest, "thresholds": [1, 1, 1]}))
    text = "late " * 40
    assert main(["predict", bundle, text]) == 0
    assert capsys.readouterr().out == f"–  –  (cut)\t{text}\n"


def test_an_answer_that_abstains_is_marked_and_a_key_in_json(
    fake: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = fake()
    manifest = json.loads((Path(bundle) / "bundle.json").read_text())
    (Path(bundle) / "bundle.json").write_text(json.dumps({**manifest, "format": 2, "abstain_below": 1.0}))
    assert main(["predict", bundle, "late " * 40]) == 0
    assert re.fullmatch(r"(no|yes)  0\.\d{4}  \(abstained\)  \(cut\)\t(late )+\n", capsys.readouterr().out)
    assert main(["predict", bundle, "--json", "late"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert list(row) == ["text", "predicted_label", "predicted_score", "abstained", "truncated"]
    assert row["abstained"] is True


def test_the_commands_hand_on_the_abstain_level(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for level in ("1", "0.01", "0"):
        assert main(["predict", str(bundle), "--engine=ort-cpu", "--json", f"--abstain-below={level}", "late"]) == 0
        told.append(json.loads(capsys.readouterr().out).get("abstained"))
    assert told == [True, False, None]
    assert main(["info", str(bundle), "--engine=ort-cpu", "--abstain-below=0.25"]) == 0
    assert re.search(r"^abstains +below a score of 0\.2500$", capsys.readouterr().out, flags=re.MULTILINE)
    assert main(["predict", str(bundle), "--abstain-below=2", "late"]) == 1
    assert "error: abstain_below must be a probability from 0 to 1. Got 2.0 instead." in capsys.readouterr().err


def test_predict_as_json_is_an_object_a_line(fake: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    bundle = fake()
    assert main(["predict", bundle, "--json", "my parcel", "é 🙂"]) == 0
    out = capsys.readouterr().out
    expected = [
        {"text": text, "predicted_label": one.label, "predicted_score": one.score, "truncated": False}
        for text, one in zip(["my parcel", "é 🙂"], answered(bundle, ["my parcel", "é 🙂"]), strict=True)
    ]
    assert [json.loads(line) for line in out.splitlines()] == expected
    assert "é 🙂" in out


def test_entities_are_objects_in_json(fake: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    bundle = fake("token")
    assert main(["predict", bundle, "--json", "my parcels never came"]) == 0
    (one,) = answered(bundle, ["my parcels never came"], "token")
    assert one.entities
    assert json.loads(capsys.readouterr().out)["predicted_entities"] == [entity._asdict() for entity in one.entities]


def test_pairs_are_given_two_by_two(fake: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    bundle = fake(pair=True)
    assert main(["predict", bundle, "my parcel", "late", "late", "my parcel"]) == 0
    assert [line.partition("\t")[2] for line in capsys.readouterr().out.splitlines()] == [
        "my parcel | late",
        "late | my parcel",
    ]
    assert main(["predict", bundle, "--json", "my parcel", "late"]) == 0
    assert json.loads(capsys.readouterr().out).items() >= {"text": "my parcel", "text_pair": "late"}.items()


def test_an_odd_number_of_texts_for_pairs_is_an_error(
    fake: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", fake(pair=True), "a", "b", "c"]) == 1
    captured = capsys.readouterr()
    assert captured.err == "error: this model compares two texts, so give them two by two. Got 3 instead.\n"
    assert captured.out == ""


def test_standard_input_has_a_text_or_an_object_a_line(
    fake: Callable[..., str], stdin: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines end at newlines alone, and empty ones are no texts."""
    bundle = fake()
    stdin('my parcel\r\n\n  \n{"text": "la\\nte"}\na\rb\u0085c\u2028d'.encode())
    assert main(["predict", bundle, "--json"]) == 0
    texts = ["my parcel", "la\nte", "a\rb\u0085c\u2028d"]
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.split("\n")[:-1]] == texts


def test_pairs_on_standard_input_are_objects(
    fake: Callable[..., str], stdin: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = fake(pair=True)
    stdin(b'{"text": "my parcel", "text_pair": "late"}\n')
    assert main(["predict", bundle]) == 0
    (one,) = answered(bundle, [("my parcel", "late")])
    assert capsys.readouterr().out == f"{one.label}  {one.score:.4f}\tmy parcel | late\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'fine\n{"text": "a"\n', "line 2 of standard input begins with '{' and is not JSON: "),
        (b"fine\n\xff\n", "line 2 of standard input is not UTF-8: "),
        (b'fine\n{"text": 5}\n', "text 1 must be a string: this model takes single texts. Got 5 instead"),
        (b'{"text": "\\ud83d"}\n', "text 0 holds half a surrogate pair"),
        (b'{"id": 1, "text": "a"}\n', "text 0 must be {"),
    ],
)
def test_what_cannot_be_read_on_standard_input_is_an_error(
    content: bytes,
    message: str,
    fake: Callable[..., str],
    stdin: Callable[[bytes], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    stdin(content)
    assert main(["predict", fake()]) == 1
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_an_empty_standard_input_has_no_answers(
    fake: Callable[..., str], stdin: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    stdin(b"")
    assert main(["predict", fake()]) == 0
    assert capsys.readouterr().out == ""


# score


def test_score_writes_the_file_and_says_so(
    fake: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text("body;id\nmy parcel;1\n" + "late " * 40 + ";2\n")
    flags = ["--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv"), "--text-column", "body"]
    assert main(["score", fake(), *flags, "--delimiter", ";"]) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(rf"2 rows, 1 of them cut to the model's length, [\d,]+ rows/s, in {tmp_path}/out\.csv\n", out)
    header, first, _ = (tmp_path / "out.csv").read_text().splitlines()
    assert (header, first[:12]) == ("body;id;predicted_label;predicted_score;truncated", "my parcel;1;")


def test_score_finds_the_second_text_of_pairs_by_itself(fake: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a", "text_pair": "b"}\n')
    bundle = fake(pair=True)
    assert main(["score", bundle, "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]) == 0
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["predicted_score"] == answered(bundle, [("a", "b")])[0].score


def test_score_reads_a_file_without_header_or_extension(fake: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("1,my parcel\n2,late\n")
    flags = ["--input", str(tmp_path / "in.txt"), "--format", "csv", "--columns", "id", "text"]
    assert main(["score", fake(), *flags, "--output", str(tmp_path / "out.jsonl")]) == 0
    assert [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == ["1", "2"]


def test_rows_that_cannot_be_scored_are_listed(
    fake: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.csv"
    source.write_text('text\nfine\n""\n" "\n')
    assert main(["score", fake(), "--input", str(source), "--output", str(tmp_path / "out.csv")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"error: {source}: 2 problems",
        f"  {source}:3: column 'text' is empty",
        f"  {source}:4: column 'text' is white space only",
    ]
    assert not (tmp_path / "out.csv").exists()


def test_without_tqdm_score_says_what_to_install(
    fake: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert main(["score", fake(), "--input", "a.csv", "--output", "b.csv"]) == 1
    assert (
        capsys.readouterr().err
        == "error: scoring files needs tqdm for its progress bar: pip install 'portabert[score]'\n"
    )


# check and info


def test_check_passes_a_whole_bundle(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(rf"{bundle}: \d+ files whole, fp32, int8 answer as they should\n", out)


def test_check_tells_every_changed_file_and_opens_none(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("onnx/model.onnx", "config.json"):
        content = bytearray((bundle / name).read_bytes())
        content[-2] ^= 1
        (bundle / name).write_bytes(bytes(content))
    assert main(["check", str(bundle)]) == 1
    captured = capsys.readouterr()
    assert [line.split(" was ")[0] for line in captured.err.splitlines()] == [
        "error: config.json",
        "error: onnx/model.onnx",
    ]
    assert captured.out == ""


def golden(bundle: Path, **changes: Any) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    manifest["golden"] |= {name: change(manifest["golden"][name]) for name, change in changes.items()}
    (bundle / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_check_tells_answers_that_are_off_and_by_how_much(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden(bundle, logits=lambda rows: [[rows[0][0] + 5, *rows[0][1:]], *rows[1:]])
    assert main(["check", str(bundle)]) == 1
    fp32, int8 = capsys.readouterr().err.splitlines()
    assert re.match(
        r"error: fp32 on ort-cpu is off by 5 for 'ok'; at most 0\.001 is expected\. Use another variant", fp32
    )
    assert re.match(r"error: int8 on ort-cpu is off by (5|4\.9|5\.1) for 'ok'; at most [\d.e-]+ is expected", int8)


def test_check_tells_a_tokenizer_that_gives_other_ids(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden(bundle, input_ids=lambda rows: [[*rows[0][:-1], 9], *rows[1:]])
    assert main(["check", str(bundle)]) == 1
    assert capsys.readouterr().err.startswith("error: the tokenizer gives other token ids for 'ok': ")


def test_info_describes_machine_and_bundle(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(bundle), "--threads", "1"]) == 0
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["threads"] == "1 (asked for)"
    assert "tokenizers " in lines["versions"]
    assert lines["engine ort-cpu"] == "yes"
    assert lines["task"] == "single-label"
    for name in ("fp32", "int8"):
        told = rf"0\.\d MB, {name}, passed its accuracy gate; answers do not depend on the batch"
        assert re.fullmatch(told, lines[f"variant {name}"])
    assert re.fullmatch(
        r"int8 on onnxruntime [\d.]+, CPU, 1 thread(, 8-bit products the slower way: no VNNI)?", lines["used"]
    )
    assert lines["why"].startswith("ort-cpu: first that runs here")
    assert lines["in a batch"] == "the same to the bit as alone"
    assert lines["profile"] == f"none is used. Make one: python -m runtime tune {bundle}"


def test_info_alone_describes_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    names = [re.split(r"\s{2,}", line)[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["processor", "threads", "versions", *(f"engine {name}" for name in runtime.ENGINES)]


# Exit codes, streams and pipes, in a process of their own


def call(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runtime", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, **options
    )


def test_usage_errors_are_2_and_say_what_was_wrong() -> None:
    for arguments in (["predict"], ["nonsense"], ["predict", "b", "--no-such-flag"], ["info", "--threads", "two"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


def test_help_is_0_and_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert {"predict", "score", "tune", "check", "info"} <= set(re.findall(r"\w+", capsys.readouterr().out))


def test_an_error_is_1_on_standard_error_without_a_traceback(tmp_path: Path) -> None:
    done = call("predict", str(tmp_path / "nowhere"), "late")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: no bundle at {tmp_path}/nowhere: no such folder. Make one with")
    assert "Traceback" not in done.stderr


def test_a_real_bundle_answers_in_a_process_of_its_own(bundle: Path) -> None:
    done = call(
        "predict", str(bundle), "--engine", "ort-cpu", "--variant", "fp32", "--json", input="where is it\nlate\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = runtime.load(bundle, engine="ort-cpu", variant="fp32").predict(["where is it", "late"])
    assert [json.loads(line)["predicted_label"] for line in done.stdout.splitlines()] == [one.label for one in expected]


@pytest.mark.parametrize("source", ["arguments", "standard input"])
def test_a_reader_that_leaves_causes_no_traceback(bundle: Path, source: str) -> None:
    """As `| head -1` does: here nobody reads at all."""
    arguments = [f"late {number}" for number in range(2000)] if source == "arguments" else []
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "runtime", "predict", str(bundle), *arguments],
            cwd=ROOT,
            input=b"late\n" * 2000 if not arguments else b"",
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=120,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
