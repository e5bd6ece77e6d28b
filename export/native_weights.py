"""An encoder as portabert-native reads it: products packed for dot products of four or two, tables and vectors padded to whole registers (native/cpp/kernels.h draws them).

int8   the arithmetic of row_wise.py, with its scales and zero points
bf16   weights and what they are multiplied by are rounded to bf16

What attention and norms compute is fp32 in both. docs/native.md names the tensors.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.engines import native_file
from trainer.families import BOUNDED

from .encoder_products import encoder_products
from .encoder_weights import EncoderWeights, Norm
from .graph import Floats
from .row_wise import INT8, SYMMETRIC, TINY, Scheme, round_to_nearest

BF16 = "_bf16"  # ends the names of weights in bf16
LANES, DEPTH = 16, 64  # columns and bytes that widths and depths are padded to
ACTIVATIONS = {
    None: 0,
    "gelu": 1,
    "gelu_new": 2,
    "gelu_pytorch_tanh": 2,
    "relu": 3,
    "tanh": 4,
}  # their numbers in portabert.h
MAX_STEPS = 4

Named = Iterator[tuple[str, npt.NDArray[Any]]]


class Form(NamedTuple):
    """How weights are stored.

    Attributes:
        precision: its number in portabert.h.
        table: (name, table (V, E), scheme) → its tensors.
        product: (name, weight (K, N), scheme) → its tensors, but the bias.
    """

    precision: int
    table: Callable[[str, Floats, Scheme], Named]
    product: Callable[[str, Floats, Scheme], Named]


def write_native(
    file: Path,
    weights: EncoderWeights,
    *,
    scheme: Scheme,
    inputs: tuple[str, ...],
    max_length: int,
    form: str = "int8",
) -> dict[str, int]:
    """Write an encoder's file.

    Args:
        file: where it goes.
        weights: of the encoder.
        scheme: which weights stay exact, and how the others were rounded.
        inputs: names of the model's inputs.
        max_length: the longest text it will be given.
        form: one of FORMS.

    Returns:
        The bytes of each weight and table in int8, by name.
    """
    tensors = dict(_tensors(weights, FORMS[form], scheme, inputs, max_length))
    shape = {**_shape(weights, inputs, max_length), "precision": FORMS[form].precision}
    native_file.write(file, shape=shape, tensors=tensors)
    return {name.removesuffix(INT8): tensor.nbytes for name, tensor in tensors.items() if name.endswith(INT8)}


def _shape(weights: EncoderWeights, inputs: tuple[str, ...], max_length: int) -> dict[str, Any]:
    layer = weights.layers[0]
    lowest, zero_point = BOUNDED.get(weights.activation, (0.0, SYMMETRIC))
    floor = -1.0 if zero_point == SYMMETRIC else lowest / zero_point if zero_point else float(TINY)
    widths = [len(step.linear.bias) for step in weights.head]
    activations = [ACTIVATIONS[step.activation] for step in weights.head]
    rest = [0] * (MAX_STEPS - len(widths))
    return {
        "vocabulary": len(weights.words),
        "positions": len(weights.positions),
        "types": len(weights.position_table(inputs)) // len(weights.positions),
        "max_length": max_length,
        "padding_idx": -1 if weights.padding_idx is None else weights.padding_idx,
        "embedding": weights.words.shape[1],
        "hidden": len(layer.output.bias),
        "heads": weights.num_heads,
        "head_size": weights.head_size,
        "intermediate": len(layer.up.bias),
        "layers": len(weights.layers),
        "activation": ACTIVATIONS[weights.activation],
        "zero_point": zero_point,
        "floor": float(np.float32(floor)),
        "relative": int(weights.relative_bias is not None),
        "per_token": int(weights.per_token),
        "steps": len(widths),
        "step_width": widths + rest,
        "step_activation": activations + rest,
    }


def _tensors(weights: EncoderWeights, form: Form, scheme: Scheme, inputs: tuple[str, ...], max_length: int) -> Named:
    for name, table in (("words", weights.words), ("positions", weights.position_table(inputs))):
        if name in scheme.exact:
            yield name, _padded(table)
        else:
            yield from form.table(name, table, scheme)
    yield from _norm("embedding_norm", weights.embedding_norm)
    for name, linear in encoder_products(weights):
        yield f"{name}_bias", _padded(linear.bias)
        if name in scheme.exact:
            yield name, _panels(linear.weight)
        else:
            yield from form.product(name, linear.weight, scheme)
    for number, layer in enumerate(weights.layers):
        yield from _norm(f"layer_{number}_attention_norm", layer.attention_norm)
        yield from _norm(f"layer_{number}_norm", layer.norm)
    norms = [weights.embedding_norm, *(norm for layer in weights.layers for norm in (layer.attention_norm, layer.norm))]
    yield "epsilons", np.array([norm.epsilon for norm in norms], dtype=np.float32)
    if weights.relative_bias is not None:
        middle = weights.relative_bias.shape[1] // 2
        kept = weights.relative_bias[:, middle - max_length + 1 : middle + max_length]  # (heads, 2 · max_length − 1)
        yield "relative_bias", np.pad(kept, [(0, 0), (0, LANES)])
    for number, step in enumerate(weights.head):
        yield f"head_{number}", _panels(step.linear.weight)
        yield f"head_{number}_bias", _padded(step.linear.bias)


def _int8_table(name: str, table: Floats, scheme: Scheme) -> Named:
    stored = round_to_nearest(table.T)
    yield name + INT8, _padded(np.ascontiguousarray(stored.values.T))
    yield f"{name}_scale", stored.scale


def _norm(name: str, norm: Norm) -> Named:
    yield f"{name}_weight", _padded(norm.weight)
    yield f"{name}_bias", _padded(norm.bias)
    if norm.residual is not None:
        yield f"{name}_residual", _padded(norm.residual)


def _int8_product(name: str, weight: Floats, scheme: Scheme) -> Named:
    stored = scheme.stored.get(name) or round_to_nearest(weight)
    yield name + INT8, _packed(stored.values, 4)
    yield f"{name}_scale", _padded(stored.scale)
    yield f"{name}_sum", _padded(stored.values.sum(axis=0, dtype=np.int32))


def _bf16_table(name: str, table: Floats, scheme: Scheme) -> Named:
    yield name + BF16, _to_bf16(_padded(table))


def _bf16_product(name: str, weight: Floats, scheme: Scheme) -> Named:
    yield name + BF16, _packed(_to_bf16(weight), 2)


FORMS = {"int8": Form(0, _int8_table, _int8_product), "bf16": Form(1, _bf16_table, _bf16_product)}


def _to_bf16(values: Floats) -> npt.NDArray[np.uint16]:
    """Give the upper halves of floats, rounded to nearest, to even where two are as near."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def _padded(values: npt.NDArray[Any], multiple: int = LANES) -> npt.NDArray[Any]:
    """Pad the last axis with zeros."""
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % multiple)])


def _panels(weight: Floats) -> Floats:
    """(K, N) -> (N / 16, K, 16)."""
    padded = _padded(weight)
    return np.ascontiguousarray(padded.reshape(len(padded), -1, LANES).swapaxes(0, 1))


def _packed(values: npt.NDArray[Any], step: int) -> npt.NDArray[Any]:
    """(K, N) -> (N / 16, K / step, 16, step)."""
    padded = _padded(_padded(values).T, DEPTH)  # (N, K)
    return np.ascontiguousarray(padded.reshape(-1, LANES, padded.shape[1] // step, step).swapaxes(1, 2))
