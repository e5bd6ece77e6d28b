"""The command line of the runtime.

python -m runtime predict bundles/demo "My parcel never came"
python -m runtime score bundles/demo --input messages.csv --output scored.csv
python -m runtime tune bundles/demo --data messages.csv
python -m runtime check bundles/demo
python -m runtime info bundles/demo
"""

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import tyro

from .bundle import check_digests, read
from .check import check_golden
from .encode import Text
from .entities import Entity
from .errors import Error, InputError
from .host import NONE, check_targets, find, host_file, this_host
from .info import describe_bundle, describe_found, describe_machine, describe_profile
from .model import Classifier, load, open_head
from .profile import write as write_profile
from .profile import write_text
from .records import Columns
from .score import answer, score_file
from .tables import Layout
from .tasks import TASKS, Prediction

Bundle: TypeAlias = Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How the model is run."""

    engine: str = "auto"
    """auto, native, ort-cpu, openvino or ort-cuda. auto: the profile's, else the first that runs here; `info` says which and why."""
    variant: str = "auto"
    """auto, or a variant of the bundle. auto: the profile's, else int8 where its accuracy gate passed, else fp32."""
    threads: int | None = None
    """Threads for the CPU. Not set: the profile's, else as many as this process really has."""
    instruction_set: str | None = None
    """What the native engine computes with: amx, avx512-bf16, avx512-vnni, avx-vnni, avx2 … Not set: PORTABERT_INSTRUCTION_SET, else the fastest this CPU has."""
    profile: str | None = None
    """The file of a profile, or none. Not set: the one that `tune` wrote on this machine. It counts where none of the above is set."""
    abstain_below: float | None = None
    """Mark answers with a lower score as abstained; 0: none. Not set: below the bundle's level, where it has one."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """How rows lie in a file."""

    text_column: str = "text"
    """The column of the text."""
    text_pair_column: str | None = None
    """The column of the second text, for a model of pairs. Not set: text_pair."""
    format: str | None = None
    """csv, tsv, jsonl or parquet. Not set: by the file's extension."""
    columns: tuple[str, ...] | None = None
    """The names of the columns of a CSV or TSV file that has no header row."""
    delimiter: str | None = None
    """What separates cells. Not set: a comma in .csv, a tab in .tsv."""
    quoting: bool | None = None
    """Whether double quotes enclose cells. Not set: yes in .csv, no in .tsv."""
    encoding: str = "utf-8"
    """The encoding of a text file."""

    @property
    def layout(self) -> Layout:
        """How the file is laid out."""
        names = ("format", "delimiter", "quoting", "columns", "encoding")
        return Layout(**{name: getattr(self, name) for name in names})

    def roles(self, *, pair: bool, label: str | None = None) -> Columns:
        """Say which column holds what."""
        pair_column = self.text_pair_column or ("text_pair" if pair else None)
        return Columns(text=self.text_column, text_pair=pair_column, label=label)


@dataclass(frozen=True, kw_only=True)
class Predict(Engine):
    """Answer texts from the command line, or from standard input: a text a line, or a JSON object with "text" (and "text_pair") a line."""

    bundle: Bundle
    """The bundle's folder."""
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """The texts; for a model of pairs two by two. None: read standard input."""
    json: bool = False
    """Print one JSON object a text instead of columns."""


@dataclass(frozen=True, kw_only=True)
class Score(Table, Engine):
    """Answer every row of a file: all columns are kept, the answers are added."""

    bundle: Bundle
    """The bundle's folder."""
    input: Path
    """A .csv, .tsv, .jsonl or .parquet file."""
    output: Path
    """Where the answers go, in the format of the extension."""
    overwrite: bool = False
    """Replace an output that is there."""


