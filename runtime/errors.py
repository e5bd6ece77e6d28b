"""Every error a user of portabert can meet.

Error
├── BundleError            a bundle that cannot be opened, with every problem found in it
│   └── BundleTooNew       written by a later portabert than this one
├── EngineUnavailable      an engine that was asked for cannot run here, and what to install
├── InputError             a row, text, file or option that cannot be used as it is
│   └── InputTooLarge      more than a stated limit
└── Overloaded             the work queue is full

`trainer` and `export` hang their own errors under `Error`. Library code raises these and nothing else on purpose; any other exception is a bug of
portabert's and keeps its traceback.
"""

from collections.abc import Iterable


class Error(Exception):
    """Anything a user can act on: the message says what is wrong, where, the value, and the way out."""


class BundleError(Error):
    """A bundle is missing, damaged, inconsistent or unsafe."""


class BundleTooNew(BundleError):
    """A bundle's format is newer than this version reads."""


class EngineUnavailable(Error):
    """An engine that was asked for by name cannot run on this machine."""


class InputError(Error):
    """A row, text, file or option cannot be used as it is."""


class InputTooLarge(InputError):
    """An input exceeds a limit."""


class Overloaded(Error):
    """Too much work is already waiting."""


def require(rules: Iterable[tuple[bool, str, object]]) -> None:
    """Hold options to their rules.

    Args:
        rules: whether each holds, what must be, beginning with the option, and the value that was given.

    Raises:
        InputError: every rule that is broken, together.
    """
    wrong = [f"{message}. Got {value!r} instead." for holds, message, value in rules if not holds]
    if wrong:
        raise InputError("\n  ".join(wrong))
