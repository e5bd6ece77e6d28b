"""Top layers that start anew, in every architecture; the others keep what they learnt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from trainer.errors import ModelError
from trainer.layers import num_layers, reinitialise

Load = Callable[[str], Any]


@pytest.fixture
def load(make_encoder_folder: Callable[[str], Path]) -> Load:
    def run(family: str) -> Any:
        model = transformers.AutoModel.from_pretrained(make_encoder_folder(family))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)  # far from what any initialisation gives
        return model

    return run


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "modernbert", "deberta-v2"])
def test_the_top_layer_and_the_pooler_are_new_and_nothing_else(family: str, load: Load) -> None:
    model = load(family)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    assert num_layers(model) == 2
    assert reinitialise(model, 1) == "the top 1 of 2 layers start from random weights"
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {name for name in before if ".1." in name or name.startswith("pooler.")}
    for name, parameter in model.named_parameters():
        if name in changed and parameter.ndim == 2:
            assert abs(float(parameter.detach().mean())) < 0.2, name
            assert float(parameter.detach().std()) > 0, name


def test_more_layers_than_there_are_are_refused(load: Load) -> None:
    with pytest.raises(ModelError, match="--reinit-layers 3, but this bert has 2 layers"):
        reinitialise(load("bert"), 3)
