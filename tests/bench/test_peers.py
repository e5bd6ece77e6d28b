"""The tables of peers are complete, and their shared code batches and pads as it says."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import accuracy, shapes
from bench.environments import ENVIRONMENTS, commands, interpreter
from bench.exports import EXPORTS
from bench.peers import ACCURACY, LATENCY, THROUGHPUT, Peer
from bench.peers.by_hand import BATCH_TOKENS, batches_of_like_length, config_of, rectangle
from bench.peers.peer import Job

ROOT = Path(__file__).parents[2]
TABLES = {"THROUGHPUT": THROUGHPUT, "LATENCY": LATENCY, "ACCURACY": ACCURACY, "GRAPHS": shapes.GRAPHS}
ROWS = [(table, name, peer) for table, rows in TABLES.items() for name, peer in rows.items()]


@pytest.mark.parametrize(("table", "name", "peer"), ROWS, ids=[f"{table}-{name}" for table, name, _ in ROWS])
def test_every_peer_says_how_it_is_set_and_what_it_computes_in(table: str, name: str, peer: Peer) -> None:
    assert len(peer.settings) > 20
    assert "{" not in peer.settings, "a template that was not filled"
    assert peer.precision in ("fp32", "bf16", "int8")
    assert peer.packages or table == "GRAPHS"
    assert peer.environment is None or peer.environment in ENVIRONMENTS


def test_no_two_ways_of_one_table_have_the_same_settings() -> None:
    for table, rows in TABLES.items():
        settings = [peer.settings for peer in rows.values()]
        assert len(set(settings)) == len(settings), table


def test_all_tables_have_portabert_and_the_references() -> None:
    for rows in (THROUGHPUT, LATENCY, ACCURACY):
        assert {
            f"portabert {form}"
            for form in ("fp32", "int8", "int8-channel", "openvino bf16", "openvino int8-weights", "tuned")
        } <= set(rows)
    assert accuracy.REFERENCE in ACCURACY
    assert all(peer.max_texts is None for peer in (*ACCURACY.values(), *LATENCY.values()))


def test_every_pipeline_is_measured_with_sorted_texts_too() -> None:
    unsorted = {name.removesuffix(" batch 32") for name in THROUGHPUT if name.endswith(" batch 32")}
    assert len(unsorted) >= 9
    assert {f"{name} sorted 32" for name in unsorted} <= set(THROUGHPUT)


def test_importing_the_tables_needs_the_standard_library_alone() -> None:
    code = "import sys; before = set(sys.modules); import bench.peers, bench.worker, bench.exports, bench.first_answer; print(*{m.split('.')[0] for m in set(sys.modules) - before})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - set(sys.stdlib_module_names) <= {"bench"}


def test_exports_name_environments_that_are_there() -> None:
    assert {row.environment for row in EXPORTS.values()} == {None, *ENVIRONMENTS}
    assert all(row.settings and "{" not in row.settings for row in EXPORTS.values())


def test_the_readme_has_every_command_that_makes_an_environment() -> None:
    readme = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "bench.environments", "--show"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [line.removeprefix("$ ") for line in done.stdout.splitlines()]
    assert len(lines) >= 2 * len(ENVIRONMENTS)
    for line in lines:
        assert line in readme


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_pins_torch(name: str) -> None:
    install = commands(name, folder=Path("envs"))[1]
    assert "torch==2.13.0" in install
    constraint = ROOT / install[install.index("--constraint") + 1]
    assert constraint.read_text().split() == ["torch==2.13.0"]


def test_an_environment_counts_when_it_is_complete(tmp_path: Path) -> None:
    place = tmp_path / "ctranslate2"
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").touch()
    assert interpreter("ctranslate2", folder=tmp_path) is None
    (place / "complete.txt").write_text("torch==2.13.0\nctranslate2==0.1\n")
    assert interpreter("ctranslate2", folder=tmp_path) is None, "other packages than the table has now"
    (place / "complete.txt").write_text("\n".join(["torch==2.13.0", *ENVIRONMENTS["ctranslate2"].packages]) + "\n")
    assert interpreter("ctranslate2", folder=tmp_path) == place / "bin" / "python"


def test_batches_hold_texts_of_like_length_and_every_text_once() -> None:
    lengths = [3, 200, 7, 3, 600, 150, 100]
    batches = batches_of_like_length(lengths)
    assert batches[0] == [4], "a text longer than a batch goes alone"
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) * max(lengths[i] for i in batch) <= BATCH_TOKENS for batch in batches[1:])


def test_a_config_without_labels_has_transformers_own(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    job = Job(run=str(tmp_path), bundle="", work="", threads=1, max_length=8, calibration="")
    assert config_of(job)["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"}


def test_a_rectangle_pads_on_the_right() -> None:
    feeds = rectangle([[5, 6, 7], [8]], names=("attention_mask", "input_ids"), pad_token_id=1)
    assert list(feeds) == ["attention_mask", "input_ids"]
    np.testing.assert_array_equal(feeds["input_ids"], [[5, 6, 7], [8, 1, 1]])
    np.testing.assert_array_equal(feeds["attention_mask"], [[1, 1, 1], [1, 0, 0]])
