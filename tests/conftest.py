"""Tiny random models and vocabularies, made on the spot: no network, no downloads."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from trainer import demo

WORDS = 600  # tokens in a tiny vocabulary
SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


class Family(NamedTuple):
    """An architecture: its configuration, its kind of vocabulary, and what differs."""

    config: str
    vocabulary: str
    settings: dict[str, Any]


FAMILIES: dict[str, Family] = {
    "bert": Family("BertConfig", "wordpiece", {**SIZES, "max_position_embeddings": 64}),
    "roberta": Family("RobertaConfig", "bpe", {**SIZES, "max_position_embeddings": 66, "type_vocab_size": 1}),
    "distilbert": Family(
        "DistilBertConfig",
        "wordpiece without types",
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48, "max_position_embeddings": 64},
    ),
    "electra": Family("ElectraConfig", "wordpiece", {**SIZES, "embedding_size": 24, "max_position_embeddings": 64}),
    "mpnet": Family("MPNetConfig", "wordpiece without types", {**SIZES, "max_position_embeddings": 66}),
    "deberta-v2": Family(
        "DebertaV2Config",
        "unigram",
        {
            **SIZES,
            "max_position_embeddings": 64,
            "relative_attention": True,
            "position_buckets": 16,
            "pos_att_type": ["p2c", "c2p"],
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "type_vocab_size": 0,
        },
    ),
    "xlm-roberta": Family(
        "XLMRobertaConfig", "unigram", {**SIZES, "max_position_embeddings": 66, "type_vocab_size": 1}
    ),
    "modernbert": Family(
        "ModernBertConfig",
        "bpe",
        {
            **SIZES,
            "max_position_embeddings": 64,
            "global_attn_every_n_layers": 2,
            "local_attention": 16,
            "reference_compile": False,
        },
    ),
    "gpt2": Family("GPT2Config", "gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the profiles in the cache folder of whoever runs it."""
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def quick_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure a machine's peak in a moment: half a second before each of these trainings would double their time."""
    from trainer import peak

    monkeypatch.setattr(peak, "SECONDS", 0.003)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Messages of the embedded demo."""
    return [row.values["text"] for row in demo.rows("intent", split="train")]


@pytest.fixture(scope="session")
def make_encoder_folder(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Callable[..., Path]:
    """Give a function that makes a pretrained folder without a fitting head: (family) → folder."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            made[family] = _make_folder(tmp_path_factory.mktemp(family), family, texts)
        return made[family]

    return make


def _make_folder(folder: Path, family: str, texts: list[str]) -> Path:
    config_name, vocabulary, settings = FAMILIES[family]
    tokenizer = VOCABULARIES[vocabulary](texts)
    tokenizer.save_pretrained(folder)
    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = getattr(transformers, config_name)(vocab_size=len(tokenizer), **special, **settings)
    config.initializer_range = 0.2  # ten times the usual: logits of some size, which errors can show on
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.base_model.save_pretrained(folder)
    return folder


def _wordpiece(texts: list[str], *, type_ids: bool = True) -> Any:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=WORDS, special_tokens=special, show_progress=False)
    )
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    names = ["input_ids", "token_type_ids", "attention_mask"] if type_ids else ["input_ids", "attention_mask"]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=names,
        clean_up_tokenization_spaces=False,
    )


def _wordpiece_without_types(texts: list[str]) -> Any:
    return _wordpiece(texts, type_ids=False)


def _bpe(texts: list[str]) -> Any:
    special = list(ROBERTA_TOKENS)
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=WORDS, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    ids = {token: tokenizer.token_to_id(token) for token in special}
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", ids["</s>"]), ("<s>", ids["<s>"]))
    return _as_roberta(tokenizer)


