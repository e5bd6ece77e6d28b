"""The texts that `tune` measures on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.bundle import Manifest, read
from runtime.encode import Encoder
from runtime.errors import InputError
from runtime.model import open_head
from runtime.problems import DataError
from runtime.records import Columns
from runtime.tables import PLAIN
from runtime.testing import tiny_bundle
from runtime.workload import MADE_TEXTS, MAX_TEXTS, MIXED, NUM_ALONE, Workload, from_file, from_lengths

Opened = tuple[Manifest, Encoder]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Opened]:
    """Give a function that opens a tiny bundle: (task, pair) → its manifest and encoder."""

    def open_tiny(task: str = "single-label", *, pair: bool = False) -> Opened:
        bundle = tiny_bundle(tmp_path / f"{task}-{pair}", task=task, pair=pair)
        return read(bundle), open_head(bundle, read(bundle)).encoder

    return open_tiny


def rows(file: Path, values: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return file


def of_file(file: Path, opened: Opened, **columns: Any) -> Workload:
    return from_file(file, opened[0], encoder=opened[1], columns=Columns(**columns), layout=PLAIN)


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("length", [8, 16, 32])
def test_made_up_texts_have_the_tokens_that_were_asked_for(
    length: int, pair: bool, opened: Callable[..., Opened]
) -> None:
    manifest, encoder = opened(pair=pair)
    workload = from_lengths(str(length), manifest, encoder=encoder)
    lengths = workload.encoded.batch.lengths
    longest = max(encoder.encode([("x", "parcel") if pair else "parcel"]).batch.lengths)
    assert len(workload.texts) == MADE_TEXTS
    assert lengths.max() <= length
    assert np.median(lengths) > length - longest, "no word more would have fitted"
    assert not workload.own


def test_lengths_come_in_turn_so_that_any_beginning_is_a_fair_sample(opened: Callable[..., Opened]) -> None:
    manifest, encoder = opened()
    lengths = from_lengths("8, 32", manifest, encoder=encoder).encoded.batch.lengths
    assert (lengths[0::2] <= 8).all()
    assert (lengths[1::2] > 20).all()


def test_without_lengths_it_is_a_mix_as_long_as_the_model_takes(opened: Callable[..., Opened]) -> None:
    manifest, encoder = opened()
    workload = from_lengths(None, manifest, encoder=encoder)
    assert max(MIXED) > manifest.max_length >= workload.encoded.batch.lengths.max()
    assert {*workload.encoded.batch.lengths.tolist()} == {8, 16, 24, 32}
    assert workload.source == "512 made-up texts of mixed lengths"


def test_a_length_of_one_token_still_gives_a_text(opened: Callable[..., Opened]) -> None:
    for pair in (False, True):
        manifest, encoder = opened(pair=pair)
        assert len(from_lengths("1", manifest, encoder=encoder).texts) == MADE_TEXTS


@pytest.mark.parametrize("lengths", ["", "0", "33", "-8", "8,", "sixteen", "8.5", "8;16"])
def test_lengths_that_are_none_are_refused(lengths: str, opened: Callable[..., Opened]) -> None:
    manifest, encoder = opened()
    with pytest.raises(InputError, match=r"from 1 to the model's 32, such as 16,32,128\. Got '.*' instead"):
        from_lengths(lengths, manifest, encoder=encoder)


def test_texts_alone_are_of_lengths_evenly_spread(opened: Callable[..., Opened]) -> None:
    manifest, encoder = opened()
    workload = from_lengths("8,16,24,32", manifest, encoder=encoder)
    lengths = workload.encoded.batch.lengths
    alone = [int(lengths[index]) for index in workload.alone]
    assert len(alone) == NUM_ALONE
    assert alone == sorted(alone)
    assert (alone[0], alone[-1]) == (lengths.min(), lengths.max())


def test_a_file_gives_its_texts_and_labels(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    texts = [{"text": f"parcel {number}", "label": "no" if number % 2 else "yes"} for number in range(9)]
    workload = of_file(rows(tmp_path / "rows.jsonl", texts), opened())
    assert sorted(map(str, workload.texts)) == [row["text"] for row in texts]
    assert workload.own
    assert workload.source == f"the 9 texts of {tmp_path}/rows.jsonl"
    assert workload.records is not None
    assert {(r.text, r.label) for r in workload.records} == {(row["text"], row["label"]) for row in texts}
    assert [r.text for r in workload.records] == workload.texts, "in the same order"


def test_a_file_without_labels_is_no_problem(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    workload = of_file(rows(tmp_path / "rows.jsonl", [{"text": "late"}]), opened())
    assert (workload.records, workload.source) == (None, f"the one text of {tmp_path}/rows.jsonl")
    assert workload.alone == [0]


def test_a_label_column_that_is_named_must_be_there(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    file = rows(tmp_path / "rows.jsonl", [{"text": "late", "truth": "no"}])
    workload = of_file(file, opened(), label="truth")
    assert workload.records is not None
    assert workload.records[0].label == "no"
    with pytest.raises(InputError, match=r"no column 'gold'; .* has: text, truth\. Name it with --label-column"):
        of_file(file, opened("multi-label"), label="gold")


def test_pairs_are_read_as_pairs(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    file = rows(tmp_path / "rows.jsonl", [{"text": "late", "text_pair": "never came"}])
    assert of_file(file, opened(pair=True), text_pair="text_pair").texts == [("late", "never came")]


def test_rows_that_cannot_be_used_are_told_with_their_lines(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    file = rows(tmp_path / "rows.jsonl", [{"text": "late"}, {"text": ""}])
    with pytest.raises(DataError, match=r"rows\.jsonl:2: column 'text' is empty"):
        of_file(file, opened())


def test_of_a_long_file_a_sample_is_taken(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    file = rows(tmp_path / "rows.jsonl", [{"text": f"parcel {number}"} for number in range(MAX_TEXTS + 500)])
    workload = of_file(file, opened())
    assert len({*workload.texts}) == MAX_TEXTS
    assert workload.source == f"2,000 of the 2,500 texts of {file}"
    numbers = [int(str(text).split()[1]) for text in workload.texts[:200]]
    assert np.mean(numbers) == pytest.approx(1250, abs=150), "its beginning is no beginning of the file"
