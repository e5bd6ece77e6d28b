"""What is installed for a set of requirements, and how many bytes it takes: run under the interpreter that is asked about.

    PYTHON -m bench.closure torch transformers

Follows Requires-Dist from the packages named, as their markers hold here, and adds up the files that each package's RECORD lists and that are there
(byte code included, which pip compiles). Prints a JSON object of bytes by package. This module needs the standard library and `packaging` alone.
"""

import json
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path


def closure(requirements: list[str]) -> dict[str, int]:
    """Give the bytes of each package that the requirements come down to; one that is not installed is left out, for nothing needed it so far."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    sizes: dict[str, int] = {}
    followed: set[tuple[str, str]] = set()  # a package, and the extra it was asked for with, "" for none
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        sizes.setdefault(name, size_of(found))
        for extra in {"", *requirement.extras}:
            if (name, extra) in followed:
                continue
            followed.add((name, extra))
            for text in found.requires or ():
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    return sizes


def size_of(found: Distribution) -> int:
    """Add up a package's files."""
    paths = [Path(str(found.locate_file(file))) for file in found.files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file())


if __name__ == "__main__":
    print(json.dumps(closure(sys.argv[1:])))
