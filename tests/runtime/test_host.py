"""Which profile counts on a machine, and what comes before it."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime import host, model
from runtime.__main__ import main
from runtime.bundle import read as read_bundle
from runtime.errors import EngineUnavailable, InputError
from runtime.host import CACHES, cache_folder, find, host_file, this_host
from runtime.profile import Profile, write
from runtime.testing import FakeEngine, tiny_bundle
from runtime.threads import Threads

MakeProfile = Callable[..., Profile]


@pytest.fixture
def tuned(bundle: Path, make_profile: MakeProfile) -> tuple[Path, Path]:
    """Give a bundle of fp32 and int8, the default, and the file of this machine's profile for it, which has fp32 win."""
    here = this_host(bundle)
    write(host_file(here), make_profile(host=here))
    return bundle, host_file(here)


@pytest.fixture(autouse=True)
def fresh_warnings() -> Iterator[None]:
    """Let every test see warnings that another has seen."""
    with warnings.catch_warnings():
        yield


def found(bundle: Path, profile: Any = None) -> host.Found:
    return find(bundle, read_bundle(bundle), profile=profile)


# Where profiles lie


@pytest.mark.parametrize(
    ("platform", "environment", "folder"),
    [
        ("linux", {}, "HOME/.cache/portabert"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/portabert"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "HOME/.cache/portabert"),
        ("linux", {"XDG_CACHE_HOME": ""}, "HOME/.cache/portabert"),
        ("darwin", {}, "HOME/Library/Caches/portabert"),
        ("win32", {}, "HOME/AppData/Local/portabert"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/portabert"),
    ],
)
def test_profiles_lie_in_the_users_cache_folder(
    platform: str, environment: dict[str, str], folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, _ in CACHES.values():
        monkeypatch.delenv(variable, raising=False)
    for variable, value in {"HOME": str(tmp_path), **environment}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == Path(folder.replace("HOME", str(tmp_path)))


def test_without_a_home_folder_nothing_is_found_and_tune_asks_for_a_file(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert found(bundle) == (None, None, None)
    with pytest.raises(InputError, match=r"no home folder to keep a profile in\. Name a file with --output"):
        host_file(this_host(bundle))


def test_other_bundles_processors_threads_and_versions_have_files_of_their_own(bundle: Path) -> None:
    here = this_host(bundle)
    others = [
        replace(here, bundle="1" * 64),
        replace(here, processor="another"),
        replace(here, threads=here.threads + 1),
        replace(here, versions={**here.versions, "numpy": "0"}),
    ]
    assert len({host_file(each) for each in [here, *others]}) == 5


# Which one counts


def test_a_profile_of_this_bundle_and_machine_counts(tuned: tuple[Path, Path], make_profile: MakeProfile) -> None:
    bundle, file = tuned
    assert found(bundle) == (make_profile(host=this_host(bundle)), file, None)


def test_a_bundle_that_was_never_tuned_costs_no_look_at_the_machine(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "processor", lambda: pytest.fail("the processor was looked up"))
    assert found(bundle) == (None, None, None)


DIFFERENCES: dict[str, tuple[dict[str, Any], str]] = {
    "bundle": ({"bundle": "1" * 64}, "it is for another bundle, or this one was exported anew"),
    "processor": ({"processor": "a Z80"}, "it was measured on another processor, 'a Z80'; this is '"),
    "threads": ({"threads": 4000}, "it was measured with 4000 usable threads, here are "),
    "version": ({"versions": {"onnxruntime": "0.1"}}, "it was measured with onnxruntime 0.1, here is "),
    "package gone": ({"versions": {"abacus": "1"}}, "it was measured with abacus 1, here is none"),
    "package new": ({"versions": {"abacus": "1"}}, "it was measured with numpy none, here is "),
}


@pytest.mark.parametrize(("change", "told"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_a_profile_of_elsewhere_is_ignored_with_a_word(
    change: dict[str, Any], told: str, bundle: Path, tmp_path: Path, make_profile: MakeProfile
) -> None:
    file = tmp_path / "shipped.json"
    write(file, make_profile(host=replace(this_host(bundle), **change)))
    with pytest.warns(UserWarning, match="is not used") as caught:
        classifier = runtime.load(bundle, profile=file)
    (warning,) = caught
    assert str(warning.message).startswith(f"profile {file} is not used: ")
    assert told in str(warning.message)
    assert str(warning.message).endswith(f". Tune again: python -m runtime tune {bundle}")
    assert warning.filename == __file__, "the warning points at the call of load"
    assert classifier.opened.variant == "int8", "the default"


def test_the_machines_own_profile_is_ignored_when_the_machine_has_changed(
    tuned: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, file = tuned
    monkeypatch.setattr(host, "processor", lambda: "a new one")
    with pytest.warns(UserWarning, match=rf"profile {file} is not used: .*; this is 'a new one'\. Tune again"):
        assert runtime.load(bundle).opened.variant == "int8"


def test_of_several_machines_that_share_a_folder_each_finds_its_own(
    tuned: tuple[Path, Path], make_profile: MakeProfile
) -> None:
    bundle, _ = tuned
    other = replace(this_host(bundle), processor="another")
    write(host_file(other), make_profile(host=other))
    assert found(bundle).ignored is None


def test_a_bundle_exported_anew_has_no_profile(tuned: tuple[Path, Path]) -> None:
    bundle, _ = tuned
    (bundle / "bundle.json").write_text((bundle / "bundle.json").read_text() + "\n")
    assert found(bundle) == (None, None, None)


def test_a_damaged_profile_in_the_cache_is_ignored_with_a_word(tuned: tuple[Path, Path]) -> None:
    bundle, file = tuned
    file.write_text("{")
    with pytest.warns(UserWarning, match=rf"profile {file} is not valid JSON: .*Make it anew: python -m runtime tune"):
        assert runtime.load(bundle).opened.variant == "int8"


def test_a_damaged_profile_that_was_named_is_an_error(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(InputError, match="is not valid JSON"):
        runtime.load(bundle, profile=tmp_path / "p.json")
    with pytest.raises(InputError, match="cannot be read"):
        runtime.load(bundle, profile=tmp_path / "nowhere.json")


def test_a_shipped_profile_cannot_name_a_variant_that_is_not_there(
    bundle: Path, tmp_path: Path, make_profile: MakeProfile
) -> None:
    made = make_profile(host=this_host(bundle))
    other = replace(made.winner, variant="int8-channel")
    measurements = (made.measurements[0], replace(made.measurements[1], choice=other))
    winners = {"throughput": other}
    write(tmp_path / "p.json", replace(made, winners=winners, measurements=measurements))
    with pytest.warns(UserWarning, match="its variant 'int8-channel' is none of the bundle's, fp32, int8"):
        runtime.load(bundle, profile=tmp_path / "p.json")


# What load does with it


def test_load_does_as_the_profile_says(tuned: tuple[Path, Path]) -> None:
    bundle, _ = tuned
    classifier = runtime.load(bundle)
    assert (classifier.opened.name, classifier.opened.variant) == ("ort-cpu", "fp32")
    assert classifier.max_batch_tokens == 1024
    assert classifier.opened.engine.description.endswith("CPU, 1 thread")
    assert classifier.opened.reason == "tuned on 2026-11-25: 1.50 times the default's texts/s here"
    assert classifier.predict("where is it") == runtime.load(bundle, variant="fp32").predict("where is it")


def test_load_passes_every_setting_on(tuned: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, _ = tuned
    seen: list[Any] = []
    opened = model.open_engine

    def noted(name: str, **options: Any) -> Any:
        seen.append(options["settings"])
        return opened(name, **options)

    monkeypatch.setattr(model, "open_engine", noted)
    runtime.load(bundle)
    assert [(s.threads, s.streams, s.spinning) for s in seen] == [(1, None, False)]


@pytest.mark.parametrize(
    ("option", "variant", "budget"),
    [
        ({"engine": "ort-cpu"}, "int8", 512),
        ({"variant": "int8"}, "int8", 512),
        ({"threads": 1}, "int8", 512),
        ({"max_batch_tokens": 256}, "fp32", 256),
        ({"profile": False}, "int8", 512),
        ({"profile": "none"}, "int8", 512),
    ],
    ids=str,
)
def test_an_option_that_is_given_comes_first(
    option: dict[str, Any], variant: str, budget: int, tuned: tuple[Path, Path]
) -> None:
    classifier = runtime.load(tuned[0], **option)
    assert (classifier.opened.variant, classifier.max_batch_tokens) == (variant, budget)


def test_a_profile_that_is_named_beside_such_an_option_is_not_used_and_that_is_told(tuned: tuple[Path, Path]) -> None:
    bundle, file = tuned
    with pytest.warns(UserWarning, match=rf"profile {file} is not used: engine, threads come first"):
        assert runtime.load(bundle, engine="ort-cpu", threads=1, profile=file).opened.variant == "int8"


def test_an_engine_of_ones_own_is_used_whatever_a_profile_says(tmp_path: Path, make_profile: MakeProfile) -> None:
    bundle = tiny_bundle(tmp_path / "tiny")
    here = this_host(bundle)
    write(host_file(here), make_profile(host=here))
    classifier = runtime.load(bundle, engine=FakeEngine(num_labels=2))
    assert (classifier.opened.name, classifier.max_batch_tokens) == ("custom", 512)


def test_an_engine_that_no_longer_starts_leaves_the_default_with_a_word(
    tuned: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, file = tuned
    opened = model.open_engine

    def broken(name: str, **options: Any) -> Any:
        if name != "auto":
            raise EngineUnavailable("its driver has gone")
        return opened(name, **options)

    monkeypatch.setattr(model, "open_engine", broken)
    with pytest.warns(UserWarning, match=rf"profile {file} is not used: its driver has gone. Tune again"):
        assert runtime.load(bundle).opened.variant == "int8"


def test_the_threads_of_another_call_are_another_machine(
    tuned: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "usable_threads", lambda: Threads(77, "test"))
    with pytest.warns(UserWarning, match="here are 77"):
        runtime.load(tuned[0])


# On the command line


def test_info_shows_the_profile(tuned: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    bundle, file = tuned
    assert main(["info", str(bundle)]) == 0
    out = capsys.readouterr().out
    for line in (
        "why              ort-cpu: tuned on 2026-11-25: 1.50 times the default's texts/s here",
        f"profile          {file}",
        "tuned            2026-11-25, for throughput, on 300 texts of yours of 25 tokens on average",
        "chosen           fp32 on ort-cpu, 1 thread, not spinning, 1,024 tokens a batch",
        "reaches          150 texts/s, 5.00 ms for a text alone, 100.00% of decisions as fp32 on ort-cpu",
        "for latency      int8 on ort-cpu, 1 thread, 512 tokens a batch: 100 texts/s, 5.00 ms for a text alone, "
        "99.50% of decisions as fp32 on ort-cpu",
    ):
        assert line in out.splitlines(), out


def test_info_says_why_the_winner_is_slower_than_a_default_that_may_not_win(
    tuned: tuple[Path, Path], make_profile: MakeProfile, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, file = tuned
    made = make_profile(host=this_host(bundle), gain=0.7)
    int8, fp32 = made.measurements
    winners = {"throughput": made.winner, "both": made.winner}
    write(file, replace(made, winners=winners, measurements=(replace(int8, out="agrees on 90.00%"), fp32)))
    assert main(["info", str(bundle)]) == 0
    told = "0.70 times the default's texts/s here; the default may not win: agrees on 90.00%"
    assert told in capsys.readouterr().out


def test_info_says_why_a_profile_is_not_used(
    tuned: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, file = tuned
    assert main(["info", str(bundle), "--threads", "1"]) == 0
    assert f"{file}, not used: --threads comes first" in capsys.readouterr().out
    monkeypatch.setattr(host, "processor", lambda: "a new one")
    assert main(["info", str(bundle)]) == 0
    captured = capsys.readouterr()
    assert f"profile {file} is not used: it was measured on another processor" in captured.out
    assert captured.err == "", "once is enough"


@pytest.mark.parametrize("verb", ["predict", "score"])
def test_every_verb_that_loads_takes_a_profile(
    verb: str, tuned: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, file = tuned
    (tmp_path / "rows.csv").write_text("text\nlate\n")
    rest = {"predict": ["late"], "score": ["--input", str(tmp_path / "rows.csv"), "--output", str(tmp_path / "o.csv")]}
    seen: list[Any] = []

    def noted(path: Path, **options: Any) -> runtime.Classifier:
        seen.append(options["profile"])
        return runtime.load(path, **options)

    monkeypatch.setattr("runtime.__main__.load", noted)
    assert main([verb, str(bundle), *rest[verb], "--profile", str(file)]) == 0
    assert seen == [str(file)]
