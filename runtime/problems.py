"""What is wrong with rows, and where: gathered while reading, told all at once."""

from collections.abc import Sequence
from typing import NamedTuple

from .errors import InputError

SHOWN_PROBLEMS = 20


class Problem(NamedTuple):
    """What is wrong, and where."""

    path: str
    line: int | None
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.line is None else f"{self.path}:{self.line}: {self.message}"


class DataError(InputError):
    """Rows cannot be used; `problems` holds every one of them, the message the first of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(tuple(problems))  # the only argument, so that the error survives pickling
        self.problems: tuple[Problem, ...] = tuple(problems)

    def __str__(self) -> str:
        where = ", ".join(dict.fromkeys(problem.path for problem in self.problems))
        num_problems = len(self.problems)
        lines = [f"{where}: {num_problems} problem{'s' * (num_problems != 1)}"]
        lines += [f"  {problem}" for problem in self.problems[:SHOWN_PROBLEMS]]
        if num_problems > SHOWN_PROBLEMS:
            lines.append(f"  and {num_problems - SHOWN_PROBLEMS} more")
        return "\n".join(lines)


def shown(value: object, *, limit: int = 60) -> str:
    """Write a value for a message: as in source code, and never longer than `limit`."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
