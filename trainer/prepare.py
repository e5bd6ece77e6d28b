"""What a run has before its first step: labelled rows as token ids and targets, and a model that has been tried."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from accelerate.utils import set_seed

from runtime.encode import Encoded
from runtime.errors import InputError
from runtime.records import Record
from runtime.tasks import TASKS

from .config import TrainConfig
from .data import Data, load_data
from .device import Place
from .kept import Kept, Whole
from .layers import reinitialise
from .lora import add_adapters
from .losses import Target
from .model import Pretrained, graph_inputs, last_product, load_pretrained, open_encoder, start_head_at, width_of
from .network import Network, answer_in_int8, choose_network
from .objectives import OBJECTIVES, Objective
from .optim import usual_learning_rate
from .run_folder import check_folder
from .scale import Scale, Scaled, find_scale, standardise_head
from .used_rows import train_used_rows


class Split(NamedTuple):
    """Rows with their token ids and targets."""

    records: Sequence[Record]
    encoded: Encoded
    targets: list[Target]


class Prepared(NamedTuple):
    """All that a run learns with and from.

    Attributes:
        place: device and processes.
        objective: the task's.
        best_metric: chooses the weights.
        data: the rows as they were read.
        splits: the same with token ids and targets, by "train", "eval" and "test"; without those that have no rows.
        tokenizer: transformers' own.
        max_length: tokens of a text.
        network: the model as it is trained.
        kept: the model as it is kept.
        learning_rate: the highest.
        scale: what logits in training stand for, where that is another than in what is kept.
        num_weights: numbers of the model.
        num_trained: those that are trained.
    """

    place: Place
    objective: Objective
    best_metric: str
    data: Data
    splits: dict[str, Split]
    tokenizer: Any
    max_length: int
    network: Network
    kept: Kept
    learning_rate: float
    scale: Scale | None
    num_weights: int
    num_trained: int


def prepare(config: TrainConfig, *, place: Place, say: Callable[[str], None]) -> Prepared:
    """Read rows and model, and try both.

    Args:
        config: every flag.
        place: device and processes.
        say: where lines for people go.

    Raises:
        InputError: rows that cannot be used, all problems together, or a metric that the task has not.
        ModelError: the model cannot be had.
        RunError: the output folder cannot be used.
    """
    objective = OBJECTIVES[config.task]
    best_metric = _best_metric(config, objective)
    data = load_data(config)
    check_folder(config, main=place.accelerator.is_main_process)
    for note in [*data.notes, place.description]:
        say(note)

    set_seed(config.seed)
    pretrained = load_pretrained(config.model, objective=objective, labels=data.labels, max_length=config.max_length)
    model, tokenizer = pretrained.model.to(place.accelerator.device), pretrained.tokenizer
    for note in pretrained.notes:
        say(note)
    splits = _encode(config, data, pretrained, say=say)
    _begin_anew(config, pretrained, objective, splits["train"].targets, say=say)
    num_weights, head, scale = model.num_parameters(), last_product(model), None
    kept: Kept = Whole(model)
    if config.lora_rank:
        kept = add_adapters(model, rank=config.lora_rank, alpha=config.alpha, num_new=config.reinit_layers)
    learning_rate = _learning_rate(config, width_of(model.config), say=say)
    if objective.standardised:
        scale = find_scale(splits["train"].targets, centred=head.bias is not None)
        if not pretrained.head_is_new:
            standardise_head(head, scale)
        kept = Scaled(kept, head, scale)
        say(f"scores are learned as differences from {scale.mean:.4g}, in units of {scale.deviation:.4g}")
    texts = splits["train"].encoded.batch
    with kept.on_trial():
        choice = choose_network(
            model,
            per_token=TASKS[config.task].per_token,
            inputs=graph_inputs(model, tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            texts=texts,
        )
        kept.check(choice.network, texts)
    say(choice.description)
    if config.quant_aware:
        answer_in_int8(choice.network, config.model)
    train_used_rows(model, np.append(texts.input_ids, tokenizer.pad_token_id))
    num_trained = model.num_parameters(only_trainable=True)
    if config.lora_rank:
        say(
            f"adapters of rank {config.lora_rank}: {num_trained:,} of {num_weights:,} weights are trained, the head's among them"
        )
    return Prepared(
        place=place,
        objective=objective,
        best_metric=best_metric,
        data=data,
        splits=splits,
        tokenizer=tokenizer,
        max_length=pretrained.max_length,
        network=choice.network,
        kept=kept,
        learning_rate=learning_rate,
        scale=scale,
        num_weights=num_weights,
        num_trained=num_trained,
    )


def _best_metric(config: TrainConfig, objective: Objective) -> str:
    best_metric = config.best_metric or objective.best_metric
    if best_metric not in objective.metrics:
        raise InputError(
            f"--best-metric must be one of {', '.join(objective.metrics)} for --task {config.task}. Got {best_metric!r} instead."
        )
    return best_metric


def _learning_rate(config: TrainConfig, width: int, *, say: Callable[[str], None]) -> float:
    if config.learning_rate is not None:
        return config.learning_rate
    usual = usual_learning_rate(width, adapters=config.lora_rank > 0)
    say(f"learning rate {usual:.2g}, usual for {'adapters on ' if config.lora_rank else ''}a model {width} wide")
    return usual


def _encode(config: TrainConfig, data: Data, pretrained: Pretrained, *, say: Callable[[str], None]) -> dict[str, Split]:
    encoder = open_encoder(
        pretrained.tokenizer,
        max_length=pretrained.max_length,
        pair=config.text_pair_column is not None,
        offsets=TASKS[config.task].per_token,
    )
    splits = {}
    for name, records in (("train", data.train), ("eval", data.eval), ("test", data.test)):
        if not records:
            continue
        encoded = encoder.encode([record.model_input for record in records])
        if num_cut := int(encoded.truncated.sum()):
            say(
                f"warning: {num_cut} of {len(records)} {name} texts are cut at --max-length; raise it to keep their ends"
            )
        splits[name] = Split(records, encoded, OBJECTIVES[config.task].targets(records, encoded, data.labels))
    return splits


def _begin_anew(
    config: TrainConfig,
    pretrained: Pretrained,
    objective: Objective,
    targets: Sequence[Target],
    *,
    say: Callable[[str], None],
) -> None:
    """Set what is not pretrained, or shall not be: a new head's bias, and the layers of --reinit-layers."""
    model = pretrained.model
    if pretrained.head_is_new and objective.prior is not None and start_head_at(model, objective.prior(targets)):
        say("the new head starts at the labels' frequencies")
    if config.reinit_layers:
        say(reinitialise(model, config.reinit_layers))
