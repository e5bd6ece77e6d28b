import pickle
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InputError
from runtime.problems import DataError, Problem
from runtime.tables import Layout, Row, column_names, format_of, read_table

PLAIN = Layout()


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, layout: Layout = PLAIN) -> tuple[list[Row], list[str]]:
    problems: list[Problem] = []
    rows = list(read_table(path, layout=layout, problems=problems))
    return rows, [f"{problem.line}: {problem.message}" for problem in problems]


def read_sound(path: Path, layout: Layout = PLAIN) -> list[Row]:
    rows, problems = read(path, layout)
    assert problems == []
    return rows


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_csv_reads_with_either_line_end_with_or_without_mark_and_final_line_end(
    tmp_path: Path, end: str, mark: str, last: bool
) -> None:
    path = write(tmp_path, "a.csv", mark + end.join(["text,label", "fine,1", '"a, ""b""",0']) + end * last)
    assert read_sound(path) == [Row(2, {"text": "fine", "label": "1"}), Row(3, {"text": 'a, "b"', "label": "0"})]
    assert column_names(path) == ("text", "label")


@pytest.mark.parametrize("inside", ["\x85", "\x0b", "\x0c", "\u2028", "\u2029", "\x1c", "\x00"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_only_line_feeds_end_a_line(tmp_path: Path, name: str, inside: str) -> None:
    path = write(tmp_path, name, f"text\nleft{inside}right\n")
    assert read_sound(path) == [Row(2, {"text": f"left{inside}right"})]


def test_separators_inside_json_text_end_no_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"text": "a\x85b\u2028c"}\r\n\n{"text": "d"}')
    assert read_sound(path) == [Row(1, {"text": "a\x85b\u2028c"}), Row(3, {"text": "d"})]


def test_a_row_with_line_ends_in_quotes_counts_from_its_first_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'text\r\n"one\r\ntwo\rthree"\r\nfour\r\n')
    assert read_sound(path) == [Row(2, {"text": "one\r\ntwo\rthree"}), Row(4, {"text": "four"})]


def test_tsv_keeps_quotes_and_lone_carriage_returns(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", 'text\tlabel\n"open\t1\nin "the" mid\r dle\t0\nend"\t1\r\n')
    assert [row.values["text"] for row in read_sound(path)] == ['"open', 'in "the" mid\r dle', 'end"']


def test_quoting_and_delimiter_can_be_set(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", 'text\tlabel\n"a\tb"\t1\n')
    assert read_sound(path, Layout(quoting=True)) == [Row(2, {"text": "a\tb", "label": "1"})]
    path = write(tmp_path, "a.csv", 'text;label\n"a, b;1\n')
    assert read_sound(path, Layout(quoting=False, delimiter=";")) == [Row(2, {"text": '"a, b', "label": "1"})]
    path = write(tmp_path, "b.csv", "text\tlabel\na\t1\n")
    assert read_sound(path, Layout(delimiter="\\t")) == [Row(2, {"text": "a", "label": "1"})]


def test_columns_name_the_fields_of_a_file_without_header(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "a,1\r\nb\r\n")
    rows, problems = read(path, Layout(columns=("text", "label")))
    assert rows == [Row(1, {"text": "a", "label": "1"})]
    assert problems == ["2: has 1 field, --columns names 2; quote a text that holds the delimiter"]
    assert column_names(path, Layout(columns=("text", "label"))) == ("text", "label")


def test_wholly_empty_lines_are_no_rows_and_lines_of_spaces_are(tmp_path: Path) -> None:
    rows, problems = read(write(tmp_path, "a.csv", "\ntext,label\n\r\na,1\n\n  \n"))
    assert rows == [Row(4, {"text": "a", "label": "1"})]
    assert problems == ["6: has 1 field, the header has 2; quote a text that holds the delimiter"]


def test_a_long_text_meets_no_limit(tmp_path: Path) -> None:
    long = "x" * 300_000
    assert read_sound(write(tmp_path, "a.csv", f'text\n"{long}"\n')) == [Row(2, {"text": long})]


def test_fields_are_counted_against_the_header(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "text\tlabel\na\tb\t1\nc\nd\t1\n")
    rows, problems = read(path)
    assert [row.line for row in rows] == [4]
    hint = "; quote a text that holds the delimiter and set --quoting, or name another --delimiter"
    assert problems == [f"2: has 3 fields, the header has 2{hint}", f"3: has 1 field, the header has 2{hint}"]


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ('text,label\n"open,1\nb,2\nc,3\n', 2, "a quoted field of this row is never closed"),
        ('text,label\nb,2\nc,3\na,"open', 4, "a quoted field of this row is never closed"),
        ('text,label\n"open,1\nb,2\n"c",3\n', 2, "closes a field in line 4"),
        ('text,label\n"a" b,1\nb,2\nc,3\n', 2, "closes a field in line 2"),
        ("text,label\na\rx,1\nb,2\nc,3\n", 2, r"a carriage return \(\\r\)"),
    ],
    ids=["to the end", "at the end", "to the next quote", "inside a field", "carriage return"],
)
def test_a_csv_row_that_breaks_is_told_at_its_first_line_and_hides_no_other(
    tmp_path: Path, content: str, line: int, message: str
) -> None:
    rows, problems = read(write(tmp_path, "a.csv", content))
    assert [row.values["label"] for row in rows] == ["2", "3"]
    assert len(problems) == 1
    assert re.search(f"^{line}: .*{message}.*switch --quoting off", problems[0])


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_an_undecodable_byte_is_told_with_line_column_and_value(tmp_path: Path, name: str) -> None:
    heading, row = ("", '{"text": "%s"}\n') if name == "a.jsonl" else ("text\n", "%s\n")
    path = write(tmp_path, name, heading.encode() + (row % "ok").encode() + (row % "sist\xf0r").encode("latin-1"))
    rows, problems = read(path)
    line, column = (2, 15) if name == "a.jsonl" else (3, 5)
    assert [row.values for row in rows] == [{"text": "ok"}]
    assert problems == [
        f"{line}: byte 0xf0 at column {column} is not utf-8; name the file's encoding, for example --encoding latin-1"
    ]
    assert read_sound(path, Layout(encoding="latin-1"))[-1].values == {"text": "sist\xf0r"}


