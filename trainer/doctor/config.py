"""Every flag of `python -m trainer check` that is not one of training's about rows."""

from dataclasses import dataclass
from pathlib import Path

from runtime.errors import require
from runtime.tasks import TASKS

from ..config import RowFlags
from .suspects import JUDGES


@dataclass(frozen=True, kw_only=True)
class CheckConfig(RowFlags):
    """Look at labelled rows before training: rows that cannot be used, duplicates, leaks, labels, damaged texts. Without flags: the embedded demo."""

    config: Path | None = None
    """A YAML or JSON file with any of these settings; flags on the command line win over it."""
    model: str | None = None
    """A model on this machine, by whose tokenizer lengths are measured. Not set: they are counted in words."""
    max_length: int | None = None
    """Tokens of a text; longer ones are told. Not set: what --model takes, at most 512."""
    label_errors: bool = False
    """Also look for wrong labels in --train, by a cross-validated logistic regression on words (single-label and multi-label)."""
    strict: bool = False
    """Exit with 1 where there are warnings, too."""

    report: Path | None = None
    """Also write an HTML page."""
    json: Path | None = None
    """Also write a JSON file, for programs."""
    fix: bool = False
    """Write cleaned copies beside the files: train.csv becomes train.fixed.csv."""
    overwrite: bool = False
    """Replace a report, JSON file or cleaned copy that is there."""

    def validate(self) -> None:
        """Check what each flag's type does not say.

        Raises:
            InputError: every problem, together.
        """
        written = [file for file in (self.report, self.json) if file is not None]
        rules = [
            *self.row_rules,
            (self.max_length is None or self.max_length > 2, "--max-length must be more than 2", self.max_length),
            (
                not self.label_errors or TASKS[self.task].target in JUDGES,
                "--label-errors needs labels of whole texts: --task single-label or multi-label",
                self.task,
            ),
            *(
                (
                    self.overwrite or not file.exists(),
                    "--report and --json replace a file only with --overwrite",
                    str(file),
                )
                for file in written
            ),
        ]
        require(rules)
