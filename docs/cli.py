"""Write docs/cli.md from the programs' own --help.

python docs/cli.py
"""

import os
import re
import subprocess
import sys
from pathlib import Path

COMMANDS = (
    "trainer",
    "trainer check",
    "trainer compare",
    "export",
    "runtime",
    "runtime predict",
    "runtime score",
    "runtime tune",
    "runtime check",
    "runtime info",
)


def render() -> str:
    """Lay out the help of every command."""
    sections = [f"## python -m {command}\n\n```text\n{_help(command)}\n```\n" for command in COMMANDS]
    return "\n".join(
        [
            "# Command lines\n\nWritten by `python docs/cli.py` from `--help`; a test keeps the two the same.\n",
            *sections,
        ]
    )


def _help(command: str) -> str:
    # A fixed width, and no colours: the page must not depend on the terminal.
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), "--help"], capture_output=True, text=True, check=True, env=environment
    )
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    return "\n".join(line.rstrip() for line in plain.strip().splitlines())


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(render(), encoding="utf-8")
