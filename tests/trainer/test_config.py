"""A field of TrainConfig is a flag, a key of --config files and a line of --help; what its type does not say is checked together."""

import json
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from runtime.errors import InputError
from runtime.tasks import TASKS
from trainer import __main__ as command
from trainer.checkpoint import read_config, write_config
from trainer.config import TaskName, TrainConfig
from trainer.objectives import OBJECTIVES

NAMES = [field.name for field in fields(TrainConfig)]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainConfig]:
    """Give a function: command line → what would be trained."""
    seen: list[TrainConfig] = []

    def keep(config: TrainConfig) -> int:
        seen.append(config)
        return 0

    monkeypatch.setattr(command, "_train", keep)

    def run(*arguments: str) -> TrainConfig:
        assert command.main(list(arguments)) == 0
        return seen[-1]

    return run


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Give a function: exit code, command line → what is said on stderr."""
    monkeypatch.setattr(command, "_train", lambda config: pytest.fail("nothing must be trained"))

    def run(code: int, *arguments: str) -> str:
        try:
            found: Any = command.main(list(arguments))
        except SystemExit as exc:
            found = exc.code
        assert found == code
        told = capsys.readouterr().err
        assert "Traceback" not in told
        return " ".join(told.replace("│", " ").split())

    return run


def write(file: Path, settings: Any) -> str:
    file.write_text(settings if isinstance(settings, str) else json.dumps(settings), encoding="utf-8")
    return f"--config={file}"


# the dataclass


def test_without_flags_the_demo_is_trained(parse: Callable[..., TrainConfig]) -> None:
    config = parse()
    assert config == TrainConfig()
    assert (config.train, config.task, config.model, config.output) == ("demo:intent", "single-label", "minilm", Path("runs/demo"))  # fmt: skip
    config.validate()


def test_every_field_has_a_default_and_a_line_that_explains_it() -> None:
    source = Path(command.__file__).with_name("config.py").read_text(encoding="utf-8")
    for field in fields(TrainConfig):
        assert field.default is not MISSING, field.name
        _, _, after = source.partition(f"\n    {field.name}: ")
        assert after.splitlines()[1].strip().startswith('"""'), field.name


def test_the_tasks_of_the_flag_are_those_there_are() -> None:
    assert set(get_args(TaskName)) == set(TASKS) == set(OBJECTIVES)


def test_help_lists_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert [name for name in NAMES if f"--{name.replace('_', '-')}" not in told] == []


