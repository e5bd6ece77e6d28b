"""Low-rank adapters (LoRA, Hu et al. 2022) on an encoder's products, by peft: trained in the place of their weights, merged into them in what is kept.

    in training   y = W x + B (A x) · alpha / rank       W (N, K) stays as pretrained; A (rank, K) and B (N, rank) are trained, B from 0
    as shipped    y = (W + B A · alpha / rank) x         a plain Hugging Face folder

Embeddings, biases and norms below the head stay as pretrained, too. What stands above the layers (pooler, head) is trained whole, and so are layers that start from random weights: in those there is nothing to adapt.
Nothing is dropped before A: peft would draw that from torch's generator, and what is dropped here follows from the seed and the step (noise.py).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.pytorch_utils import Conv1D

from runtime.encode import Batch

from .errors import ModelError, RunError
from .kept import load_weights, read_weights
from .layers import depths, num_layers
from .network import TOLERANCE, Network, difference, try_out

NAME = "default"  # peft's for a model's first adapter
TRIAL = 0.1  # the deviation of B on trial: logits move by far more than the tolerance


class Adapted:
    """A model with adapters: the one that is trained, and the one that is shipped.

    Args:
        model: transformers', with peft's adapters inside.
        adapters: by the names of the products they stand for.
    """

    def __init__(self, model: Any, adapters: dict[str, Any]) -> None:
        self._model, self._adapters = model, adapters
        self._inside = tuple(f"{name}." for name in adapters)
        self._frozen = _digest(model)

    @contextmanager
    def on_trial(self) -> Iterator[None]:
        """Let the adapters answer, whose products are all 0 before training: a pass that leaves them out would not be found out otherwise."""
        generator = torch.Generator().manual_seed(0)
        factors = [adapter.lora_B[NAME].weight for adapter in self._adapters.values()]
        with torch.no_grad():
            for factor in factors:
                factor.copy_(torch.empty(factor.shape).normal_(std=TRIAL, generator=generator))
            yield
            for factor in factors:
                factor.zero_()

    def check(self, network: Network, texts: Batch) -> None:
        """Check, on trial, that merged weights give the logits of the adapters beside them.

        Raises:
            ModelError: they do not, for the model reads a weight itself, around its adapter.
        """
        beside = try_out(network, texts)
        with self._merged():
            apart = difference(try_out(network, texts), beside)
        if apart > TOLERANCE:
            raise ModelError(
                f"--lora-rank is not for this {self._model.config.model_type}: it reads weights around their adapters (merged, logits differ by {apart:.1e}). Leave it out."
            )

    @contextmanager
    def _merged(self) -> Iterator[None]:
        """Compute with merged weights for a moment; what comes back has the same bits, which subtracting would not give."""
        before = {name: adapter.get_base_layer().weight.data for name, adapter in self._adapters.items()}
        for name, adapter in self._adapters.items():
            adapter.get_base_layer().weight.data = before[name] + adapter.get_delta_weight(NAME)
            adapter.enable_adapters(False)
        yield
        for name, adapter in self._adapters.items():
            adapter.get_base_layer().weight.data = before[name]
            adapter.enable_adapters(True)

    def state_dict(self) -> dict[str, Any]:
        """Give what is trained, and the digest of what is not: that comes from the pretrained model again."""
        return {"frozen": self._frozen, **{name: parameter.detach() for name, parameter in _trained(self._model)}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            RunError: it was trained beside other pretrained weights.
        """
        if state["frozen"] != self._frozen:
            raise RunError(
                "the weights of --model are not those that the adapters were trained beside. Bring the old ones back, or train anew with --overwrite."
            )
        with torch.no_grad():
            for name, parameter in _trained(self._model):
                parameter.copy_(state[name])

    def save_pretrained(self, folder: Path) -> None:
        """Write the merged weights; the model in training stays as it is."""
        weights = {
            name: tensor for name, tensor in self._model.state_dict().items() if not name.startswith(self._inside)
        }
        for name, adapter in self._adapters.items():
            base = adapter.get_base_layer().state_dict()
            base["weight"] = (base["weight"] + adapter.get_delta_weight(NAME).detach()).contiguous()
            weights |= {f"{name}.{part}": tensor for part, tensor in base.items()}
        self._model.save_pretrained(folder, state_dict=weights)

    def load_pretrained(self, folder: Path) -> None:
        """Compute with the merged weights of a folder, without adapters."""
        weights = read_weights(folder)
        for name, adapter in self._adapters.items():
            base = adapter.get_base_layer()
            base.load_state_dict({part: weights.pop(f"{name}.{part}") for part in base.state_dict()})
            adapter.enable_adapters(False)
        load_weights(self._model, weights, besides=self._inside)


def add_adapters(model: Any, *, rank: int, alpha: int, num_new: int) -> Adapted:
    """Put adapters on the products of a model's layers, and freeze what is not to be trained.

    Args:
        model: a transformers model; it is changed.
        rank: of the adapters.
        alpha: their product is multiplied by alpha / rank.
        num_new: top layers that start from random weights.

    Raises:
        ModelError: its layers are not known, or no product is as wide as `rank`.
    """
    from peft import LoraConfig, inject_adapter_in_model

    depth, adapted = depths(model), num_layers(model) - num_new
    products = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and 0 < depth[f"{name}.weight"] <= adapted
    }
    if not products:
        raise ModelError(
            f"--lora-rank needs layers with products to adapt; this {model.config.model_type} has none{' below those of --reinit-layers' if num_new else ''}. Leave it out."
        )
    narrowest = min(min(module.weight.shape) for module in products.values())
    if rank > narrowest:
        raise ModelError(
            f"--lora-rank must be at most {narrowest}, the width of this model's products. Got {rank} instead."
        )
    settings = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=list(products),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in products.values()),
    )
    above = [parameter for name, parameter in model.named_parameters() if depth[name] > adapted]
    inject_adapter_in_model(settings, model)
    for parameter in above:
        parameter.requires_grad_(True)
    adapters = {name: model.get_submodule(name) for name in products}
    for adapter in adapters.values():
        # Weights are fp32 and autocast rounds each product's rows; peft would copy them to fp32 before.
        adapter.cast_input_dtype_enabled = False
    return Adapted(model, adapters)


def _trained(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def _digest(model: torch.nn.Module) -> str:
    """Digest the weights that are not trained."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(parameter.detach().cpu().numpy()).data)
    return digest.hexdigest()
