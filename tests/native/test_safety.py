"""What portabert-native refuses, and what it survives: files, ids and lengths that nobody checked, forks, and calls from several threads."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.encode import Batch
from runtime.engines import native_file
from runtime.errors import BundleError

from .conftest import MAX_LENGTH, VOCABULARY, native, open_model, random_batch, random_weights, run, write


def batch_of(
    *, input_ids: list[int] | None = None, token_type_ids: list[int] | None = None, cu_seqlens: list[int]
) -> Batch:
    count = cu_seqlens[-1]
    return Batch(
        np.array(input_ids or [5] * count, dtype=np.int64),
        np.array(token_type_ids or [0] * count, dtype=np.int64),
        np.array(cu_seqlens, dtype=np.int32),
    )


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            batch_of(input_ids=[5, VOCABULARY, 5], cu_seqlens=[0, 3]),
            f"between 0 and {VOCABULARY - 1}. Got {VOCABULARY} at token 1",
        ),
        (batch_of(input_ids=[5, -1, 5], cu_seqlens=[0, 3]), "Got -1 at token 1"),
        (batch_of(input_ids=[5, 2**40, 5], cu_seqlens=[0, 3]), f"Got {2**40} at token 1"),
        (
            batch_of(token_type_ids=[0, 2, 0], cu_seqlens=[0, 3]),
            "token types must be between 0 and 1. Got 2 at token 1",
        ),
        (batch_of(cu_seqlens=[0, 2, 2, 3]), rf"text 1 must have between 1 and {MAX_LENGTH} tokens. It has 0"),
        (batch_of(cu_seqlens=[0, 3, 2]), "text 1 must have between 1 and 40 tokens. It has -1"),
        (batch_of(cu_seqlens=[0, MAX_LENGTH + 1]), f"It has {MAX_LENGTH + 1}"),
        (batch_of(cu_seqlens=[1, 3]), "cu_seqlens must begin with 0. Got 1"),
    ],
)
def test_texts_that_no_encoder_can_read_are_refused(batch: Batch, message: str, make_model: Callable[..., Any]) -> None:
    with pytest.raises(native.NativeError, match=message):
        run(make_model(), batch)


def test_ids_that_are_fewer_than_cu_seqlens_says_are_refused(make_model: Callable[..., Any]) -> None:
    batch = batch_of(cu_seqlens=[0, 3])
    with pytest.raises(native.NativeError, match=r"cu_seqlens must end with the number of tokens. Got \[3\], 2 ids"):
        run(make_model(), batch._replace(input_ids=batch.input_ids[:2]))


def test_no_texts_have_no_logits(make_model: Callable[..., Any]) -> None:
    assert run(make_model(), batch_of(cu_seqlens=[0])).shape == (0, 3)


def rewrite(file: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """Change a file's shape and tensors."""
    contents = native_file.read(file)
    shape, tensors = dict(contents.shape), {name: tensor.copy() for name, tensor in contents.tensors.items()}
    change(shape, tensors)
    changed = file.with_name("changed")
    native_file.write(changed, shape=shape, tensors=tensors)
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda shape, tensors: shape.update(hidden=48), "must have .* bytes. Got"),
        (lambda shape, tensors: shape.update(hidden=2**30), "hidden must be between 1 and 65536. Got 1073741824"),
        (lambda shape, tensors: shape.update(layers=0), "layers must be between 1 and 1024. Got 0"),
        (lambda shape, tensors: shape.update(layers=-3), "Got -3"),
        (
            lambda shape, tensors: shape.update(max_length=999),
            "texts of max_length tokens need 999 positions. There are 42",
        ),
        (lambda shape, tensors: shape.update(zero_point=200), "zero_point must be between 0 and 128. Got 200"),
        (lambda shape, tensors: shape.update(steps=5), "steps must be between 1 and 4. Got 5"),
        (lambda shape, tensors: shape.update(step_width=[0, 0, 0, 0]), "the head's widths must be between 1 and 65536"),
        (lambda shape, tensors: shape.update(step_width=[2, 2, 2, 2, 2]), "a field of another type or length"),
        (lambda shape, tensors: shape.update(hidden="32"), "a field of another type or length"),
        (lambda shape, tensors: shape.update(hidden=[32]), "a field of another type or length"),
        (lambda shape, tensors: shape.update(colour=1), "its shape has the fields .*'colour'"),
        (lambda shape, tensors: shape.pop("hidden"), "its shape has the fields"),
        (lambda shape, tensors: tensors.pop("layer_1_up_scale"), "these tensors are missing: layer_1_up_scale"),
        (lambda shape, tensors: tensors.pop("layer_1_up_int8"), "these tensors are missing: layer_1_up"),
        (lambda shape, tensors: tensors.pop("head_0_bias"), "these tensors are missing: head_0_bias"),
        (
            lambda shape, tensors: tensors.update(extra=np.zeros(4, dtype=np.float32)),
            "'extra' is no tensor of such a model",
        ),
        (
            lambda shape, tensors: tensors.update(words=np.zeros((VOCABULARY, 32), dtype=np.float32)),
            "'words' has two forms, and one is wanted",
        ),
        (
            lambda shape, tensors: tensors.update(words_scale=tensors["words_scale"][:-1]),
            "'words_scale' must have 200 bytes. Got 196",
        ),
    ],
)
def test_a_file_that_describes_no_encoder_is_refused(
    change: Callable[[dict[str, Any], dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    file = rewrite(write(tmp_path / "f", random_weights()), change)
    with pytest.raises(native.NativeError, match=message):
        open_model(file)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F32", "shape": [4], "data_offsets": [0, 2**50]}, "has the shape"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]}, "no natural numbers"),
        ({"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]}, "has the shape"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [2, 18]}, "lies at 2–18"),
        ({"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}, "no natural numbers"),
        ({"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}, "F99"),
        ({"dtype": "F32", "data_offsets": [0, 16]}, "shape"),
        ([], "cannot be read"),
    ],
)
def test_an_entry_that_points_anywhere_is_refused(entry: Any, message: str, tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"portabert": "{}"}, "words": entry}).encode()
    (tmp_path / "f").write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    with pytest.raises(BundleError, match=message):
        native_file.read(tmp_path / "f")


@pytest.mark.parametrize("size", [0, 4, 8, 100, 5000, -1])
def test_a_file_that_was_cut_short_is_refused(size: int, tmp_path: Path) -> None:
    file = write(tmp_path / "f", random_weights())
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(BundleError, match="cannot be read"):
        native_file.read(file)


def test_a_header_as_long_as_it_likes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes((2**63).to_bytes(8, "little") + b"{}")
    with pytest.raises(BundleError, match="its header has 9,223,372,036,854,775,808 bytes"):
        native_file.read(tmp_path / "f")


def test_safetensors_reads_the_file(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    file = write(tmp_path / "f", random_weights())
    ours, theirs = native_file.read(file).tensors, load_file(file)
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        np.testing.assert_array_equal(tensor, theirs[name])


def test_what_products_read_begins_at_a_cache_line(tmp_path: Path) -> None:
    tensors = native_file.read(write(tmp_path / "f", random_weights(heads=3, hidden=50))).tensors
    packed = [tensor for name, tensor in tensors.items() if "layer" in name]
    assert len(packed) > 20
    assert {tensor.ctypes.data % native_file.ALIGNMENT for tensor in packed} == {0}


def test_an_instruction_set_that_is_not_there_is_refused_with_those_there_are(make_model: Callable[..., Any]) -> None:
    with pytest.raises(native.NativeError, match=r"has the instruction sets .*scalar.* Got 'sse9' instead"):
        make_model(instruction_set="sse9")


@pytest.mark.parametrize("threads", [0, -1, 5000])
def test_threads_are_bounded(threads: int, make_model: Callable[..., Any]) -> None:
    with pytest.raises(native.NativeError, match=f"threads must be between 1 and 1024. Got {threads} instead"):
        make_model(threads=threads)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of any fork where there are threads
@pytest.mark.parametrize("together", [False, True])
def test_a_fork_computes_on(together: bool, make_model: Callable[..., Any]) -> None:
    """The child of a fork has none of the threads, and makes new ones."""
    model, batch = make_model(threads=2), random_batch(0, [9, 30, 40, 7])
    expected = run(model, batch, together=together)
    child = os.fork()
    if not child:
        same = np.array_equal(run(model, batch, together=together), expected)
        os._exit(0 if same else 3)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(run(model, batch, together=together), expected)


def test_calls_from_several_threads_wait_for_one_another(make_model: Callable[..., Any]) -> None:
    model = make_model(threads=2)
    batches = [random_batch(seed, [5, 20, 40]) for seed in range(4)]
    expected = [run(model, batch) for batch in batches]
    wrong = []

    def ask(index: int) -> None:
        for turn in range(50):
            if not np.array_equal(run(model, batches[index], together=turn % 2 == 0), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_idle_threads_sleep(make_model: Callable[..., Any]) -> None:
    model = make_model(threads=3)
    run(model, random_batch(0, [40] * 30))
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_threads_stop_with_their_model(make_model: Callable[..., Any]) -> None:
    model = make_model(threads=3)
    run(model, random_batch(0, [40] * 30))
    many = len(os.listdir("/proc/self/task"))
    del model
    assert len(os.listdir("/proc/self/task")) == many - 2


def test_a_process_ends_while_threads_wait(tmp_path: Path) -> None:
    file = write(tmp_path / "f", random_weights())
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from tests.native.conftest import open_model, random_batch, run\n"
        "from pathlib import Path\n"
        "model = open_model(Path(sys.argv[1]), threads=2)\n"
        "run(model, random_batch(0, [40] * 30), together=True)\n"
    )
    command = [sys.executable, "-c", code, str(file), str(Path(__file__).parents[2])]
    subprocess.run(command, check=True, timeout=60)


def test_a_system_that_gives_no_more_threads_is_an_error(tmp_path: Path) -> None:
    code = (
        "import resource, sys; sys.path[:0] = sys.argv[2:]\n"
        "from tests.native.conftest import native, open_model, random_batch, run\n"
        "from pathlib import Path\n"
        "model, batch = open_model(Path(sys.argv[1]), threads=1000), random_batch(0, [40] * 30)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))\n"  # each thread's stack takes 8 MB of addresses
        "try:\n    run(model, batch, together=True)\n"
        "except native.NativeError as error:\n    print('refused:', error)\n"
    )
    command = [sys.executable, "-c", code, str(write(tmp_path / "f", random_weights())), str(Path(__file__).parents[2])]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("refused:")