@dataclass(frozen=True, kw_only=True)
class Tune(Table):
    """Measure which engine, variant and settings run a bundle best on this machine, and keep the winner in a profile that every command uses from then on."""

    bundle: Bundle
    """The bundle's folder."""
    data: Path | None = None
    """Texts like those it will answer, as `score` reads them. Not set: texts made of the bundle's fixed ones."""
    label_column: str | None = None
    """The column of the truth, to measure quality too. Not set: label (labels, score, entities or tags, by the task), where the file has it."""
    lengths: str | None = None
    """Without --data: the lengths of the texts in tokens, such as 16,32,128. Not set: a mix from 8 to 128."""
    seconds: float = 60
    """How long it may take. Opening every candidate and timing each once is done in any case."""
    floor: float = 0.99
    """The least share of decisions that must be the same as in fp32."""
    batch_invariant: bool = False
    """Admit only engines that give a text the same answer to the bit alone and in any batch."""
    goal: Literal["throughput", "latency", "both"] = "throughput"
    """throughput: many texts at once. latency: a text alone. both: the product of the two."""
    output: Path | None = None
    """Where the profile goes, to ship it. Not set: this user's cache folder, where `load` finds it."""
    plot: Path | None = None
    """Where the picture goes, an .svg file. Not set: beside the profile."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Verify a bundle: every file's digest, and the answers to its fixed texts on this machine."""

    bundle: Bundle
    """The bundle's folder."""


@dataclass(frozen=True, kw_only=True)
class Info(Engine):
    """Say what this machine has, and what would be used for a bundle and why."""

    bundle: Annotated[Path | None, tyro.conf.Positional] = None
    """The bundle's folder."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    try:
        verb = tyro.cli(Predict | Score | Tune | Check | Info, prog="python -m runtime", args=arguments)
        code = RUN[type(verb)](verb)
        sys.stdout.flush()
        return code
    except Error as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader has gone (`| head`); without this, Python would try to flush once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """Print a warning as errors are printed; which line of ours it came from is nobody's concern here."""
    print(f"warning: {message}", file=sys.stderr)


def _predict(verb: Predict) -> int:
    classifier = _load(verb, verb.bundle)
    show = _as_json if verb.json else _as_columns
    if verb.texts:
        texts = _argument_texts(verb.texts, pair=classifier.manifest.pair)
        for text, prediction in zip(texts, classifier.predict(texts), strict=True):
            print(show(text, prediction))
        return 0
    read: list[Text] = []
    for prediction in classifier.stream(_noted(_input_texts(sys.stdin.buffer), read)):
        print(show(read.pop(0), prediction), flush=True)
    return 0


def _score(verb: Score) -> int:
    try:
        from tqdm import tqdm
    except ImportError as exc:
        raise InputError("scoring files needs tqdm for its progress bar: pip install 'portabert[score]'") from exc
    classifier = _load(verb, verb.bundle)
    with tqdm(unit="row", disable=None) as bar:
        scored = score_file(
            classifier,
            verb.input,
            verb.output,
            columns=verb.roles(pair=classifier.manifest.pair),
            layout=verb.layout,
            overwrite=verb.overwrite,
            on_progress=bar.update,
        )
    cut = f", {scored.num_truncated:,} of them cut to the model's length" if scored.num_truncated else ""
    cut += f", {scored.num_abstained:,} abstained" if classifier.manifest.abstain_below is not None else ""
    rate = scored.num_rows / max(scored.seconds, 1e-9)
    print(f"{scored.num_rows:,} rows{cut}, {rate:,.0f} rows/s, in {verb.output}")
    return 0


def _tune(verb: Tune) -> int:
    from .entrant import Options  # what tuning needs, no other verb does
    from .measure import Worker
    from .pareto import draw
    from .tune import tune
    from .workload import from_file, from_lengths

    manifest, file = read(verb.bundle), verb.output or host_file(this_host(verb.bundle))
    plot = verb.plot or file.with_suffix(".svg")
    check_targets(file, plot, named=verb.output is not None)
    head = open_head(verb.bundle, manifest)
    if verb.data is None:
        workload = from_lengths(verb.lengths, manifest, encoder=head.encoder)
    elif verb.lengths is None:
        columns = verb.roles(pair=manifest.pair, label=verb.label_column)
        workload = from_file(verb.data, manifest, encoder=head.encoder, columns=columns, layout=verb.layout)
    else:
        raise InputError("--lengths is for made-up texts, and --data gives texts of your own: leave one of them out.")
    _note(f"measuring on {workload.source}, {workload.mean_tokens:.0f} tokens on average")
    if not workload.own:
        _note("note: on texts like yours speed and agreement may be others; give some with --data")
    options = Options(goal=verb.goal, seconds=verb.seconds, floor=verb.floor, batch_invariant=verb.batch_invariant)
    profile = tune(
        verb.bundle,
        manifest,
        workload,
        head=head,
        options=options,
        say=_note,
        open_runner=lambda choice: Worker(verb.bundle, choice, workload),
    )
    write_profile(file, profile)
    write_text(plot, draw(profile, title=f"{verb.bundle.resolve().name} on {profile.host.processor.partition(';')[0]}"))
    _print_table([*describe_profile(profile), ("profile", str(file)), ("picture", str(plot))])
    return 0