def test_all_problems_are_told_together_with_their_values() -> None:
    wrong = TrainConfig(
        eval_fraction=1.5, epochs=0, batch_size=8, gradient_accumulation=16, learning_rate=3.0, max_length=2, patience=-1
    )  # fmt: skip
    with pytest.raises(InputError) as caught:
        wrong.validate()
    told = str(caught.value).splitlines()
    assert told[0] == "--epochs must be a positive integer. Got 0 instead."
    assert [line.strip().split(" ")[0] for line in told[1:]] == [
        "--gradient-accumulation",
        "--learning-rate",
        "--max-length",
        "--eval-fraction",
        "--patience",
    ]
    assert all("Got " in line and line.endswith(" instead.") for line in told)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"eval_fraction": -0.1}, r"--eval-fraction .* Got -0\.1 instead"),
        ({"epochs": -2}, "--epochs must be a positive integer. Got -2 instead"),
        ({"batch_size": 0}, "--batch-size must be a positive integer. Got 0 instead"),
        ({"batch_tokens": 0}, "--batch-tokens must be a positive integer. Got 0 instead"),
        ({"batch_tokens": 900, "batch_size": 8}, "--batch-tokens and --batch-size exclude each other. Got 8 instead"),
        (
            {"cuda_graphs": True, "gradient_accumulation": 2},
            r"--cuda-graphs and --gradient-accumulation exclude each other: a graph is a whole step\. Got 2 instead",
        ),
        ({"gradient_accumulation": 0}, r"--gradient-accumulation must be from 1 to --batch-size \(16\). Got 0 instead"),
        ({"batch_tokens": 900, "batch_size": 32}, "--batch-tokens and --batch-size exclude each other. Got 32 instead"),
        ({"learning_rate": 0.0}, r"--learning-rate must be between 0 and 1. Got 0\.0 instead"),
        ({"learning_rate": float("nan")}, r"--learning-rate .* Got nan instead"),
        ({"warmup_fraction": 1.1}, r"--warmup-fraction must be between 0 and 1. Got 1\.1 instead"),
        ({"weight_decay": -0.1}, r"--weight-decay must be 0 or more. Got -0\.1 instead"),
        ({"max_grad_norm": -1.0}, r"--max-grad-norm must be 0 or more. Got -1\.0 instead"),
        ({"max_length": 2}, "--max-length must be more than 2. Got 2 instead"),
        ({"label_smoothing": 1.0}, r"--label-smoothing must be at least 0 and below 1. Got 1\.0 instead"),
        ({"eval_steps": 0}, "--eval-steps must be a positive integer. Got 0 instead"),
        ({"save_steps": 0}, "--save-steps must be a positive integer. Got 0 instead"),
        ({"patience": 0}, "--patience must be a positive integer. Got 0 instead"),
        ({"labels": ("a", "a")}, r"--labels must be different names. Got \('a', 'a'\) instead"),
        ({"labels": ()}, r"--labels must be different names. Got \(\) instead"),
        ({"labels": ("a", "b"), "task": "regression"}, "--labels with --task regression must be one name. Got .*'b'"),
        ({"overwrite": True, "resume": True}, "--resume and --overwrite exclude each other"),
        ({"label_smoothing": 0.1, "task": "multi-label"}, "--label-smoothing is for .*Got 'multi-label' instead"),
        ({"class_weights": "inverse", "task": "regression"}, "--class-weights needs labels"),
        ({"focal_gamma": 2.0, "task": "regression"}, "--focal-gamma needs labels"),
        ({"focal_gamma": -1.0}, r"--focal-gamma must be 0 or more. Got -1\.0 instead"),
        ({"layer_decay": 0.0}, r"--layer-decay must be above 0 and at most 1. Got 0\.0 instead"),
        ({"reinit_layers": -1}, "--reinit-layers must be 0 or more. Got -1 instead"),
        ({"lora_rank": -1}, "--lora-rank must be 0 or more. Got -1 instead"),
        ({"lora_rank": 8, "lora_alpha": 0}, "--lora-alpha must be above 0. Got 0 instead"),
        ({"lora_alpha": 16}, "--lora-alpha needs --lora-rank, whose adapters it scales. Got 16 instead"),
        ({"lora_rank": 8, "quant_aware": 1}, "--quant-aware and --lora-rank exclude each other: .* Got 8 instead"),
        ({"average": 1}, "--average must be 0, or 2 or more. Got 1 instead"),
        ({"average": -3}, "--average must be 0, or 2 or more. Got -3 instead"),
        ({"train": "a.csv", "eval_fraction": 0.0, "average": 3}, "--average needs rows to judge the mean by.* Got 3"),
        ({"keep_checkpoints": 0}, "--keep-checkpoints must be a positive integer. Got 0 instead"),
        ({"text_pair_column": "b", "task": "token"}, "--text-pair-column has no meaning .*Got 'b' instead"),
        ({"abstain_precision": 0.0}, r"--abstain-precision must be above 0 and below 1. Got 0\.0 instead"),
        ({"abstain_precision": 1.0}, r"--abstain-precision must be above 0 and below 1. Got 1\.0 instead"),
        ({"abstain_precision": 0.9, "calibrate": False}, "--abstain-precision needs --calibrate.* Got '--no-calibrate'"),
        ({"abstain_precision": 0.9, "task": "token"}, "--abstain-precision is for --task single-label.* Got 'token'"),
        ({"train": "a.csv", "eval_fraction": 0.0, "abstain_precision": 0.9}, "--abstain-precision needs rows"),
        ({"train": "a.csv", "eval_fraction": 0.0, "patience": 2}, "--patience, .* need rows to evaluate on"),
        ({"train": "a.csv", "eval_fraction": 0.0, "best_metric": "macro_f1"}, "--best-metric need rows to evaluate on"),
    ],
)  # fmt: skip
def test_each_rule_tells_the_value(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        TrainConfig(**settings).validate()


@pytest.mark.parametrize(
    "settings",
    [
        {"eval_fraction": 0.0, "train": "a.csv"},
        {"eval_fraction": 0.0, "train": "a.csv", "eval": "b.csv", "patience": 1},
        {"eval_fraction": 0.0, "patience": 1},  # the demo has evaluation rows of its own
        {"warmup_fraction": 1.0, "max_grad_norm": 0.0, "weight_decay": 0.0},
        {"task": "token", "label_smoothing": 0.1, "class_weights": "inverse", "labels": ("place",)},
        {"task": "regression", "labels": ("stars",)},
        {"abstain_precision": 0.95},
        {"lora_rank": 8, "lora_alpha": 4, "reinit_layers": 1, "average": 2, "patience": 3},
        {"calibrate": False, "eval_fraction": 0.0, "train": "a.csv"},
    ],
)
def test_what_makes_sense_is_let_through(settings: dict[str, Any]) -> None:
    TrainConfig(**settings).validate()


def test_adapters_are_doubled_unless_it_is_said_otherwise() -> None:
    """What they are multiplied by is alpha over the rank."""
    assert TrainConfig(lora_rank=8).alpha == 16
    assert TrainConfig(lora_rank=8, lora_alpha=4).alpha == 4


# --config files

CHANGED: dict[str, Any] = {
    "train": "a.csv",
    "task": "token",
    "labels": ["place", "2", "-1"],
    "text_column": "-body",
    "quoting": False,
    "columns": ["text", "label"],
    "delimiter": ";",
    "output": "runs/other",
    "epochs": 3,
    "learning_rate": 2e-5,
    "class_weights": "effective",
    "max_length": 64,
    "eval": None,
    "schedule": "cosine",
}


@pytest.mark.parametrize("hyphens", [True, False])
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_file_sets_what_flags_set(
    form: str, hyphens: bool, tmp_path: Path, parse: Callable[..., TrainConfig]
) -> None:
    import yaml

    settings = {name.replace("_", "-") if hyphens else name: value for name, value in CHANGED.items()}
    file = write(tmp_path / f"set.{form}", json.dumps(settings) if form == "json" else yaml.safe_dump(settings))
    expected = TrainConfig(
        config=tmp_path / f"set.{form}",
        **{name: tuple(value) if isinstance(value, list) else value for name, value in CHANGED.items() if name != "output"},
        output=Path("runs/other"),
    )  # fmt: skip
    assert parse(file) == expected
    assert parse("--config", file.removeprefix("--config=")) == expected


def test_numbers_as_people_write_them_in_yaml_are_numbers(tmp_path: Path, parse: Callable[..., TrainConfig]) -> None:
    file = write(tmp_path / "a.yaml", "learning_rate: 3e-5  # YAML itself takes this for text\nepochs: 2\n")
    assert parse(file).learning_rate == 3e-5


def test_flags_win_over_the_file_wherever_they_stand(tmp_path: Path, parse: Callable[..., TrainConfig]) -> None:
    settings = {"epochs": 3, "labels": ["a", "b"], "overwrite": True, "train": "a.csv", "quoting": True}
    file = write(tmp_path / "a.json", settings)
    flags = ["--epochs=5", "--labels", "c", "d", "e", "--no-overwrite", "--quoting=False"]
    for arguments in ([file, *flags], [*flags, file]):
        config = parse(*arguments)
        assert (config.epochs, config.labels, config.overwrite) == (5, ("c", "d", "e"), False)
        assert (config.quoting, config.train) == (False, "a.csv")


def test_the_settings_of_a_run_are_a_config_file(tmp_path: Path, parse: Callable[..., TrainConfig]) -> None:
    config = TrainConfig(
        train="a.tsv", labels=("b", "a"), columns=("x", "y"), quoting=True, class_weights="inverse", seed=4
    )
    write_config(tmp_path / "train_config.json", config)
    assert read_config(tmp_path / "train_config.json") == config
    parsed = parse(f"--config={tmp_path / 'train_config.json'}", f"--output={tmp_path / 'again'}")
    assert replace(parsed, config=None, output=config.output) == config
    assert set(json.loads((tmp_path / "train_config.json").read_text())) == set(asdict(config))


def test_settings_that_do_not_exist_are_named(tmp_path: Path, refuse: Callable[..., str]) -> None:
    told = refuse(1, write(tmp_path / "a.yaml", "epochs: 3\nlearn_rate: 0.1\nbatchsize: 8\n"))
    assert "a.yaml has settings that do not exist: batchsize, learn_rate. See --help." in told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("- epochs", "must hold settings by name. Got list instead"),
        ("", "must hold settings by name. Got NoneType instead"),
        ("epochs: [1", "is neither YAML nor JSON"),
    ],
)
def test_a_file_of_another_kind_is_refused(content: str, told: str, tmp_path: Path, refuse: Callable[..., str]) -> None:
    assert told in refuse(1, write(tmp_path / "a.yaml", content))


def test_a_file_that_is_not_there_is_named(refuse: Callable[..., str]) -> None:
    assert "--config none.yaml cannot be read: No such file or directory" in refuse(1, "--config=none.yaml")


# the command line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--epochs=many"], "--epochs"),
        (["--task=ner"], "ner"),
        (["--epoch-count=3"], "--epoch-count"),
        (["train.csv"], "train.csv"),
    ],
)
def test_a_wrong_type_or_flag_is_a_usage_error(arguments: list[str], told: str, refuse: Callable[..., str]) -> None:
    assert told in refuse(2, *arguments)


def test_a_wrong_type_in_a_file_is_a_usage_error(tmp_path: Path, refuse: Callable[..., str]) -> None:
    assert "--epochs" in refuse(2, write(tmp_path / "a.json", {"epochs": "many"}))


def test_errors_are_one_line_on_stderr_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--train=none.csv"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: none.csv: cannot be read: No such file or directory\n"
