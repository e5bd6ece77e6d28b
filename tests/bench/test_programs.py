"""Each program end to end, on a tiny model with random weights and portabert's own peers."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench import (
    accuracy,
    cold_start,
    export_time,
    gpu,
    grid,
    kills,
    latency,
    make_model,
    plot,
    roofline,
    shapes,
    size,
    throughput,
    tokenizing,
    training,
)
from bench.closure import closure
from export.__main__ import main as export_main

TEXTS = [
    "my parcel never came",
    "it came late",
    "cancel my parcel please, and thanks for nothing at all",
    "where is it",
    "late again",
    "thanks",
]
PEERS = ("portabert fp32", "portabert int8")  # and int8-channel, whose name begins so too


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, make_encoder_folder: Callable[[str], Path]) -> dict[str, Path]:
    """Give a run with random weights, its bundle, texts and rows, made with the programs themselves."""
    work = tmp_path_factory.mktemp("bench")
    run, bundle, texts, rows = (work / name for name in ("random", "bundle", "texts.txt", "rows.jsonl"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "sys.argv", ["make_model", "--size=tiny", f"--tokenizer={make_encoder_folder('bert')}", f"--output={run}"]
        )
        make_model.main()
    variants = ["--variants", "fp32", "int8", "int8-channel"]
    assert export_main([str(run), f"--output={bundle}", "--task=single-label", "--max-length=64", *variants]) == 0
    texts.write_text("\n".join(TEXTS), encoding="utf-8")
    rows.write_text("".join(json.dumps({"text": text, "label": "LABEL_0"}) + "\n" for text in TEXTS), encoding="utf-8")
    return {"run": run, "bundle": bundle, "texts": texts, "rows": rows}


@pytest.fixture
def run_program(
    model: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[str, dict[str, Any]]]:
    """Give a function that runs a program with the flags it needs: (program, inputs, more flags) → its table and its document."""

    def run(program: ModuleType, *inputs: str, only: tuple[str, ...] = PEERS, flags: tuple[str, ...] = ()) -> Any:
        output = tmp_path / "result.json"
        arguments = [f"--{name}={model[name]}" for name in inputs] + ["--output", str(output), *flags]
        monkeypatch.setattr("sys.argv", ["bench", *arguments, *(["--only", *only] if only else [])])
        program.main()
        table, last = capsys.readouterr().out.rstrip("\n").rsplit("\n", 1)
        assert output.read_text(encoding="utf-8") == last + "\n"
        document = json.loads(last)
        assert document["machine"]["versions"]["torch"]
        assert document.get("failed", {}) == {}
        return table, document

    return run


def test_throughput(run_program: Callable[..., Any]) -> None:
    table, document = run_program(throughput, "run", "bundle", "texts", flags=("--repeats=2", "--no-peak"))
    assert [line[:22].strip() for line in table.splitlines()[1:4]] == [*PEERS, "portabert int8-channel"]
    ours = document["peers"]["portabert fp32"]
    assert ours["agreement"] == 1
    assert ours["flops_per_s"] == pytest.approx(document["flops_a_text"] * ours["texts_per_s"])
    assert ours["share_of_peak"] is None
    assert "fp32 on onnxruntime" in ours["opened"]


def test_throughput_says_what_share_of_the_peak_it_is(
    run_program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = [
        roofline.Peak("fp32", "a way", 1e12, (1, 1, 1), "shared"),
        roofline.Peak("fp32", "a better way", 4e12, (1, 1, 1), "shared"),
    ]
    monkeypatch.setattr(throughput, "measure_peaks", lambda threads: peaks)
    _, document = run_program(throughput, "run", "bundle", "texts", flags=("--repeats=1",))
    ours = document["peers"]["portabert fp32"]
    assert ours["share_of_peak"] == pytest.approx(ours["flops_per_s"] / 4e12)
    assert document["peers"]["portabert int8"]["share_of_peak"] is None, "no int8 peak was measured"
    assert [peak["way"] for peak in document["peaks"]] == ["a way", "a better way"]


def test_latency(run_program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "TEXTS_A_LENGTH", 2)
    monkeypatch.setattr(latency, "FIXED_LENGTHS", (8, 16))
    _, document = run_program(latency, "run", "bundle", "texts", flags=("--repeats=1",))
    assert list(document["cases"]) == ["texts", "8 tokens", "16 tokens"]
    assert document["peers"]["portabert int8"]["cases"]["8 tokens"]["median_ms"] > 0


def test_accuracy(run_program: Callable[..., Any]) -> None:
    _, document = run_program(accuracy, "run", "bundle", "rows")
    ours = document["peers"]["portabert int8"]
    assert ours["accuracy_low"] <= ours["accuracy"] <= ours["accuracy_high"]
    assert ours["changed_by_batch"] == ours["changed_by_company"] == 0, "row-wise int8 does not look at its neighbours"
    assert ours["flips"] is None, "PyTorch did not take part"


def test_accuracy_counts_flips() -> None:
    gold, pytorch = list("aabb"), {"labels": {"all": list("aaab")}}
    labels = {"all": list("abbb"), "32": list("abbb"), "alone": list("abba")}
    figures = accuracy._figures(labels, pytorch, gold)
    assert figures["accuracy"] == 0.75
    assert (figures["flips"], figures["lost"], figures["gained"]) == (2, 1, 1)
    assert (figures["changed_by_batch"], figures["changed_by_company"]) == (1, 1)


def test_rows_without_labels_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n')
    with pytest.raises(SystemExit, match=r'must hold a row .*Got .*\{"text": "a"\}'):
        accuracy.read_rows(file, max_rows=None)


def test_size(run_program: Callable[..., Any], model: dict[str, Path]) -> None:
    _, document = run_program(size, "run", "bundle")
    ours = document["peers"]["portabert int8"]
    graph = model["bundle"] / "onnx" / "model_quantized.onnx"
    assert ours["files"]["model_quantized.onnx"] == graph.stat().st_size
    assert {"numpy", "tokenizers", "onnxruntime", "portabert"} <= set(ours["packages"])
    assert "torch" not in ours["packages"]
    assert ours["packages_bytes"] > ours["packages"]["onnxruntime"] > 10e6


def test_a_closure_holds_what_packages_require() -> None:
    sizes = closure(["pytest", "no-such-package-here"])
    assert {"pytest", "pluggy", "packaging"} <= set(sizes)
    assert "no-such-package-here" not in sizes
    assert sizes["pytest"] > 100_000


def test_cold_start(run_program: Callable[..., Any]) -> None:
    _, document = run_program(cold_start, "run", "bundle", "texts", flags=("--repeats=1",))
    ours = document["peers"]["portabert int8"]
    assert len(ours["seconds"]) == 1, "the start that fills the caches is not counted"
    assert 0.05 < ours["median_s"] < 60
    assert 20e6 < ours["peak_bytes"] < 1e9


def test_export_time(run_program: Callable[..., Any]) -> None:
    _, document = run_program(export_time, "run", "texts", only=("portabert",), flags=("--repeats=1",))
    assert list(document["exports"]) == ["portabert", "portabert again"]
    first = document["exports"]["portabert"]
    assert first["written_bytes"] > 1e6
    assert first["peak_bytes"] > 100e6


def test_an_export_that_fails_is_reported(model: dict[str, Path], tmp_path: Path) -> None:
    config = export_time.ExportTimeConfig(
        run=tmp_path / "no-run", texts=model["texts"], repeats=1, environments=tmp_path
    )
    taken, failed = export_time._rounds(config, export_time.choose(("portabert again", "ctranslate2")), tmp_path, "")
    assert taken == {}
    assert failed["portabert again"].startswith("error: ")
    assert "no-run" in failed["portabert again"]
    assert (
        failed["ctranslate2 int8"]
        == f"needs the environment 'ctranslate2', which is not in {tmp_path}: make bench-envs"
    )


def test_shapes(run_program: Callable[..., Any]) -> None:
    only = tuple(f"portabert int8, {how}" for how in shapes.OPTIONS)
    flags = ("--repeats=1", "--calls=2", "--shapes", "1x8", "4x16")
    table, document = run_program(shapes, "run", "bundle", only=only, flags=flags)
    best = document["best"]["4x16"]["portabert int8"]
    assert best["options"] in shapes.OPTIONS
    assert best["texts_per_s"] == pytest.approx(4000 / best["latency_ms"])
    assert "portabert int8" in table


def test_shapes_chooses_each_graphs_best_options_and_pairs_them_by_round() -> None:
    from bench.driver import Measured

    def graph(*rounds: float) -> Measured:
        return Measured(
            settings="", precision="int8", indices={}, rounds={"1x8": [[seconds] * 3 for seconds in rounds]}
        )

    measured = {
        "portabert int8, fused, shared": graph(9, 9, 9),
        "portabert int8, unfused, shared": graph(1, 2, 3),
        "optimum int8, fused, shared": graph(4, 2, 9),
        "optimum int8, unfused, shared": graph(8, 8, 8),
    }
    best = shapes._best(measured, "portabert int8", "1x8")
    assert best is not None
    assert (best["options"], best["ratio"], best["ratios"]) == ("unfused, shared", 3, [4, 1, 3])


def test_where_a_pass_spends_its_time() -> None:
    from bench.node_times import sum_by_kind

    def node(name: str, kind: str, dur: int) -> dict[str, Any]:
        return {"cat": "Node", "name": f"{name}_kernel_time", "args": {"op_name": kind}, "dur": dur}

    events = [node("a", "MatMul", 1000), node("a", "MatMul", 3000), node("a", "MatMul", 2000), node("b", "MatMul", 500)]
    other = {"cat": "Session", "name": "model_run", "args": {}, "dur": 9000}
    assert sum_by_kind([*events, node("c", "Add", 100), other]) == {"MatMul": 2.5, "Add": 0.1}


@pytest.mark.parametrize("shape", ["32", "0x8", "8x", "axb"])
def test_a_shape_that_is_none_is_refused(shape: str) -> None:
    with pytest.raises(SystemExit, match=f"TEXTSxTOKENS.*Got '{shape}'"):
        shapes.read_shape(shape)


def test_roofline(run_program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        roofline, "measure_peaks", lambda threads: [roofline.Peak("int8", "a way", 5e11, (1, 2, 3), "shared")]
    )
    _, document = run_program(roofline, "run", "bundle", "texts", only=())
    assert document["texts_per_s"]["int8"] == pytest.approx(5e11 / document["flops_a_text"])


def test_gpu_where_there_is_none(run_program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu.DEVICES, "cpu", gpu.DEVICES["cpu"]._replace(side=64))
    flags = ("--device=cpu", "--batch-tokens=128", "--repeats=2", "--no-compiled")
    table, document = run_program(gpu, "run", "bundle", "texts", only=(), flags=flags)
    assert list(document["cases"]) == ["2 texts of 64 tokens", "the file's texts"]
    for ways in document["cases"].values():
        assert list(ways) == ["portabert", "torch sdpa"]
        assert ways["torch sdpa"]["ratio"] == 1
        assert ways["torch sdpa"]["largest_difference"] < 1e-4
        assert all(found["share_of_peak"] > 0 for found in ways.values())
    assert "of peak: " in table


def test_a_gpu_that_is_not_there_is_told(model: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(
        "sys.argv", ["gpu", f"--run={model['run']}", f"--bundle={model['bundle']}", f"--texts={model['texts']}"]
    )
    with pytest.raises(SystemExit, match=r"PyTorch sees no GPU here\. Try the program with --device cpu"):
        gpu.main()


def test_pictures(
    run_program: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for program, inputs, flags in (
        (throughput, "texts", ("--repeats=1", "--no-peak")),
        (latency, "texts", ("--repeats=1", "--max-texts=2")),
        (accuracy, "rows", ()),
        (size, "bundle", ()),
    ):
        _, document = run_program(program, "run", *{"bundle", inputs}, flags=flags)
        files.append(tmp_path / f"{document['question']}.json")
        files[-1].write_text(json.dumps(document))
    monkeypatch.setattr("sys.argv", ["plot", *map(str, files), "--output", str(tmp_path / "pictures")])
    plot.main()
    assert {file.name for file in (tmp_path / "pictures").iterdir()} == {
        f"{question}.{ending}" for question in ("throughput", "latency", "accuracy") for ending in ("svg", "png")
    }
    assert "no picture of size" in capsys.readouterr().out


def test_a_model_in_a_pipeline_is_shown_as_it_is_fed_best() -> None:
    peers = {
        "optimum int8 batch 1": {"texts_per_s": 5},
        "optimum int8 sorted 32": {"texts_per_s": 9},
        "portabert int8": {"texts_per_s": 7},
    }
    assert {name: peer["texts_per_s"] for name, peer in plot.best_settings(peers).items()} == {
        "optimum int8": 9,
        "portabert int8": 7,
    }


def test_a_made_model_is_not_written_over(model: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["make_model", f"--tokenizer={model['run']}", f"--output={model['run']}"])
    with pytest.raises(SystemExit, match=r"is there\. Choose another --output"):
        make_model.main()


def test_grid_times_lone_texts_and_many(run_program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "REFERENCE", "portabert int8")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    table, document = run_program(grid, "run", "bundle", "texts", flags=("--repeats=2", "--no-peak"))
    assert document["environment"] == {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    cases = document["peers"]["portabert fp32"]["cases"]
    assert list(cases) == ["1×16", "1×128", "32×32", "32×128", "mixed"]
    assert all(one["ratio"] == pytest.approx(1) for one in document["peers"]["portabert int8"]["cases"].values())
    assert 6 < document["mflops"]["32×32"] / document["mflops"]["1×16"] < 100
    for one in cases.values():
        assert one["median_ms"] > 0
        assert len(one["ratios"]) == 2
    assert table.splitlines()[1].startswith("portabert fp32")


def test_tokenizing_compares_and_times(
    model: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("portabert_native", reason="portabert-native is not built")
    monkeypatch.setattr(tokenizing, "ASSIGNED", [*"abcé漢. ", "\u0302", "\u302e"])
    output = tmp_path / "tokenizing.json"
    arguments = [f"--tokenizer={model['run']}", f"--texts={model['texts']}", "--count=400", f"--output={output}"]
    monkeypatch.setattr("sys.argv", ["tokenizing", *arguments])
    assert tokenizing.main() == 0
    compared = json.loads(output.read_text(encoding="utf-8"))["compared"]
    assert compared["texts"]["compared"] >= 300
    assert compared["pairs"]["compared"] >= 100
    assert all(said["different"] == 0 for said in compared.values())
    assert 0 < compared["texts"]["left"] < compared["texts"]["compared"]
    assert "times as fast" in capsys.readouterr().out


@pytest.mark.slow
def test_training_beside_transformers_trainer(
    model: dict[str, Path], run_program: Callable[..., Any], tmp_path: Path
) -> None:
    rows = tmp_path / "labelled.jsonl"
    rows.write_text("".join(json.dumps({"text": TEXTS[n % 6], "label": "ab"[n % 2]}) + "\n" for n in range(330)))
    only = ("portabert fp32", "portabert", "Trainer grouped")
    flags = ("--num-rows=320", "--repeats=1", "--no-peak", f"--model={model['run']}", f"--rows={rows}")
    _, document = run_program(training, only=only, flags=flags)
    assert list(document["trainers"]) == list(only)
    ours, other = (document["trainers"][name] for name in ("portabert", "Trainer grouped"))
    assert ours["slower"] == 1
    assert other["slower"] == pytest.approx(other["seconds"][0] / ours["seconds"][0])
    assert ours["texts_per_s"] == pytest.approx(320 / ours["seconds"][0])


@pytest.mark.slow
def test_kills(model: dict[str, Path], run_program: Callable[..., Any], tmp_path: Path) -> None:
    flags = ("--num-kills=1", f"--model={model['run']}", f"--work={tmp_path / 'kills'}")
    table, document = run_program(kills, only=(), flags=flags)
    assert table.splitlines()[-1] == "1 of 1 resumed runs are the undisturbed one, byte for byte"
    assert document["kills"][0]["differing"] == []


def test_a_run_that_differs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed run whose log is another one."""

    class Process:
        returncode = 0

        def communicate(self, timeout: float | None = None) -> tuple[None, str]:
            return None, ""

    def start(config: kills.KillsConfig, run: Path, *flags: str) -> Process:
        run.mkdir(parents=True)
        for name in kills.COMPARED:
            (run / name).write_text(name if name != "metrics.jsonl" else run.name)
        return Process()

    monkeypatch.setattr(kills, "_start", start)
    config = kills.KillsConfig(work=tmp_path)
    start(config, tmp_path / "undisturbed")
    assert kills._kill(config, 1, 0.0)["differing"] == ["metrics.jsonl"]
