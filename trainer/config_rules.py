"""What the flags of a training must keep to beyond their types. A rule is whether it is kept, what is to be said where not, and the value."""

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from .config import TrainConfig

Rules: TypeAlias = list[tuple[bool, str, Any]]


def training_rules(config: "TrainConfig") -> Rules:
    """Give all rules but those of the rows."""
    return [
        rule for rules in (_steps, _loss, _weights, _choice, _search, _calibration, _telling) for rule in rules(config)
    ]


def _steps(config: "TrainConfig") -> Rules:
    return [
        (config.epochs > 0, "--epochs must be a positive integer", config.epochs),
        (config.batch_size > 0, "--batch-size must be a positive integer", config.batch_size),
        (
            config.batch_tokens is None or config.batch_tokens > 0,
            "--batch-tokens must be a positive integer",
            config.batch_tokens,
        ),
        (
            config.batch_tokens is None or config.batch_size == type(config).batch_size,
            "--batch-tokens and --batch-size exclude each other",
            config.batch_size,
        ),
        (
            0 < config.gradient_accumulation <= config.batch_size,
            f"--gradient-accumulation must be from 1 to --batch-size ({config.batch_size})",
            config.gradient_accumulation,
        ),
        (
            not config.cuda_graphs or config.gradient_accumulation == 1,
            "--cuda-graphs and --gradient-accumulation exclude each other: a graph is a whole step",
            config.gradient_accumulation,
        ),
        (
            config.learning_rate is None or 0 < config.learning_rate < 1,
            "--learning-rate must be between 0 and 1",
            config.learning_rate,
        ),
        (0 <= config.warmup_fraction <= 1, "--warmup-fraction must be between 0 and 1", config.warmup_fraction),
        (0 < config.layer_decay <= 1, "--layer-decay must be above 0 and at most 1", config.layer_decay),
        (config.reinit_layers >= 0, "--reinit-layers must be 0 or more", config.reinit_layers),
        (config.weight_decay >= 0, "--weight-decay must be 0 or more", config.weight_decay),
        (config.max_grad_norm >= 0, "--max-grad-norm must be 0 or more", config.max_grad_norm),
        (config.max_length is None or config.max_length > 2, "--max-length must be more than 2", config.max_length),
    ]


def _loss(config: "TrainConfig") -> Rules:
    return [
        (config.focal_gamma >= 0, "--focal-gamma must be 0 or more", config.focal_gamma),
        (
            config.focal_gamma == 0 or config.task != "regression",
            "--focal-gamma needs labels; --task regression has none",
            config.task,
        ),
        (0 <= config.label_smoothing < 1, "--label-smoothing must be at least 0 and below 1", config.label_smoothing),
        (
            config.label_smoothing == 0 or config.task in ("single-label", "token"),
            "--label-smoothing is for --task single-label and token",
            config.task,
        ),
        (
            config.class_weights is None or config.task != "regression",
            "--class-weights needs labels; --task regression has none",
            config.task,
        ),
    ]


def _weights(config: "TrainConfig") -> Rules:
    return [
        (config.lora_rank >= 0, "--lora-rank must be 0 or more", config.lora_rank),
        (config.lora_alpha is None or config.lora_alpha > 0, "--lora-alpha must be above 0", config.lora_alpha),
        (
            config.lora_alpha is None or config.lora_rank > 0,
            "--lora-alpha needs --lora-rank, whose adapters it scales",
            config.lora_alpha,
        ),
        (
            0 <= config.quant_aware <= config.epochs,
            f"--quant-aware must be from 0 to --epochs ({config.epochs})",
            config.quant_aware,
        ),
        (
            config.quant_aware == 0 or config.patience is None,
            "--quant-aware and --patience exclude each other: the run could end before its last epochs",
            config.patience,
        ),
        (
            config.quant_aware == 0 or config.lora_rank == 0,
            "--quant-aware and --lora-rank exclude each other: int8 rounds the weights themselves, and adapters stand beside them",
            config.lora_rank,
        ),
    ]


