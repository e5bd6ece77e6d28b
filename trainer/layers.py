"""The layers of an encoder by depth: which learn slower, and which start anew."""

import re
from typing import Any

import torch

from .errors import ModelError

_EMBEDDING = re.compile(r"embed|\.w[tp]e\.")
_LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")  # as in bert.encoder.layer.5.output.dense.weight


def num_layers(model: torch.nn.Module) -> int:
    """Count the layers of an encoder, 0 where its parameters' names do not tell."""
    depths = [int(found.group(1)) for name, _ in model.named_parameters() if (found := _LAYER.search(f".{name}"))]
    return max(depths, default=-1) + 1


def depths(model: torch.nn.Module) -> dict[str, int]:
    """Give each parameter's depth: 0 for embeddings, 1 for the first layer, one more than the last layer's for the head."""
    top = num_layers(model) + 1
    found = {}
    for name, _ in model.named_parameters():
        layer = _LAYER.search(f".{name}")
        found[name] = int(layer.group(1)) + 1 if layer else 0 if _EMBEDDING.search(f".{name}") else top
    return found


def reinitialise(model: Any, count: int) -> str:
    """Give the top layers and the pooler new random weights, as transformers would initialise them (Zhang et al. 2021, section 5).

    Args:
        model: a transformers model.
        count: layers.

    Returns:
        A line for people.

    Raises:
        ModelError: it has fewer layers.
    """
    layers = num_layers(model)
    if count > layers:
        raise ModelError(f"--reinit-layers {count}, but this {model.config.model_type} has {layers} layers.")
    chosen = {
        name for name, depth in depths(model).items() if layers - count < depth <= layers or ".pooler." in f".{name}"
    }
    for name, module in model.named_modules():
        parameters = {f"{name}.{parameter}" for parameter, _ in module.named_parameters()}
        if parameters and parameters <= chosen:
            vars(module).pop("_is_hf_initialized", None)  # else it is left as it is
            model._init_weights(module)
    return f"the top {count} of {layers} layers start from random weights"