def test_a_header_that_cannot_be_read_makes_no_row_the_header(tmp_path: Path) -> None:
    for content in (b"t\xf0xt\na\nb\n", b'"text" x\na\nb\n'):
        path = write(tmp_path, "a.csv", content)
        rows, problems = read(path)
        assert (rows, len(problems)) == ([], 1)
        with pytest.raises(DataError, match=r"a\.csv:1: "):
            column_names(path)


def test_utf16_is_read_when_named_and_told_when_broken(tmp_path: Path) -> None:
    layout = Layout(encoding="utf-16")
    assert read_sound(write(tmp_path, "a.csv", "text\r\nå\r\n".encode("utf-16")), layout) == [Row(2, {"text": "å"})]
    _, problems = read(write(tmp_path, "b.csv", "text\r\nå\r\n".encode()), layout)
    assert "is not utf-16 from about here" in problems[0]


def test_empty_and_header_only_files(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", "")) == ([], ["None: is empty; the first row names the columns"])
    assert read(write(tmp_path, "b.tsv", "\ufeff\n")) == ([], ["None: is empty; the first row names the columns"])
    assert read(write(tmp_path, "c.csv", "text,label")) == ([], [])
    assert column_names(tmp_path / "c.csv") == ("text", "label")
    assert read(write(tmp_path, "d.jsonl", "")) == ([], [])


def test_columns_have_names_of_their_own(tmp_path: Path) -> None:
    rows, problems = read(write(tmp_path, "a.csv", "text,label,label\na,1,2\n"))
    assert (rows, problems) == ([], ["1: several columns are named 'label'; give each its own name"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON: Expecting property name enclosed in double quotes at column 2"),
        ('{"text": "a"} x', "is not JSON: Extra data at column 15"),
        ('{"text": "NaN", "score": NaN}', "is not JSON: NaN at column 26"),
        ('{"score": -Infinity}', "is not JSON: -Infinity at column 11"),
        ("[1]", "[1] is not an object; write one {column: value} a line"),
        ('"text"', "'text' is not an object; write one {column: value} a line"),
        ('{"a": 1, "a": 2}', "the key 'a' stands twice in one object"),
        ("  ", "is not JSON: Expecting value at column 3"),
        ("[" * 100_000, "maximum recursion depth exceeded"),
    ],
)
def test_each_json_line_is_one_object(tmp_path: Path, line: str, message: str) -> None:
    rows, problems = read(write(tmp_path, "a.jsonl", f'{{"text": "a"}}\n{line}\n{{"text": "b"}}\n'))
    assert [row.line for row in rows] == [1, 3]
    assert len(problems) == 1
    assert problems[0].startswith(f"2: {message}")


def test_columns_of_json_lines_are_the_keys_of_the_first_object(tmp_path: Path) -> None:
    assert column_names(write(tmp_path, "a.jsonl", '\n{"b": 1, "a": 2}\n{"c": 3}\n')) == ("b", "a")


def test_parquet_rows_are_numbered_and_keep_nulls(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"text": ["a", None], "label": [1, 2]}), path)
    assert read_sound(path) == [Row(1, {"text": "a", "label": 1}), Row(2, {"text": None, "label": 2})]
    assert column_names(path) == ("text", "label")


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read: .*Parquet"):
        read(write(tmp_path, "a.parquet", "text\na\n"))


def test_parquet_without_pyarrow_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"a\.parquet: .*pip install 'portabert\[score\]'"):
        read(write(tmp_path, "a.parquet", ""))


