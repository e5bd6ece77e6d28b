"""What is kept of a model in training: to go on from, and to ship."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch

from runtime.encode import Batch

from .network import Network
from .states import WEIGHTS


class Kept(Protocol):
    """A model in training, as the rest of the program keeps it: `Whole`, or `lora.Adapted`, whose weights are shipped otherwise than they are trained."""

    def on_trial(self) -> AbstractContextManager[None]:
        """Let everything that will be trained show in the logits while passes are compared."""

    def check(self, network: Network, texts: Batch) -> None:
        """Check, on trial, that the weights as they are shipped give the logits of those in training."""

    def state_dict(self) -> dict[str, Any]:
        """Give all that training goes on from."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Go on from `state_dict`'s."""

    def save_pretrained(self, folder: Path) -> None:
        """Write the weights as they are shipped, as a Hugging Face folder."""

    def load_pretrained(self, folder: Path) -> None:
        """Compute with the weights of such a folder from here on; training is over."""


class Whole:
    """A model that is shipped as it is trained."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.state_dict, self.load_state_dict = model.state_dict, model.load_state_dict
        self.save_pretrained = model.save_pretrained

    def on_trial(self) -> AbstractContextManager[None]:
        """Change nothing."""
        return nullcontext()

    def check(self, network: Network, texts: Batch) -> None:
        """Find nothing: they are the same."""

    def load_pretrained(self, folder: Path) -> None:
        """Compute with the weights of a folder."""
        load_weights(self._model, read_weights(folder))


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a Hugging Face folder."""
    from safetensors.torch import load_file

    return load_file(folder / WEIGHTS)


def load_weights(model: Any, weights: dict[str, torch.Tensor], *, besides: tuple[str, ...] = ()) -> None:
    """Load weights that this program saved.

    Args:
        model: they are of.
        weights: all but what is tied to others, and but what begins with one of `besides`.
        besides: beginnings of names.
    """
    missing, unexpected = model.load_state_dict(weights, strict=False)
    untied = {name for name in missing if not name.endswith(("position_ids", "token_type_ids"))}
    untied = {name for name in untied if not name.startswith(besides)}
    if unexpected or (untied and not getattr(model, "_tied_weights_keys", None)):
        raise AssertionError(f"the weights that were saved do not load: missing {untied}, unexpected {unexpected}")
