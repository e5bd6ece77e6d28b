"""What a peer is: a row of a table, how it is opened, and what it is given."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from zlib import crc32


class Job(NamedTuple):
    """What every peer is given. Plain strings and numbers, for it travels as JSON.

    Attributes:
        run: the Hugging Face folder of the checkpoint.
        bundle: the folder that portabert exported from it.
        work: a folder for files that peers make.
        threads: threads to compute with.
        max_length: tokens to cut a text to.
        calibration: a file of texts, a line each, for peers that calibrate on some.
    """

    run: str
    bundle: str
    work: str
    threads: int
    max_length: int
    calibration: str


class Model(NamedTuple):
    """An open peer.

    Attributes:
        many: texts to labels.
        one: a text to its label, as the library is called for one text.
        files: the files it read weights, graph and configuration from; every peer reads the same tokenizer.
        precision: what it computes in, where only the open model knows.
        description: what was opened, in words, where only the open model knows.
    """

    many: Callable[[list[str]], list[str]]
    one: Callable[[str], str]
    files: tuple[Path, ...] = ()
    precision: str | None = None
    description: str = ""


class Peer(NamedTuple):
    """A row of a table.

    Attributes:
        open: gives the model.
        settings: what was chosen, in words.
        precision: what its products are computed in: fp32, bf16 or int8.
        packages: what one has to install for it, the rest being what these require.
        environment: the row of bench/environments.py it runs in; None for this one.
        max_texts: measure on so many texts, evenly spread over the file, where all would take too long; None for all.
    """

    open: Callable[[Job], Model]
    settings: str
    precision: str
    packages: tuple[str, ...] = ()
    environment: str | None = None
    max_texts: int | None = None


def made(job: Job, name: str, write: Callable[[str, str], None]) -> Path:
    """Give the folder of files that `write(run, folder)` makes. The first peer that asks makes it, in a process that is gone before anything is timed."""
    from concurrent.futures import ProcessPoolExecutor  # here, for a cold start would pay for it
    from multiprocessing import get_context

    folder = Path(job.work) / f"{name}-{crc32(sys.prefix.encode()):08x}"  # another interpreter has other versions
    if not folder.is_dir():
        aside = folder.with_suffix(".part")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(_write_quietly, write, job.run, str(aside)).result()
        aside.rename(folder)
    return folder


def _write_quietly(write: Callable[[str, str], None], run: str, folder: str) -> None:
    sys.stdout = sys.stderr  # what exporters print must not come between a worker's replies
    Path(folder).mkdir()
    write(run, folder)
