"""--fix writes copies with rows left out and cells repaired, touches no original, and cures what it says it cures."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.errors import InputError
from trainer.__main__ import main
from trainer.doctor.check import check, read_dataset
from trainer.doctor.config import CheckConfig
from trainer.doctor.rules import examine

CURED = {"unusable-row", "unknown-label", "leak", "conflict", "duplicate", "label-spelling", "mojibake"}
SOUND = "text,label\napple,fruit\ncarrot,root\n"


def fixed(config: CheckConfig, capsys: pytest.CaptureFixture[str]) -> str:
    """Fix files and give what was said."""
    check(config, say=print)
    return capsys.readouterr().out


def write(file: Path, content: str) -> str:
    file.write_text(content, encoding="utf-8", newline="")
    return str(file)


# what goes and what stays


def test_rows_go_for_their_reasons_and_the_command_trains_on_the_copies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["apple,fruit", ",fruit", "carrot,root", "apple,fruit", "beet,root", "beet,root", "beet,fruit", "fig,fruit", "fig,root", "plum,fruit"]  # fmt: skip
    train = write(tmp_path / "train.csv", "text,label\n" + "\n".join(rows) + "\n")
    dev = write(tmp_path / "dev.csv", "text,label\nplum,fruit\nbirch,tree\nturnip,root\n")
    said = fixed(CheckConfig(train=train, eval=dev, fix=True), capsys)
    assert (tmp_path / "train.fixed.csv").read_text() == "text,label\napple,fruit\ncarrot,root\nbeet,root\n"
    assert (tmp_path / "dev.fixed.csv").read_text() == "text,label\nplum,fruit\nturnip,root\n"
    assert "3 of 10 rows stay; left out: 1 unusable, 3 contradicting other rows of their text, 2 repeating" in said
    assert "1 standing in eval or test" in said
    assert "2 of 3 rows stay; left out: 1 with labels that train has not" in said
    assert f"next: python -m trainer --train {tmp_path}/train.fixed.csv --eval {tmp_path}/dev.fixed.csv\n" in said


def test_the_originals_are_not_touched_and_a_sound_file_has_no_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, dev = (
        write(tmp_path / "train.csv", SOUND + "apple,fruit\n"),
        write(tmp_path / "dev.csv", "text,label\nfig,fruit\n"),
    )
    said = fixed(CheckConfig(train=train, eval=dev, fix=True), capsys)
    assert Path(train).read_text() == SOUND + "apple,fruit\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["dev.csv", "train.csv", "train.fixed.csv"]
    assert "dev.csv: 1 row, nothing to fix" in said


def test_labels_get_their_most_frequent_spelling_and_texts_are_repaired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write(
        tmp_path / "train.csv",
        'text,label,note\n"a cafÃ©, black",Drink,1\nbeer,drink,2\nmilk,drink,3\nbread, food,"x"\nham,food,5\nrye,food,6\n',
    )
    said = fixed(CheckConfig(train=train, fix=True), capsys)
    assert (tmp_path / "train.fixed.csv").read_text() == (
        'text,label,note\n"a café, black",drink,1\nbeer,drink,2\nmilk,drink,3\nbread,food,x\nham,food,5\nrye,food,6\n'
    )
    assert "6 of 6 rows stay; texts repaired: 1, labels respelled: 2" in said


def test_a_text_that_the_file_cannot_hold_repaired_is_left_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "train.csv"
    file.write_bytes("text,label\nso\x85 what,a\nyes,b\nyes,b\n".encode("latin-1"))
    said = fixed(CheckConfig(train=str(file), encoding="latin-1", fix=True), capsys)
    assert "rows left as they are, for the file cannot hold them repaired: 1" in said
    assert (tmp_path / "train.fixed.csv").read_bytes() == "text,label\nso\x85 what,a\nyes,b\n".encode("latin-1")


# formats


def test_lines_that_stay_are_copied_byte_for_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = '\ufefftext,label\r\n\r\n"two\r\nlines",a\r\n"quoted for nothing","b"\r\n'
    train = write(tmp_path / "train.csv", kept + '"two\r\nlines",a\r\nplain,b')
    fixed(CheckConfig(train=train, fix=True), capsys)
    assert (tmp_path / "train.fixed.csv").read_bytes() == (kept + "plain,b").encode()


def test_a_file_of_labels_spaces_and_texts_keeps_its_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path / "all.train", "0 so it goes\n1 and on\n0 so it goes\n1 un cafÃ© noir\n")
    config = CheckConfig(train=train, format="tsv", delimiter=" ", columns=("label", "text"), fix=True)
    said = fixed(config, capsys)
    assert (tmp_path / "all.fixed.train").read_text(encoding="utf-8") == "0 so it goes\n1 and on\n1 un café noir\n"
    assert "--columns label text --delimiter ' '" in said


def test_json_lines_keep_their_other_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ['{"id": 1, "text": "cafÃ©", "labels": ["A", "b"], "more": {"x": null}}', '{"id": 2, "text": "tea", "labels": ["a"]}', '{"id": 3, "text": "tea", "labels": ["a"]}', '{"id":4,"text":"rum","labels":["a"]}']  # fmt: skip
    train = write(tmp_path / "t.jsonl", "\n".join(rows) + "\n")
    fixed(CheckConfig(train=train, task="multi-label", fix=True), capsys)
    lines = (tmp_path / "t.fixed.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0]) == {"id": 1, "text": "café", "labels": ["a", "b"], "more": {"x": None}}
    assert lines[1:] == [rows[1], rows[3]]


def test_conll_keeps_its_columns_and_texts_and_gets_one_spelling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = [
        "-DOCSTART- O\n",
        "cafÃ©\tNN\tO\nRome\tNN\tB-Loc\n",
        "Oslo\tNN\tB-LOC\n",
        "Oslo\tNN\tB-LOC\n",
        "Bonn\tNN\tB-LOC\nis\n",
    ]
    train = write(tmp_path / "t.conll", "\n".join(blocks))
    fixed(CheckConfig(train=train, task="token", fix=True), capsys)
    copy = (tmp_path / "t.fixed.conll").read_text(encoding="utf-8")
    assert [block for block in copy.split("\n\n") if block.strip()] == [
        "-DOCSTART- O",
        "cafÃ©\tNN\tO\nRome\tNN\tB-LOC",
        "Oslo\tNN\tB-LOC",
    ]


def test_parquet_keeps_its_types(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.parquet"
    kinds = {
        "text": pyarrow.string(),
        "label": pyarrow.dictionary(pyarrow.int8(), pyarrow.string()),
        "n": pyarrow.int16(),
    }
    columns = [["cafÃ©", "tea", "tea", None], ["A", "a", "a", "b"], [1, 2, 3, 4]]
    arrays = [pyarrow.array(cells, type=kind) for cells, kind in zip(columns, kinds.values(), strict=True)]
    table = pyarrow.table(arrays, schema=pyarrow.schema(list(kinds.items()), metadata={"who": "me"}))
    pyarrow.parquet.write_table(table, file)
    fixed(CheckConfig(train=str(file), fix=True), capsys)
    copy = pyarrow.parquet.read_table(tmp_path / "t.fixed.parquet")
    assert copy.to_pylist() == [{"text": "café", "label": "a", "n": 1}, {"text": "tea", "label": "a", "n": 2}]
    assert copy.schema.equals(pyarrow.parquet.read_table(file).schema, check_metadata=True)


# refusals


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--train=demo:intent"], "--fix writes beside files; --train demo:intent is none"),
        (["--train=t.csv", "--eval=t.csv"], "t.csv is the source of two splits"),
        (["--train=t.csv"], "t.fixed.csv exists already; --overwrite replaces it"),
    ],
)
def test_what_cannot_be_fixed_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "t.csv", SOUND)
    write(tmp_path / "t.fixed.csv", "mine")
    assert main(["check", "--fix", *flags]) == 1
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""
    assert (tmp_path / "t.fixed.csv").read_text() == "mine"
    assert main(["check", "--fix", "--overwrite", "--train=t.csv"]) == 0


def test_a_file_that_would_lose_all_rows_is_refused(tmp_path: Path) -> None:
    train = write(tmp_path / "t.csv", "text,label\na,x\na,y\n")
    with pytest.raises(
        InputError, match=r"would leave no row of .*t\.csv: .*left out: 2 contradicting.*Nothing was written"
    ):
        check(CheckConfig(train=train, fix=True), say=print)
    assert not (tmp_path / "t.fixed.csv").exists()


# the property

TEXTS = st.sampled_from(
    [
        "apple",
        "apple ",
        "pear",
        "",
        "  ",
        "cafÃ©",
        "café",
        'a "quoted" word',
        "a,b",
        "two\nlines",
        "tab\there",
        "Ã ",
        "naÃ¯ve…",
    ]
)
ROWS = st.lists(st.tuples(TEXTS, st.sampled_from(["a", "A", "a ", "b", "c", ""])), min_size=4, max_size=14)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(train=ROWS, dev=ROWS, form=st.sampled_from(["csv", "jsonl"]))
def test_a_fixed_file_checked_again_has_nothing_left_that_fix_cures(
    tmp_path_factory: pytest.TempPathFactory, train: Any, dev: Any, form: str
) -> None:
    folder = tmp_path_factory.mktemp("fix")
    files = {}
    for name, rows in (("train", [*train, ("xylophone", "a"), ("yoghurt", "b")]), ("eval", [*dev, ("zebra", "a")])):
        files[name] = str(folder / f"{name}.{form}")
        write_rows(folder / f"{name}.{form}", rows)
    check(CheckConfig(**files, fix=True), say=lambda _: None)
    again = {
        name: str(copy) if (copy := folder / f"{name}.fixed.{form}").exists() else file for name, file in files.items()
    }
    findings = examine(read_dataset(CheckConfig(**again)), quick=True).findings
    assert {finding.rule for finding in findings} & CURED == set()


def write_rows(file: Path, rows: list[tuple[str, str]]) -> None:
    if file.suffix == ".jsonl":
        write(file, "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
        return
    import csv

    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