def test_conll_rows_hold_words_and_tags(tmp_path: Path) -> None:
    path = write(tmp_path, "a.conll", "\nIn O\nRome B-LOC\n\nYes O\n")
    assert read_sound(path) == [Row(2, {"words": ["In", "Rome"], "tags": ["O", "B-LOC"]}),
                                Row(5, {"words": ["Yes"], "tags": ["O"]})]  # fmt: skip
    assert column_names(path) == ("words", "tags")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.conll"])
def test_a_missing_file_and_a_folder_are_refused_before_the_first_row(tmp_path: Path, name: str) -> None:
    if name == "a.parquet":
        pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match=rf"{name}: cannot be read: .*No such file"):
        read_table(tmp_path / name, problems=[])
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=rf"{name}: cannot be read: "):
        read_table(tmp_path / name, problems=[])


@pytest.mark.parametrize(
    ("name", "layout", "message"),
    [
        ("a.txt", Layout(), r"files end in \.csv, \.tsv, .*Got '\.txt' instead; name the format with --format"),
        ("a", Layout(), r"Got '' instead"),
        ("a.csv", Layout(format="xml"), r"--format must be one of csv, .*Got 'xml' instead"),
        ("a.csv", Layout(delimiter="||"), r"--delimiter must be one character.*Got '\|\|' instead"),
        ("a.csv", Layout(encoding="utf-9"), "--encoding 'utf-9' is no text encoding"),
        ("a.csv", Layout(encoding="base64"), "--encoding 'base64' is no text encoding"),
        ("a.jsonl", Layout(delimiter=";"), "--delimiter has no meaning for a jsonl file"),
        ("a.parquet", Layout(encoding="latin-1"), "--encoding has no meaning for a parquet file"),
        ("a.conll", Layout(columns=("a",)), "--columns has no meaning for a conll file"),
    ],
)
def test_an_option_that_cannot_be_followed_is_refused(tmp_path: Path, name: str, layout: Layout, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(write(tmp_path, name, "text\na\n"), layout)


def test_the_format_is_the_extension_unless_named() -> None:
    assert format_of("a.CSV") == "csv"
    assert format_of("a.ndjson") == "jsonl"
    assert format_of("a.txt", Layout(format="tsv")) == "tsv"


def test_a_data_error_lists_twenty_problems_and_counts_the_rest() -> None:
    error = DataError([Problem("a.csv", line, "is bad") for line in range(1, 24)])
    lines = str(error).splitlines()
    assert lines[0] == "a.csv: 23 problems"
    assert lines[1] == "  a.csv:1: is bad"
    assert lines[20:] == ["  a.csv:20: is bad", "  and 3 more"]
    assert str(DataError([Problem("a.csv", None, "is empty")])) == "a.csv: 1 problem\n  a.csv: is empty"


def test_a_data_error_survives_pickling() -> None:
    error = DataError([Problem("a.csv", 3, "is bad")])
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.problems, str(copy)) == (error.problems, str(error))


def texts(*, excluding: str) -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8", exclude_characters=excluding))


@given(rows=st.lists(st.tuples(texts(excluding=""), texts(excluding="")), min_size=1))
def test_any_text_written_as_rfc_4180_reads_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    quoted = [[f'"{field.replace(chr(34), chr(34) * 2)}"' for field in row] for row in [("a", "b"), *rows]]
    path = write(tmp_path_factory.mktemp("csv"), "a.csv", "".join(",".join(row) + "\r\n" for row in quoted))
    assert [tuple(row.values.values()) for row in read_sound(path)] == rows


@given(rows=st.lists(st.tuples(texts(excluding="\t\n\r"), texts(excluding="\t\n\r")), min_size=1))
def test_any_text_without_tab_and_line_end_reads_back_from_tsv(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    content = "".join(f"{left}\t{right}\n" for left, right in [("a", "b"), *rows])
    path = write(tmp_path_factory.mktemp("tsv"), "a.tsv", content)
    assert [tuple(row.values.values()) for row in read_sound(path)] == rows


def test_a_space_parts_as_many_cells_as_columns_are_named_and_the_last_keeps_its_own(tmp_path: Path) -> None:
    (tmp_path / "all.train").write_text("1 so it  goes \nword\n", encoding="utf-8")
    layout, problems = Layout(format="tsv", delimiter=" ", columns=("label", "text")), list[Problem]()
    rows = list(read_table(tmp_path / "all.train", layout=layout, problems=problems))
    assert [row.values for row in rows] == [{"label": "1", "text": "so it  goes "}]
    assert [problem.line for problem in problems] == [2]


@pytest.mark.parametrize("layout", [Layout(delimiter=" "), Layout(delimiter=" ", columns=("a", "b"), quoting=True)])
def test_with_a_header_or_quotes_every_space_parts_cells(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "t.tsv").write_text("a b\n1 so it goes\n", encoding="utf-8")
    problems = list[Problem]()
    assert all("it" not in str(row.values) for row in read_table(tmp_path / "t.tsv", layout=layout, problems=problems))
    assert "has 4 fields" in problems[0].message
