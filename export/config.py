"""Every flag of `python -m export`, once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from runtime.errors import require
from trainer.config import TaskName

Variants = Literal["fp32", "int8", "int8-channel", "int8-weights", "fp16", "bf16", "native-int8", "native-bf16"]
Exporter = Literal["auto", "written", "torch", "optimum"]


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Turn a trained checkpoint into a bundle, and refuse to if the bundle would answer differently. Without arguments: runs/demo into bundles/demo."""

    run: Annotated[Path, tyro.conf.Positional] = Path("runs/demo")
    """A run of `python -m trainer`, or any Hugging Face checkpoint with a head (then --task is needed)."""
    output: Path | None = None
    """The bundle's folder. Not set: bundles/ and the run's name."""
    overwrite: bool = False
    """Replace a bundle that is there."""
    variants: tuple[Variants, ...] | None = None
    """The forms of the model to write. Not set: fp32, int8 and, where portabert-native is installed and knows the architecture, native-int8. int8: row-wise, closest to fp32 and the same in any batch; int8-channel: onnxruntime's dynamic int8; int8-weights: for OpenVINO alone, as small as int8; fp16: for GPUs; bf16: the fp32 file in bf16 arithmetic, for OpenVINO on CPUs that have it; native-int8: int8 for portabert-native, the fastest on CPUs; native-bf16: for it, too, closer to fp32."""
    exporter: Exporter = "auto"
    """Where the graph comes from. written: by portabert from the weights, for BERT and its kin; torch or optimum (needs the extra `optimum`): traced. auto: the first that can."""
    reuse: bool = True
    """Use what earlier exports of this run already did (RUN/.export), where nothing it depends on has changed. --no-reuse: do all of it again, and keep nothing."""

    eval: str | None = None
    """Labelled rows to verify on, laid out as the training rows were. Not set: those the run was evaluated on."""
    max_fp32_difference: float = 1e-4
    """The largest difference allowed between PyTorch's and ONNX's fp32 logits; for large logits, that share of them."""
    max_change: float | None = None
    """int8, fp16, bf16: the share of decisions that may be expected to change. Regression: mean |difference| / the standard deviation of the answers. Not set: 0.005, regression 0.02."""
    max_metric_drop: float = 0.002
    """int8, fp16, bf16: how much the task's metric may fall on the evaluation rows. Refused is a fall that is larger beyond chance (95 %)."""
    calibrate: bool = False
    """Learn temperature and thresholds anew, on the evaluation rows here: for a checkpoint of another program, or instead of the run's own."""
    abstain_precision: float | None = None
    """With --calibrate: the share of answers that shall be right (single-label); the least sure ones, without which it is reached, are marked as abstained."""
    restore: bool = True
    """int8 over these limits: keep as few weights as it takes, the most sensitive first, in fp32. --no-restore: refuse instead."""

    task: TaskName | None = None
    """For a checkpoint of another program: what its rows are labelled with."""
    pair: bool = False
    """For a checkpoint of another program: it compares two texts."""
    max_length: int | None = None
    """For a checkpoint of another program: tokens of a text. Not set: what the model takes, at most 512."""

    def validate(self) -> None:
        """Check what each flag's type does not say.

        Raises:
            InputError: every problem, together.
        """
        rules = [
            (
                self.variants is None or bool(self.variants),
                f"--variants must name at least one of {', '.join(get_args(Variants))}",
                self.variants,
            ),
            (
                self.variants is None or len(set(self.variants)) == len(self.variants),
                "--variants must be different",
                self.variants,
            ),
            (self.max_fp32_difference > 0, "--max-fp32-difference must be above 0", self.max_fp32_difference),
            (
                self.max_change is None or 0 < self.max_change <= 1,
                "--max-change must be above 0 and at most 1",
                self.max_change,
            ),
            (self.max_metric_drop >= 0, "--max-metric-drop must be 0 or more", self.max_metric_drop),
            (self.max_length is None or self.max_length > 2, "--max-length must be more than 2", self.max_length),
            (
                self.abstain_precision is None or 0 < self.abstain_precision < 1,
                "--abstain-precision must be above 0 and below 1",
                self.abstain_precision,
            ),
            (
                self.abstain_precision is None or self.calibrate,
                "--abstain-precision needs --calibrate, which learns the level anew",
                "no --calibrate",
            ),
        ]
        require(rules)

    @property
    def target(self) -> Path:
        """The bundle's folder."""
        return self.output or Path("bundles") / self.run.resolve().name
