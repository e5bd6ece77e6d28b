"""Trainer's errors, below `runtime.errors.Error`.

Error
├── ModelError       a model that cannot be had, or does not fit the task
├── RunError         a run folder that cannot be used: it exists, is unfinished, or does not match
├── TrainingError    training went wrong: the loss is not finite
└── Interrupted      Ctrl-C or SIGTERM; what was reached is saved
"""

from runtime.errors import Error


class ModelError(Error):
    """A model cannot be had, or does not fit the task."""


class RunError(Error):
    """A run folder cannot be used."""


class TrainingError(Error):
    """Training went wrong."""


class Interrupted(Error):
    """Training was asked to stop; the message says how to go on."""
