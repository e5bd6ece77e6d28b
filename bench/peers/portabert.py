"""portabert itself, as a program that embeds it would."""

from pathlib import Path
from typing import Any

from bench.peers.peer import Job, Model

SETTINGS = "runtime.load(bundle, variant={!r}, engine={!r}).predict; defaults otherwise"
TUNED = "runtime.load(bundle).predict: engine, variant and threads as `python -m runtime tune` found them best on this machine, or the defaults where it was not run"
PACKAGES = ("numpy", "tokenizers", "tyro")  # pyproject.toml's own, and an engine


def open_portabert(job: Job, *, variant: str, engine: str) -> Model:
    """Open a variant on an engine."""
    import runtime

    return _model(runtime.load(job.bundle, variant=variant, engine=engine, threads=job.threads), job)


def open_tuned(job: Job) -> Model:
    """Open what a host's profile says, the defaults where there is none."""
    import runtime

    return _model(runtime.load(job.bundle), job)


def _model(classifier: Any, job: Job) -> Model:
    opened, bundle = classifier.opened, Path(job.bundle)
    variant = classifier.manifest.variants[opened.variant]
    return Model(
        lambda texts: [str(prediction.label) for prediction in classifier.predict(texts)],
        lambda text: str(classifier.predict(text).label),
        files=(bundle / variant.file, bundle / "bundle.json", bundle / "config.json"),
        precision=variant.precision.removeprefix("native-").partition("-")[0],  # of int8-weights the products are int8
        description=f"{opened.variant} on {opened.engine.description} ({opened.reason})",
    )