def _choice(config: "TrainConfig") -> Rules:
    return [
        (0 <= config.eval_fraction < 1, "--eval-fraction must be at least 0 and below 1", config.eval_fraction),
        (
            config.eval_steps is None or config.eval_steps > 0,
            "--eval-steps must be a positive integer",
            config.eval_steps,
        ),
        (
            config.save_steps is None or config.save_steps > 0,
            "--save-steps must be a positive integer",
            config.save_steps,
        ),
        (config.seeds > 0, "--seeds must be a positive integer", config.seeds),
        (
            config.seeds == 1 or config.evaluates,
            "--seeds needs rows to choose by: --eval, or --eval-fraction above 0",
            config.seeds,
        ),
        (config.keep_checkpoints > 0, "--keep-checkpoints must be a positive integer", config.keep_checkpoints),
        (config.patience is None or config.patience > 0, "--patience must be a positive integer", config.patience),
        (
            config.evaluates or {config.patience, config.eval_steps, config.best_metric} == {None},
            "--patience, --eval-steps and --best-metric need rows to evaluate on: --eval, or --eval-fraction above 0",
            config.eval_fraction,
        ),
        (config.average == 0 or config.average > 1, "--average must be 0, or 2 or more", config.average),
        (
            config.average == 0 or config.evaluates,
            "--average needs rows to judge the mean by: --eval, or --eval-fraction above 0",
            config.average,
        ),
        (not (config.overwrite and config.resume), "--resume and --overwrite exclude each other", "both"),
    ]


def _search(config: "TrainConfig") -> Rules:
    if config.tune is None:
        return [
            (
                config.tune_over == type(config).tune_over,
                "--tune-over needs --tune, the number of trials",
                config.tune_over,
            )
        ]
    return [
        (config.tune > 0, "--tune must be a positive integer", config.tune),
        (
            len(set(config.tune_over)) == len(config.tune_over) > 0,
            "--tune-over must be different names",
            config.tune_over,
        ),
        (config.evaluates, "--tune needs rows to choose by: --eval, or --eval-fraction above 0", config.tune),
        (
            config.seeds == 1,
            "--tune and --seeds exclude each other: search first, then train what was found with --seeds",
            config.seeds,
        ),
        (
            config.patience is None,
            "--patience cannot be used with --tune, which stops trials by comparing them",
            config.patience,
        ),
        (
            config.eval_steps is None or "batch_size" not in config.tune_over,
            "--eval-steps with --tune needs a --tune-over without batch_size: trials are compared evaluation by evaluation",
            config.eval_steps,
        ),
        (
            config.batch_tokens is None or "batch_size" not in config.tune_over,
            "--batch-tokens with --tune needs a --tune-over without batch_size",
            config.batch_tokens,
        ),
        (
            "label_smoothing" not in config.tune_over or config.task in ("single-label", "token"),
            "--tune-over label_smoothing is for --task single-label and token",
            config.task,
        ),
    ]


def _calibration(config: "TrainConfig") -> Rules:
    return [
        (
            config.abstain_precision is None or 0 < config.abstain_precision < 1,
            "--abstain-precision must be above 0 and below 1",
            config.abstain_precision,
        ),
        (
            config.abstain_precision is None or config.calibrate,
            "--abstain-precision needs --calibrate, which learns the level",
            "--no-calibrate",
        ),
        (
            config.abstain_precision is None or config.task == "single-label",
            "--abstain-precision is for --task single-label, whose answer is right or wrong as a whole",
            config.task,
        ),
        (
            config.evaluates or config.abstain_precision is None,
            "--abstain-precision needs rows to learn from: --eval, or --eval-fraction above 0",
            config.eval_fraction,
        ),
    ]


def _telling(config: "TrainConfig") -> Rules:
    return [
        (
            config.evaluates or config.slice_column is None,
            "--slice-column needs rows to evaluate on: --eval, or --eval-fraction above 0",
            config.eval_fraction,
        ),
        (
            config.slice_column not in {config.text_column, config.text_pair_column} - {None},
            "--slice-column must not be a column of texts",
            config.slice_column,
        ),
        (config.show_rows >= 0, "--show-rows must be 0 or more", config.show_rows),
        (
            config.track is None or len(set(config.track)) == len(config.track) > 0,
            "--track must be different names",
            config.track,
        ),
    ]
