"""A bundle that is written: the old one or the new, whatever happens."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.bundle import (
    MANIFEST,
    read,
    recover,
    writing,
)
from runtime.errors import InputError

from .bundles import MODEL, fill, write_whole


def litter(target: Path) -> list[str]:
    """Name what lies beside a bundle."""
    return sorted(file.name for file in target.parent.iterdir() if file != target)


def rewrite(target: Path, *, temperature: float) -> None:
    with writing(target, overwrite=True) as fresh:
        write_whole(fresh, temperature=temperature)


def test_a_new_bundle_takes_its_place_readable_by_all_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "bundle"
    with writing(target, overwrite=False) as fresh:
        assert fresh.parent == target.parent
        assert not target.exists()
        write_whole(fresh)
    assert read(target).temperature == 1.0
    assert target.stat().st_mode & 0o777 == 0o755
    assert litter(target) == []


def test_a_bundle_is_replaced_only_when_asked(folder: Path) -> None:
    with (
        pytest.raises(InputError, match=f"{folder} exists already.*--overwrite"),
        writing(folder, overwrite=False),
    ):
        pytest.fail("the block was entered")
    rewrite(folder, temperature=2.0)
    assert read(folder).temperature == 2.0
    assert litter(folder) == []


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file"])
def test_what_is_no_bundle_is_never_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "thesis"
    if kind == "file":
        target.write_text("chapter 1")
    else:
        target.mkdir()
    if kind == "folder":
        (target / "chapter-1.txt").write_text("chapter 1")
    with pytest.raises(InputError, match="thesis exists and is not a bundle"), writing(target, overwrite=True):
        pytest.fail("the block was entered")
    assert target.is_file() or [file.name for file in target.iterdir()] == ["chapter-1.txt"] * (kind == "folder")
    assert litter(target) == []


def test_a_target_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"file/bundle cannot be made: .*Choose another --output"),
        writing(tmp_path / "file" / "bundle", overwrite=False),
    ):
        pytest.fail("the block was entered")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, InputError])
def test_an_exception_inside_leaves_the_old_bundle(folder: Path, error: type[BaseException]) -> None:
    def fail(fresh: Path) -> None:
        write_whole(fresh, temperature=2.0)
        raise error

    with pytest.raises(error), writing(folder, overwrite=True) as fresh:
        fail(fresh)
    assert read(folder).temperature == 1.0
    assert litter(folder) == []


def test_a_folder_without_manifest_is_not_published(folder: Path) -> None:
    with pytest.raises(AssertionError, match="only after its manifest"), writing(folder, overwrite=True) as fresh:
        fill(fresh)
    assert read(folder).temperature == 1.0
    assert litter(folder) == []


def test_a_failed_rename_brings_the_old_bundle_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def refuse(path: Path, to: Path) -> Path:
        if ".new-" in path.name:
            raise PermissionError(13, "Permission denied")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        rewrite(folder, temperature=2.0)
    assert read(folder).temperature == 1.0
    assert litter(folder) == []


def test_a_link_to_a_bundle_stays_and_what_it_leads_to_is_replaced(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "links" / "current"
    link.parent.mkdir()
    link.symlink_to(folder)
    rewrite(link, temperature=2.0)
    assert link.is_symlink()
    assert read(folder).temperature == read(link).temperature == 2.0
    assert litter(link) == []
    assert litter(folder) == ["links"]


def test_a_target_that_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    code = (
        "import sys; from pathlib import Path; from runtime.bundle import writing\n"
        "with writing(Path(sys.argv[1]), overwrite=True) as fresh:\n"
        "    (fresh / 'half').touch(); print(fresh.name, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        fresh = tmp_path / other.stdout.readline().strip()
        with pytest.raises(InputError, match=f"{target} is being written by another process. Wait for it"):
            rewrite(target, temperature=2.0)
        recover(target)
        assert (fresh / "half").is_file()
        other.kill()
        other.communicate()
    rewrite(target, temperature=2.0)
    assert temperature_of(target) == 2.0
    assert litter(target) == []


@pytest.mark.parametrize("name", ["a[b]", "*", "?"])
def test_names_that_look_like_patterns_touch_their_own_leftovers_alone(tmp_path: Path, name: str) -> None:
    target, other = tmp_path / name, tmp_path / ".x.new-1"
    (tmp_path / f".{name}.new-1").mkdir()
    other.mkdir()
    rewrite(target, temperature=2.0)
    assert read(target).temperature == 2.0
    assert litter(target) == [other.name]


def aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def fresh_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.new-abc")


def killed_before_the_manifest(target: Path) -> None:
    fill(fresh_of(target))


def killed_before_the_renames(target: Path) -> None:
    write_whole(fresh_of(target), temperature=2.0)


def killed_between_the_renames(target: Path) -> None:
    killed_before_the_renames(target)
    target.rename(aside(target))


def killed_before_the_removal(target: Path) -> None:
    killed_between_the_renames(target)
    fresh_of(target).rename(target)


def killed_in_the_removal(target: Path) -> None:
    killed_before_the_removal(target)
    (aside(target) / MANIFEST).unlink()
    (aside(target) / MODEL).unlink()


def killed_in_the_removal_and_then_deleted_by_hand(target: Path) -> None:
    killed_in_the_removal(target)
    shutil.rmtree(target)


@pytest.mark.parametrize(
    ("kill", "before", "after"),
    [
        (killed_before_the_manifest, 1.0, 1.0),
        (killed_before_the_renames, 1.0, 1.0),
        (killed_between_the_renames, None, 1.0),
        (killed_before_the_removal, 2.0, 2.0),
        (killed_in_the_removal, 2.0, 2.0),
        (killed_in_the_removal_and_then_deleted_by_hand, None, None),
    ],
)
def test_the_next_writer_puts_right_what_a_killed_one_left(
    folder: Path, kill: Callable[[Path], None], before: float | None, after: float | None
) -> None:
    """`before` and `after` tell the old bundle (1.0), the new one (2.0) or none: before the next writer begins, and when it does."""
    kill(folder)
    assert temperature_of(folder) == before
    recover(folder)
    assert temperature_of(folder) == after
    assert litter(folder) == []
    kill(folder if after else write_whole(folder))
    rewrite(folder, temperature=3.0)
    assert temperature_of(folder) == 3.0
    assert litter(folder) == []


def temperature_of(target: Path) -> float | None:
    """Tell bundles apart by a field; None where there is none, an error where there is half of one."""
    return read(target).temperature if target.exists() else None


KILLED_WRITER = """
import os, shutil, signal, sys
from dataclasses import replace
from pathlib import Path
from runtime.bundle import read, write_manifest, writing

OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate")

def write(target, kill_at):
    seen = 0
    def count(event, arguments):
        nonlocal seen
        if event in OPERATIONS:
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
    manifest = read(target)
    sys.addaudithook(count)  # told of every operation before it happens
    with writing(target, overwrite=True) as fresh:
        for name in manifest.files:
            (fresh / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(target / name, fresh / name)
        write_manifest(fresh, replace(manifest, temperature=2.0))

source, places = Path(sys.argv[1]), Path(sys.argv[2])
for kill_at in range(1000):
    target = places / str(kill_at) / "bundle"
    shutil.copytree(source, target)
    child = os.fork()
    if not child:
        write(target, kill_at)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


def test_a_writer_killed_before_any_of_its_file_operations_leaves_the_old_bundle_or_the_new(
    folder: Path, tmp_path: Path
) -> None:
    """kill -9 for real, in a process of its own, once before each file, folder or rename that Python reports."""
    places = tmp_path / "places"
    subprocess.run([sys.executable, "-c", KILLED_WRITER, folder, places], check=True, timeout=120)
    targets = [places / name / "bundle" for name in sorted(os.listdir(places), key=int)]
    found = [temperature_of(target) for target in targets]
    assert len(found) > 20
    assert re.fullmatch("(1.0 )+None (2.0 )+", " ".join(map(str, found)) + " "), found
    for target in targets:
        rewrite(target, temperature=3.0)
        assert temperature_of(target) == 3.0
        assert litter(target) == []
