"""OpenVINO as optimum-intel offers it, in transformers' pipeline."""

from functools import partial
from pathlib import Path

from bench.peers.peer import Job, Model, made
from bench.peers.pytorch import pipeline_model

PACKAGES = ("optimum-intel",)
ENVIRONMENT = "optimum-intel"
CALIBRATION_TEXTS = 300  # nncf's own default
SETTINGS = "optimum-intel OVModelForSequenceClassification in the transformers pipeline, {}; INFERENCE_NUM_THREADS, else defaults (one stream)"
WORDS = {
    "fp32": "fp32, INFERENCE_PRECISION_HINT=f32",
    "bf16": "bf16, INFERENCE_PRECISION_HINT=bf16 (OpenVINO's default where the CPU has it)",
    "int8": f"int8 weights and activations by OVQuantizer, OVQuantizationConfig() calibrated on {CALIBRATION_TEXTS} of the very texts, INFERENCE_PRECISION_HINT=bf16 for the rest",
}
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}


def open_optimum_intel(job: Job, *, precision: str, batch_size: int, by_length: bool = False) -> Model:
    """Open optimum-intel's model, exported and quantised by optimum-intel itself."""
    from optimum.intel import OVModelForSequenceClassification

    folder = files(job, quantize=precision == "int8")
    model = OVModelForSequenceClassification.from_pretrained(
        folder,
        ov_config={"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": str(job.threads)},
    )
    return pipeline_model(
        model, job, batch_size=batch_size, by_length=by_length, files=tuple(sorted(folder.glob("*.*")))
    )


def files(job: Job, *, quantize: bool) -> Path:
    """Give the folder of optimum-intel's own export."""
    calibration = job.calibration if quantize else None
    return made(job, f"optimum-intel-{'int8' if quantize else 'fp32'}", partial(write, calibration=calibration))


def write(run: str, folder: str, *, calibration: str | None) -> None:
    """Export as optimum-intel's documentation says; with a file of texts, quantise on them."""
    from optimum.intel import OVModelForSequenceClassification

    model = OVModelForSequenceClassification.from_pretrained(run, export=True, compile=False)
    if calibration is None:
        model.save_pretrained(folder)
        return
    import nncf
    from optimum.intel import OVConfig, OVQuantizationConfig, OVQuantizer
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run)
    texts = Path(calibration).read_text(encoding="utf-8").split("\n")
    texts = texts[:: max(1, len(texts) // CALIBRATION_TEXTS)][:CALIBRATION_TEXTS]
    samples = [dict(tokenizer(text, return_tensors="np", truncation=True, max_length=512)) for text in texts]
    OVQuantizer.from_pretrained(model).quantize(
        calibration_dataset=nncf.Dataset(samples),
        ov_config=OVConfig(quantization_config=OVQuantizationConfig(num_samples=len(samples))),
        save_directory=folder,
    )