def _gpt2(texts: list[str]) -> Any:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=WORDS, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def _unigram(texts: list[str]) -> Any:
    special = list(ROBERTA_TOKENS)
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=WORDS, special_tokens=special, unk_token="<unk>", show_progress=False)
    )
    ids = {token: tokenizer.token_to_id(token) for token in special}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, ids[token]) for token in ("<s>", "</s>")],
    )
    return _as_roberta(tokenizer)


ROBERTA_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def _as_roberta(tokenizer: Any) -> Any:
    """Wrap a vocabulary with RoBERTa's special tokens."""
    begin, padding, end, unknown, mask = ROBERTA_TOKENS
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        cls_token=begin,
        eos_token=end,
        sep_token=end,
        pad_token=padding,
        unk_token=unknown,
        mask_token=mask,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


VOCABULARIES: dict[str, Callable[[list[str]], Any]] = {
    "wordpiece": _wordpiece,
    "wordpiece without types": _wordpiece_without_types,
    "bpe": _bpe,
    "gpt2": _gpt2,
    "unigram": _unigram,
}


class Made(NamedTuple):
    """A run and its bundle, with random weights of a fixed seed."""

    run: Path
    bundle: Path
    task: str
    pair: bool


# The embedded demo's view and the trainer's flags for each task, pairs included.
SHAPES: dict[str, tuple[str, ...]] = {
    "single-label": ("--train=demo:intent",),
    "multi-label": ("--train=demo:topics", "--task=multi-label"),
    "regression": ("--train=demo:urgency", "--task=regression"),
    "token": ("--train=demo:entities", "--task=token"),
    "pair": ("--train=demo:pairs", "--text-pair-column=text_pair"),
}


@pytest.fixture(scope="session")
def make_run(
    tmp_path_factory: pytest.TempPathFactory, make_encoder_folder: Callable[..., Path]
) -> Callable[[str, str], Path]:
    """Give a function that trains a tiny model for a moment: (family, key of SHAPES) → run folder."""
    made: dict[tuple[str, str], Path] = {}

    def make(family: str, shape: str) -> Path:
        if (family, shape) not in made:
            from trainer.__main__ import main

            run = tmp_path_factory.mktemp("runs") / f"{family}-{shape}"
            flags = [
                f"--model={make_encoder_folder(family)}",
                f"--output={run}",
                "--epochs=1",
                "--batch-size=128",
                "--precision=fp32",
            ]
            assert main([*flags, *SHAPES[shape]]) == 0
            made[family, shape] = run
        return made[family, shape]

    return make


@pytest.fixture(scope="session")
def make_bundle(
    tmp_path_factory: pytest.TempPathFactory, make_run: Callable[[str, str], Path]
) -> Callable[[str, str], Path]:
    """Give a function that trains and exports a tiny model: (family, key of SHAPES) → bundle folder."""
    made: dict[tuple[str, str], Path] = {}

    def make(family: str, shape: str) -> Path:
        if (family, shape) not in made:
            from export import speed
            from export.__main__ import main

            # Its figures of speed are not what these tests are about.
            speed.MAX_TEXTS, speed.REPEATS, speed.LATENCY_TEXTS = 16, 1, 2
            bundle = tmp_path_factory.mktemp("bundles") / f"{family}-{shape}"
            limits = ["--max-change=1", "--max-metric-drop=1"]  # random weights decide by a hair
            variants = ["--variants", "fp32", "int8"]  # whether or not portabert-native is there
            assert main([str(make_run(family, shape)), f"--output={bundle}", *variants, *limits]) == 0
            made[family, shape] = bundle
        return made[family, shape]

    return make


@pytest.fixture
def bundle(make_bundle: Callable[[str, str], Path], tmp_path: Path) -> Path:
    """Give a tiny single-label BERT bundle that the test may damage."""
    import shutil

    copy = tmp_path / "bundle"
    shutil.copytree(make_bundle("bert", "single-label"), copy)
    return copy


def read_manifest(bundle: Path) -> dict[str, Any]:
    """Read bundle.json as plain JSON."""
    return json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
