"""What ARCHITECTURE.md promises of the code's shape."""

import ast
import inspect
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import runtime
from export.parity import PARITY
from runtime import manifest_fields, profile_fields, records
from runtime.agreement import JUDGES
from runtime.entrant import SCORES
from runtime.info import GOALS as TOLD_GOALS
from runtime.knobs import KNOBS, KNOBS_OF
from runtime.profile import GAINS, Choice, Conditions, Host, Measurement, Profile
from runtime.testing import LABELS, tiny_bundle
from trainer.hardest import HARDEST
from trainer.objectives import OBJECTIVES
from trainer.wording import WORDING

ROOT = Path(__file__).parents[1]
PACKAGES = ("runtime", "trainer", "export")

# Where the runtime may import more than the standard library, numpy and tokenizers: file → (packages, only inside functions).
MORE = {
    "runtime/__main__.py": ({"tyro"}, {"tqdm"}),
    "runtime/score.py": (set[str](), {"pyarrow"}),
    "runtime/tables.py": (set[str](), {"pyarrow"}),
    "runtime/engines/ort.py": (set[str](), {"onnxruntime"}),
    "runtime/engines/exactness.py": (set[str](), {"onnxruntime"}),
    "runtime/wordpiece.py": (set[str](), {"portabert_native"}),
    "runtime/engines/native.py": (set[str](), {"portabert_native"}),
    "runtime/engines/openvino.py": (set[str](), {"openvino"}),
}
HEAVY = ("torch", "transformers", "onnx", "onnxruntime", "openvino", "portabert_native", "tyro", "pyarrow", "tqdm")

# Where a task's name may be compared, and why.
NAMED_TASKS = {
    "runtime/manifest_fields.py": "the format says which fields belong to which task, and is read before any table",
    "trainer/config.py": "rules about flags that have a meaning for some tasks alone, checked before torch is imported",
    "trainer/config_rules.py": "the same",
}


class Import(NamedTuple):
    """One imported module, with its name from the root; `names` are what is taken from it."""

    file: str
    module: str
    names: tuple[str, ...]
    level: int
    inside_function: bool


def sources(*packages: str) -> list[Path]:
    return [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def imports(file: Path) -> Iterator[Import]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    deep = {
        id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for node in ast.walk(function)
    }
    parts = file.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name_of(file), alias.name, (), 0, id(node) in deep)
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*parts[: len(parts) - node.level], *filter(None, [node.module])])
                if node.level
                else node.module
            )
            yield Import(
                name_of(file), base or "", tuple(alias.name for alias in node.names), node.level, id(node) in deep
            )
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    yield Import(name_of(file), str(argument.value), (), 0, id(node) in deep)