def _check(verb: Check) -> int:
    manifest = read(verb.bundle)
    problems = check_digests(verb.bundle, manifest)
    if not problems:  # a changed model is not opened
        problems = check_golden(verb.bundle, manifest)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if not problems:
        print(f"{verb.bundle}: {len(manifest.files)} files whole, {', '.join(manifest.variants)} answer as they should")
    return 1 if problems else 0


def _info(verb: Info) -> int:
    lines = describe_machine(verb.threads)
    if verb.bundle is not None:
        found = find(verb.bundle, read(verb.bundle), profile=verb.profile)
        usable = verb.profile if found.profile is not None else NONE  # `load` would warn of what is told here anyway
        classifier = _load(replace(verb, profile=usable), verb.bundle)
        names = ("engine", "variant", "threads", "instruction_set")
        asked = [f"--{name.replace('_', '-')}" for name in names if getattr(verb, name) != getattr(Engine(), name)]
        lines += describe_bundle(classifier) + describe_found(found, bundle=verb.bundle, asked=asked)
    _print_table(lines)
    return 0


def _load(verb: Engine, bundle: Path) -> Classifier:
    return load(
        bundle,
        engine=verb.engine,
        variant=verb.variant,
        threads=verb.threads,
        instruction_set=verb.instruction_set,
        profile=verb.profile,
        abstain_below=verb.abstain_below,
    )


def _print_table(lines: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:{width}}  {value}")


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _argument_texts(texts: tuple[str, ...], *, pair: bool) -> list[Text]:
    if not pair:
        return list(texts)
    if len(texts) % 2:
        raise InputError(f"this model compares two texts, so give them two by two. Got {len(texts)} instead.")
    return list(zip(texts[::2], texts[1::2], strict=True))


def _input_texts(lines: Iterable[bytes]) -> Iterator[Text]:
    for number, line in enumerate(lines, start=1):
        try:
            content = line.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as exc:
            raise InputError(f"line {number} of standard input is not UTF-8: {exc}.") from exc
        if not content.strip():
            continue
        if not content.startswith("{"):
            yield content
            continue
        try:
            yield json.loads(content)
        except json.JSONDecodeError as exc:
            raise InputError(f"line {number} of standard input begins with '{{' and is not JSON: {exc}.") from exc


def _noted(texts: Iterable[Text], read: list[Text]) -> Iterator[Text]:
    for text in texts:
        read.append(text)
        yield text


def _as_json(text: Text, prediction: Prediction) -> str:
    named = text if isinstance(text, str | dict) else dict(zip(("text", "text_pair"), text, strict=True))
    row = dict(named) if isinstance(named, dict) else {"text": named}
    return json.dumps(row | answer(prediction), ensure_ascii=False)


def _summary(prediction: Prediction) -> str:
    """Put an answer on one line: fields parted by spaces."""
    values = [getattr(prediction, field) for field in TASKS[prediction.task].columns.values()]
    marks = "".join(
        f"  ({mark})" for mark, holds in (("abstained", prediction.abstained), ("cut", prediction.truncated)) if holds
    )
    return "  ".join(_cell(value) for value in values) + marks


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, Entity):
        return f"{value.label}:{value.text!r}"
    return ", ".join(map(_cell, value)) or "–" if isinstance(value, tuple) else str(value)


def _as_columns(text: Text, prediction: Prediction) -> str:
    parts = text.values() if isinstance(text, dict) else (text,) if isinstance(text, str) else text
    shown = " | ".join(parts)
    return f"{_summary(prediction)}\t{shown}"


RUN: dict[type, Callable[[Any], int]] = {Predict: _predict, Score: _score, Tune: _tune, Check: _check, Info: _info}


if __name__ == "__main__":
    sys.exit(main())
