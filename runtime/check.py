"""Does a copied bundle still answer as it did where it was made? The fixed texts in its manifest say."""

from pathlib import Path
from typing import Any

import numpy as np

from .bundle import Manifest
from .errors import BundleError
from .model import Classifier, open_classifier

FP32_LIMIT = 1e-3  # other CPUs round otherwise
INT8_SLACK = 2.0  # and where rounding tips an 8-bit step, an int8 logit moves about as far as it was off at export


def check_golden(path: Path, manifest: Manifest, *, engine: str = "auto") -> list[str]:
    """Answer the fixed texts with every variant on this machine.

    Args:
        path: the bundle.
        manifest: its manifest.
        engine: what to run it with.

    Returns:
        The problems found; none where all is well.
    """
    return [
        problem
        for variant in manifest.variants
        for problem in _check_variant(open_classifier(path, manifest, engine=engine, variant=variant))
    ]


def golden_differences(classifier: Classifier) -> list[float]:
    """Give the largest difference from each fixed text's logits, answered alone as they were when they were made.

    Raises:
        BundleError: the tokenizer gives other token ids.
    """
    golden, differences = classifier.manifest.golden, []
    for text, input_ids, logits in zip(golden.texts, golden.input_ids, golden.logits, strict=True):
        encoded = classifier.encode([text])
        if encoded.batch.input_ids.tolist() != list(input_ids):
            raise BundleError(
                f"the tokenizer gives other token ids for {text!r}: tokenizers was changed, or tokenizer.json"
            )
        differences.append(float(np.abs(classifier.logits(encoded)[0] - np.array(logits, dtype=np.float32)).max()))
    return differences


def _check_variant(classifier: Classifier) -> list[str]:
    name, golden = classifier.opened.variant, classifier.manifest.golden
    limit = max(FP32_LIMIT, INT8_SLACK * classifier.manifest.variants[name].max_error)
    try:
        differences = golden_differences(classifier)
    except BundleError as exc:
        return [str(exc)]
    return [
        f"{name} on {classifier.opened.name} is off by {found:.2g} for {_shown(text)}; at most {limit:.2g} is expected. "
        "Use another variant on this machine, or report this"
        for text, found in zip(golden.texts, differences, strict=True)
        if not found <= limit  # NaN is a problem too
    ]


def _shown(text: Any) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."