def python(code: str, *, cwd: Path = ROOT, flags: tuple[str, ...] = ()) -> str:
    done = subprocess.run([sys.executable, *flags, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Imports


def test_importing_the_runtime_is_light() -> None:
    loaded = python(f"import runtime, sys; print([name for name in {HEAVY} if name in sys.modules])")
    assert loaded.strip() == "[]"


def test_loading_a_bundle_brings_its_engine_and_nothing_of_training(bundle: Path) -> None:
    code = f"import runtime, sys; runtime.load({str(bundle)!r}).predict('late'); print([n for n in {HEAVY} if n in sys.modules])"
    tokenises = ["portabert_native"] if find_spec("portabert_native") else []
    assert python(code).strip() == str(["onnxruntime", *tokenises])


@pytest.mark.parametrize("file", sources("runtime"), ids=name_of)
def test_the_runtime_imports_the_standard_library_numpy_and_tokenizers(file: Path) -> None:
    always, inside = MORE.get(name_of(file), (set[str](), set[str]()))
    for found in imports(file):
        if not found.level:
            allowed = {
                *sys.stdlib_module_names,
                "numpy",
                "tokenizers",
                *always,
                *(inside if found.inside_function else ()),
            }
            assert found.module.partition(".")[0] in allowed, found


@pytest.mark.parametrize("file", sources("runtime"), ids=name_of)
def test_inside_the_runtime_imports_are_relative(file: Path) -> None:
    assert not [found for found in imports(file) if not found.level and found.module.partition(".")[0] in PACKAGES]


@pytest.mark.parametrize("file", sources(*PACKAGES), ids=name_of)
def test_imports_run_from_export_to_trainer_to_runtime(file: Path) -> None:
    below = PACKAGES[: PACKAGES.index(file.relative_to(ROOT).parts[0]) + 1]
    for found in imports(file):
        assert found.module.partition(".")[0] in below or found.module.partition(".")[0] not in (
            *PACKAGES,
            "tests",
            "bench",
        ), found


@pytest.mark.parametrize("file", sources("export"), ids=name_of)
def test_export_enters_trainer_through_its_checkpoint_and_two_tables_of_names(file: Path) -> None:
    for found in imports(file):
        if found.module.partition(".")[0] == "trainer":
            assert found.module in ("trainer.checkpoint", "trainer.config", "trainer.families"), found
            assert found.module != "trainer.config" or set(found.names) <= {"TrainConfig", "TaskName"}, found


def test_the_exceptions_are_files_that_exist() -> None:
    for name in (*MORE, *NAMED_TASKS):
        assert (ROOT / name).is_file(), name


# Tables


def test_every_table_of_tasks_has_the_same_tasks() -> None:
    tables = {
        "OBJECTIVES": OBJECTIVES,
        "PARITY": PARITY,
        "JUDGES": JUDGES,
        "manifest_fields.TASK_NAMES": manifest_fields.TASK_NAMES,
        "testing.LABELS": LABELS,
        "HARDEST": HARDEST,
        "WORDING": WORDING,
    }
    assert {name: sorted(table) for name, table in tables.items()} == {name: sorted(runtime.TASKS) for name in tables}


def test_every_table_of_goals_has_the_same_goals() -> None:
    tables = {"SCORES": SCORES, "KNOBS_OF": KNOBS_OF, "GAINS": GAINS, "info.GOALS": TOLD_GOALS}
    assert {name: sorted(table) for name, table in tables.items()} == {
        name: sorted(profile_fields.GOALS) for name in tables
    }
    assert {knob for knobs in KNOBS_OF.values() for knob in knobs} == set(KNOBS)


def test_the_tables_of_a_profiles_fields_are_its_classes_fields() -> None:
    tables = {
        Profile: profile_fields.FIELDS,
        Host: profile_fields.HOST,
        Conditions: profile_fields.CONDITIONS,
        Measurement: profile_fields.MEASUREMENT,
        Choice: profile_fields.CHOICE,
    }
    for kind, table in tables.items():
        assert [field.name for field in fields(kind)] == list(table), kind


def test_the_flag_track_has_every_tracker() -> None:
    from typing import get_args

    from trainer.config import TrackerName
    from trainer.trackers import KINDS

    assert set(get_args(TrackerName)) == set(KINDS)


def test_the_flag_task_has_every_task() -> None:
    from typing import get_args

    from trainer.config import TaskName

    assert set(get_args(TaskName)) == set(runtime.TASKS)


@pytest.mark.parametrize("task", runtime.TASKS)
def test_a_tasks_row_points_at_what_is_there(task: str) -> None:
    row = runtime.TASKS[task]
    assert row.target in records.TARGETS
    assert set(row.columns.values()) <= set(inspect.signature(runtime.Prediction).parameters)
    assert all(name.startswith("predicted_") for name in row.columns)


def test_no_two_tasks_add_columns_of_one_name() -> None:
    names = [name for row in runtime.TASKS.values() for name in row.columns]
    assert len(set(names)) == len(names)


def test_every_engine_has_its_functions() -> None:
    for name, spec in runtime.ENGINES.items():
        for target in filter(None, (spec.opener, spec.missing, spec.lacks)):
            module, function = target.split(":")
            assert callable(getattr(import_module(f"runtime.engines.{module}"), function)), name


@pytest.mark.parametrize("file", [f for f in sources(*PACKAGES) if name_of(f) not in NAMED_TASKS], ids=name_of)
def test_what_differs_between_tasks_stands_in_tables(file: Path) -> None:
    """No `task == "token"`, no `task in ("token", …)`, no `match task`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    compared = [node for node in ast.walk(tree) if isinstance(node, ast.Compare | ast.MatchValue)]
    named = [
        f"{name_of(file)}:{constant.lineno}: {constant.value!r}"
        for node in compared
        for constant in ast.walk(node)
        if isinstance(constant, ast.Constant) and constant.value in tuple(runtime.TASKS)
    ]
    assert named == []


# The public face


def test_all_names_everything_public() -> None:
    public = {
        name for name, value in vars(runtime).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public == set(runtime.__all__)


@pytest.mark.parametrize("file", sources("runtime"), ids=name_of)
def test_every_public_function_and_class_has_a_docstring(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    named = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_"]
    missing = [node.name for node in named if not ast.get_docstring(node)]
    assert (missing, bool(ast.get_docstring(tree))) == ([], True)


@pytest.mark.parametrize("name", [name for name in runtime.__all__ if inspect.isclass(getattr(runtime, name))])
def test_every_method_of_a_public_class_has_a_docstring(name: str) -> None:
    own = vars(getattr(runtime, name))
    methods = {key: value for key, value in own.items() if key[0] != "_" and inspect.isroutine(value)}
    methods |= {key: value for key, value in own.items() if isinstance(value, property)}
    assert [key for key, value in methods.items() if not value.__doc__] == []


# Vendored


def test_a_copy_of_the_folder_under_another_name_works_alone(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "runtime", tmp_path / "vendored_name", ignore=shutil.ignore_patterns("__pycache__"))
    site = Path(import_module("numpy").__file__ or "").parents[1]
    fake = tiny_bundle(tmp_path / "tiny")
    code = f"""
import sys
sys.path[:] = [path for path in sys.path if "site-packages" not in path and path] + [{str(tmp_path)!r}, {str(site)!r}]
import vendored_name, vendored_name.testing
print(vendored_name.load({str(bundle)!r}, engine="ort-cpu", variant="fp32").predict("where is it").label)
engine = vendored_name.testing.FakeEngine(num_labels=2)
print(vendored_name.load({str(fake)!r}, engine=engine).predict("late").label)
print([name for name in ("torch", "transformers", "runtime", "trainer", "export") if name in sys.modules])
"""
    real, faked, loaded = python(code, cwd=tmp_path, flags=("-I", "-S")).splitlines()
    assert real == runtime.load(bundle, engine="ort-cpu", variant="fp32").predict("where is it").label
    assert faked in LABELS["single-label"]
    assert loaded == "[]"
