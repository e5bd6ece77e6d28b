"""The host profile: what `tune` measured on a machine, and what `load` then uses there. This module is its only definition.

A profile may be shipped, so it is not trusted: it can name an engine of ours, a variant and four settings within limits, and nothing else; no session
option, no path. `host.py` says where profiles lie and when one counts; docs/tune.md describes every field.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from .bundle import write_synced
from .engines import Settings
from .errors import InputError
from .fields import Reader, unique_keys
from .profile_fields import FIELDS, cross_check

# What a gain is, by goal.
GAINS = {
    "throughput": "{:.2f} times the default's texts/s here",
    "latency": "a text alone {:.2f} times as fast as by default here",
    "both": "{:.2f} times the default here, throughput and latency together",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """An engine, a variant and how they are run.

    Attributes:
        engine: a key of `runtime.ENGINES`.
        variant: a variant of the bundle.
        threads: as in `Settings`.
        streams: as in `Settings`.
        spinning: as in `Settings`.
        max_batch_tokens: the most tokens computed at once, padding counted.
    """

    engine: str
    variant: str
    threads: int
    streams: int | None
    spinning: bool | None
    max_batch_tokens: int

    def __str__(self) -> str:
        """Name it for people: "int8 on ort-cpu, 2 threads, 512 tokens a batch"."""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        streams = f" in {self.streams} stream{'s' * (self.streams != 1)}" if self.streams else ""
        spinning = "" if self.spinning is None else ", spinning" if self.spinning else ", not spinning"
        batch = f"{self.max_batch_tokens:,} tokens a batch"
        return f"{self.variant} on {self.engine}, {threads}{streams}{spinning}, {batch}"

    @property
    def settings(self) -> Settings:
        """What the engine is opened with."""
        return Settings(threads=self.threads, streams=self.streams, spinning=self.spinning)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What one choice reached.

    Attributes:
        choice: what was measured.
        texts_per_s: median over the passes, from text to answer; None where it was never timed.
        latency_ms: milliseconds of a text that comes alone: the mean over several lengths, of that the median over the passes.
        agreement: share of decisions equal to the reference's; None where it was not compared.
        quality: the task's metric on the labels of the data; None without labels.
        golden_error: the largest difference from the golden logits.
        passes: how many passes the medians are over.
        out: why it may not win; None where it may.
    """

    choice: Choice
    texts_per_s: float | None
    latency_ms: float | None
    agreement: float | None
    quality: float | None
    golden_error: float | None
    passes: int
    out: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """What a profile is for: another bundle, processor, number of threads or version makes its figures worthless."""

    bundle: str
    processor: str
    threads: int
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """Under which conditions the winner was chosen.

    Attributes:
        num_texts: how many texts agreement was counted on.
        mean_tokens: their mean length.
        own_texts: whether they were the user's; otherwise they were made of the golden texts' words.
        reference: what agreement is with: a variant and an engine.
        floor: the least agreement.
        batch_invariant: whether only choices with batch-invariant answers could win.
        quality: the name of the metric; None without labels.
        complete: whether the search came to its end before the time did, without an interruption.
    """

    num_texts: int
    mean_tokens: float
    own_texts: bool
    reference: str
    floor: float
    batch_invariant: bool
    quality: str | None
    complete: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """The contents of a profile.

    Attributes:
        format: 1.
        date: when it was measured, ISO 8601.
        host: what it is for.
        goal: the goal whose winner `load` uses.
        winners: the best choice for each goal that has one; the search was for `goal`, the others are the best of the comparison.
        default: what `load` would use here without a profile; None where that cannot be opened.
        gain: how many times the default the winner reaches, as the goal counts; None where it was not measured.
        conditions: how it was chosen.
        measurements: everything that was measured.
    """

    format: int
    date: str
    host: Host
    goal: str
    winners: Mapping[str, Choice]
    default: Choice | None
    gain: float | None
    conditions: Conditions
    measurements: tuple[Measurement, ...]

    @property
    def winner(self) -> Choice:
        """What `load` uses."""
        return self.winners[self.goal]

    @property
    def summary(self) -> str:
        """Say in a few words why the winner is used."""
        if self.winner == self.default:
            return f"tuned on {self.date[:10]}: nothing measured was faster than the default"
        faster = "" if self.gain is None else f": {GAINS[self.goal].format(self.gain)}"
        return f"tuned on {self.date[:10]}{faster}"

    def measurement(self, choice: Choice) -> Measurement:
        """Give what a choice reached."""
        return next(measured for measured in self.measurements if measured.choice == choice)


def read(file: Path) -> Profile:
    """Read and validate a profile.

    Raises:
        InputError: it cannot be read, or every problem found in it.
    """
    try:
        fields = json.loads(file.read_bytes().decode("utf-8"), object_pairs_hook=unique_keys)
    except OSError as exc:
        raise InputError(
            f"profile {file}: cannot be read: {exc.strerror}. Make it with: python -m runtime tune BUNDLE --output {file}"
        ) from exc
    except (ValueError, RecursionError) as exc:
        raise InputError(
            f"profile {file} is not valid JSON: {exc}. Make it anew: python -m runtime tune BUNDLE"
        ) from exc
    return parse(fields, where=f"profile {file}")


def parse(fields: object, *, where: str) -> Profile:
    """Validate the fields of a profile; reader and writer both come through here.

    Raises:
        InputError: every problem found.
    """
    if not isinstance(fields, dict):
        raise InputError(f"{where} must hold one JSON object. Got {type(fields).__name__} instead.")
    reader = Reader(way_out="Make the profile anew: python -m runtime tune BUNDLE")
    values = reader.object(fields, FIELDS, at="")
    if not reader.problems:
        reader.problems += cross_check(values)
    if reader.problems:
        count = "1 problem" if len(reader.problems) == 1 else f"{len(reader.problems)} problems"
        raise InputError("\n  ".join([f"{where}: {count}", *reader.problems]))
    return Profile(
        **{
            **values,
            "host": Host(**values["host"]),
            "winners": {goal: Choice(**choice) for goal, choice in values["winners"].items()},
            "default": values["default"] and Choice(**values["default"]),
            "conditions": Conditions(**values["conditions"]),
            "measurements": tuple(
                Measurement(**{**m, "choice": Choice(**m["choice"])}) for m in values["measurements"]
            ),
        }
    )


def write(file: Path, profile: Profile) -> None:
    """Write a profile after validating it as a reader would.

    Raises:
        InputError: the file cannot be written.
    """
    fields = json.loads(json.dumps(asdict(profile), ensure_ascii=False))
    parse(fields, where=f"profile {file}")
    write_text(file, json.dumps(fields, ensure_ascii=False, indent=1) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a profile or its picture, so that after a crash it is there whole, or as it was before.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_synced(file, text)
    except OSError as exc:
        raise InputError(f"{file} cannot be written: {exc.strerror}. Choose another --output or --plot.") from exc
