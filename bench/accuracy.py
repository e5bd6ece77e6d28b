"""How right are the answers, beside the labels, beside PyTorch's, and do they change with the batch?

    python -m bench.accuracy --run RUN --bundle BUNDLE --rows FILE.jsonl [--max-rows N]

FILE has a row {"text": …, "label": …} a line. Every peer of bench/peers ACCURACY answers it three times: all rows in one call, 32 a call, one a call. Prints a
table, then one JSON document as its last line.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from bench.comparison import PeersConfig, describe_run, finish, lineup, print_doubts, warn_of_load
from bench.driver import Lineup, Worker, each_alone, spread
from bench.intervals import mcnemar
from bench.peers import Peer
from trainer.intervals import wilson

TABLE = "bench.peers:ACCURACY"
REFERENCE = "transformers fp32"
CALLS: dict[str, int | None] = {"all": None, "32": 32, "alone": 1}  # texts a call


@dataclass(frozen=True, kw_only=True)
class AccuracyConfig:
    """Compare the answers of ways to answer with one model."""

    peers: Annotated[PeersConfig, tyro.conf.arg(name="")]
    rows: Path
    """JSON lines with "text" and "label", which nothing was trained or chosen on."""
    max_rows: int | None = None
    """Use so many rows, evenly spread over the file. Default: all."""


def main() -> None:
    """Run the program."""
    config = tyro.cli(AccuracyConfig, prog="python -m bench.accuracy", description=__doc__)
    texts, gold = read_rows(config.rows, max_rows=config.max_rows)
    load = warn_of_load()
    with lineup(config.peers, TABLE, calibration=texts) as peers:
        said, failed = each_alone(peers, lambda worker, peer: _ask(worker, peer, peers, texts))
    reference = said.get(REFERENCE)
    document = {
        "question": "accuracy",
        **describe_run(config.peers, failed=failed, load=load),
        "rows": config.rows.name,
        "num_rows": len(texts),
        "reference": REFERENCE,
        "interval": "Wilson's score interval, 95 %; p: McNemar's exact test on the rows whose answer differs from the reference's",
        "peers": {name: answers | _figures(answers["labels"], reference, gold) for name, answers in said.items()},
    }
    _print_table(document)
    finish(document, config.peers.output)


def read_rows(file: Path, *, max_rows: int | None) -> tuple[list[str], list[str]]:
    """Read texts and labels."""
    lines = [line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    rows = [json.loads(lines[index]) for index in spread(len(lines), max_rows)]
    if not rows or not all({"text", "label"} <= set(row) for row in rows):
        raise SystemExit(
            f'error: {file} must hold a row {{"text": …, "label": …}} a line. Got {lines[0][:80] if lines else "no line"!r}.'
        )
    return [row["text"] for row in rows], [str(row["label"]) for row in rows]


def _ask(worker: Worker, peer: Peer, peers: Lineup, texts: list[str]) -> dict[str, Any]:
    opened = worker.open(peers, cases={"rows": texts})
    return {
        "settings": peer.settings,
        "precision": opened["precision"],
        "opened": opened["description"],
        "versions": opened["versions"],
        "labels": {
            name: worker.ask({"do": "answer", "case": "rows", "at_once": at_once})["labels"]
            for name, at_once in CALLS.items()
        },
    }


def _figures(labels: dict[str, list[str]], reference: dict[str, Any] | None, gold: Sequence[str]) -> dict[str, Any]:
    answers = labels["all"]
    right = count_same(answers, gold)
    interval = wilson(right, len(gold))
    figures: dict[str, Any] = {
        "accuracy": right / len(gold),
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "changed_by_batch": len(gold) - count_same(labels["alone"], labels["32"]),
        "changed_by_company": len(gold) - count_same(labels["alone"], answers),
    }
    if reference is None:
        return figures | {"flips": None, "lost": None, "gained": None, "p": None}
    expected = reference["labels"]["all"]
    rows = list(zip(answers, expected, gold, strict=True))
    lost = sum(answer != label and other == label for answer, other, label in rows)
    gained = sum(answer == label and other != label for answer, other, label in rows)
    flips = len(gold) - count_same(answers, expected)
    return figures | {"flips": flips, "lost": lost, "gained": gained, "p": mcnemar(lost, gained)}


def count_same(some: Sequence[str], others: Sequence[str]) -> int:
    """Count the places where two lists of labels agree."""
    return sum(a == b for a, b in zip(some, others, strict=True))


def _print_table(document: dict[str, Any]) -> None:
    print(
        f"{'peer':32}{'accuracy':>10}{'95 %':>18}{'flips':>7}{'lost':>6}{'gained':>8}{'p':>7}{'alone≠32':>10}{'alone≠all':>11}"
    )
    for name, peer in document["peers"].items():
        interval = f"{peer['accuracy_low']:.4f}–{peer['accuracy_high']:.4f}"
        paired = (
            f"{peer['flips']:>7}{peer['lost']:>6}{peer['gained']:>8}{peer['p']:>7.3f}"
            if peer["flips"] is not None
            else f"{'–':>7}{'–':>6}{'–':>8}{'–':>7}"
        )
        print(
            f"{name:32}{peer['accuracy']:>10.4f}{interval:>18}{paired}{peer['changed_by_batch']:>10}{peer['changed_by_company']:>11}"
        )
    print(
        f"of {document['num_rows']} rows. flips: answers other than those of {REFERENCE}, lost: right there and wrong here, gained: the reverse"
    )
    print("alone≠32: rows answered otherwise alone than among 32; alone≠all: than among all")
    print_doubts(document)


if __name__ == "__main__":
    main()
