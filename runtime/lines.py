r"""The lines of a text file. They end at \n or \r\n and nowhere else; bytes that cannot be decoded are told, not dropped."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .errors import InputError
from .problems import Problem

_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


class Line(NamedTuple):
    """One line of a text file, its end included; not intact where bytes could not be decoded."""

    number: int
    text: str
    intact: bool

    def content(self) -> str:
        return self.text.removesuffix("\n").removesuffix("\r")


def read_lines(path: str | Path, *, encoding: str, problems: list[Problem]) -> Iterator[Line]:
    """Read the lines of a text file, a byte order mark dropped, telling each line that holds undecodable bytes."""
    number = 0
    try:
        codec = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
        with open(path, encoding=codec, errors="surrogateescape", newline="\n") as file:
            for number, text in enumerate(file, 1):
                bad = None if text.isascii() else _ESCAPED_BYTE.search(text)
                if bad:
                    byte = f"byte 0x{ord(bad[0]) - 0xDC00:02x} at column {bad.start() + 1}"
                    message = f"{byte} is not {encoding}; name the file's encoding, for example --encoding latin-1"
                    problems.append(Problem(str(path), number, message))
                yield Line(number, text, bad is None)
    except UnicodeError as exc:  # from codecs that cannot pass a bad byte through, such as utf-16
        message = f"is not {encoding} from about here: {exc}; name the file's encoding with --encoding"
        problems.append(Problem(str(path), number + 1, message))
    except LookupError as exc:
        raise InputError(f"{path}: --encoding {encoding!r} is no text encoding; for example utf-8, latin-1") from exc
    except OSError as exc:
        raise unreadable(path, exc) from exc


def unreadable(path: str | Path, exc: Exception) -> InputError:
    """Say that a file cannot be read, in the words of what went wrong."""
    return InputError(f"{path}: cannot be read: {getattr(exc, 'strerror', None) or exc}")
