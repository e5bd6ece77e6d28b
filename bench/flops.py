"""How many FLOPs the texts of a benchmark take, counted as trainer/flops.py does, from files."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.comparison import open_bundle
from runtime.encode import Encoder
from trainer.flops import Shape, read_shape


def read_model(run: Path) -> Shape:
    """Read a checkpoint's sizes from its config.json.

    Raises:
        InputError: a family whose FLOPs are not known.
    """
    return read_shape(json.loads((run / "config.json").read_text(encoding="utf-8")))


def token_lengths(bundle: Path, texts: list[str]) -> npt.NDArray[np.int32]:
    """Count the tokens of each text, cut as all peers cut it."""
    encoder = Encoder(bundle, max_length=open_bundle(bundle).max_length, pair=False, offsets=False)
    return encoder.encode(texts).batch.lengths
