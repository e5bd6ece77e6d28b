"""What a run logs: metrics.jsonl, the same to the byte however often the run was killed and resumed, and timing.jsonl, which is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.bundle import write_synced

METRICS, TIMING = "metrics.jsonl", "timing.jsonl"


class History:
    """The logs of a run, cut back to the step it resumes from.

    Args:
        run: its folder.
        step: how far it is.
        main: whether this process writes; the others keep silent.
        tell: who else gets each line.
    """

    def __init__(
        self, run: Path, step: int, *, main: bool, tell: Callable[[dict[str, Any]], None] = lambda line: None
    ) -> None:
        self._files, self._main, self._tell = {name: run / name for name in (METRICS, TIMING)}, main, tell
        if main:
            for name, file in self._files.items():
                kept = [line for line in self._read(name) if line["step"] <= step] if step else []
                write_synced(file, "".join(json.dumps(line) + "\n" for line in kept))

    def add(self, name: str, line: dict[str, Any]) -> None:
        """Append a line to METRICS or TIMING."""
        if self._main:
            with self._files[name].open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
            self._tell(line)

    def lines(self) -> list[dict[str, Any]]:
        """Give the lines of metrics.jsonl, those about the loss with their timing."""
        timing = {line["step"]: line for line in self._read(TIMING)}
        return [{**(timing.get(line["step"], {}) if "loss" in line else {}), **line} for line in self._read(METRICS)]

    def _read(self, name: str) -> list[dict[str, Any]]:
        if not self._files[name].is_file():
            return []
        lines = self._files[name].read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]  # what follows the last line end was cut by a kill
