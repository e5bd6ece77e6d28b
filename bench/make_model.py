"""A model with random weights, for speed alone: its answers mean nothing.

    python -m bench.make_model --size base --tokenizer RUN --output runs/bert-base-random
    python -m bench.make_model --size base --family roberta --tokenizer RUN --output runs/roberta-base-random
    python -m bench.make_model --size distil --family distilbert --tokenizer RUN --output runs/distilbert-random

Writes a Hugging Face folder that `python -m export FOLDER --task single-label` and the benchmarks take. The tokenizer is a real one, copied from RUN, so that
texts have as many tokens as they would.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

Size = Literal["tiny", "minilm", "distil", "base", "large"]
Family = Literal["bert", "roberta", "distilbert"]
# layers, hidden, heads, intermediate
SIZES: dict[Size, tuple[int, int, int, int]] = {
    "tiny": (2, 128, 2, 512),  # google/bert_uncased_L-2_H-128_A-2
    "minilm": (6, 384, 12, 1536),  # sentence-transformers/all-MiniLM-L6-v2
    "distil": (6, 768, 12, 3072),
    "base": (12, 768, 12, 3072),
    "large": (24, 1024, 16, 4096),
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


@dataclass(frozen=True, kw_only=True)
class MakeModelConfig:
    """Write an encoder with random weights."""

    tokenizer: Path
    """A checkpoint whose tokenizer is copied; it must be BERT's kind."""
    output: Path
    """The folder to write."""
    size: Size = "base"
    """Layers and widths, as BERT's sizes are named."""
    family: Family = "bert"
    """The architecture. Its texts are cut by BERT's tokenizer all the same, so that all are as long."""
    labels: int = 2
    """Of the classification head."""
    seed: int = 0
    """Of the weights."""
    overwrite: bool = False
    """Replace a folder that is there."""


def main() -> None:
    """Run the program."""
    config = tyro.cli(MakeModelConfig, prog="python -m bench.make_model", description=__doc__)
    if config.output.exists() and not config.overwrite:
        raise SystemExit(f"error: {config.output} is there. Choose another --output, or --overwrite.")
    model = make_model(config)
    print(f"{config.output}: {model.num_parameters() / 1e6:.1f} million random weights")
    print(f"next: python -m export {config.output} --task single-label --variants fp32 int8 int8-channel")


def make_model(config: MakeModelConfig) -> Any:
    """Make and save the model with its tokenizer."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(config.tokenizer)
    torch.manual_seed(config.seed)
    model = AutoModelForSequenceClassification.from_config(_model_config(config, tokenizer)).eval()
    model.save_pretrained(config.output)
    for name in TOKENIZER_FILES:
        if (config.tokenizer / name).is_file():
            shutil.copy(config.tokenizer / name, config.output)
    if config.family != "bert":  # the others know no types, and DistilBERT refuses them
        file = config.output / "tokenizer_config.json"
        names = {"model_input_names": ["input_ids", "attention_mask"]}
        file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **names}), encoding="utf-8")
    return model


def _model_config(config: MakeModelConfig, tokenizer: Any) -> Any:
    from transformers import BertConfig, DistilBertConfig, RobertaConfig

    layers, hidden, heads, intermediate = SIZES[config.size]
    shared = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "num_labels": config.labels}
    if config.family == "distilbert":
        return DistilBertConfig(n_layers=layers, dim=hidden, n_heads=heads, hidden_dim=intermediate, **shared)
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
    }
    if config.family == "roberta":  # whose positions begin behind the padding's
        return RobertaConfig(**sizes, **shared, type_vocab_size=1, max_position_embeddings=514)
    return BertConfig(**sizes, **shared)


if __name__ == "__main__":
    main()
