"""Which rows of a table a flag asks for."""

from collections.abc import Iterable


def choose(flag: str, wanted: tuple[str, ...], known: Iterable[str]) -> tuple[str, ...]:
    """Give the rows asked for, all where none are.

    Raises:
        SystemExit: one is not in the table, with those that are.
    """
    known = tuple(known)
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"error: {flag} takes {', '.join(map(repr, known))}. Got {unknown[0]!r} instead.")
    return wanted or known
