"""Answer with a bundle: numpy, tokenizers and one engine, no torch.

import runtime
classifier = runtime.load("bundles/demo")
classifier.predict("My parcel never came").label
"""

from .bundle import Manifest
from .encode import Batch
from .engines import ENGINES, Engine
from .entities import Entity
from .errors import (
    BundleError,
    BundleTooNew,
    EngineUnavailable,
    Error,
    InputError,
    InputTooLarge,
    Overloaded,
)
from .model import Classifier, load
from .tasks import TASKS, Prediction

__all__ = [
    "ENGINES",
    "TASKS",
    "Batch",
    "BundleError",
    "BundleTooNew",
    "Classifier",
    "Engine",
    "EngineUnavailable",
    "Entity",
    "Error",
    "InputError",
    "InputTooLarge",
    "Manifest",
    "Overloaded",
    "Prediction",
    "load",
]
