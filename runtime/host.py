"""Which profile counts here: where profiles lie, and whether one was measured on a machine like this.

    ~/.cache/portabert/BUNDLE-HOST.json     BUNDLE and HOST are the beginnings of digests: of bundle.json, and of processor, threads and versions

So machines that share a home folder do not overwrite each other's.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from .bundle import MANIFEST, Manifest, sha256
from .errors import InputError
from .machine import PACKAGES, package_version, processor
from .profile import Host, Profile, read
from .threads import usable_threads

NONE = "none"  # as the name of a profile: use none
# The variable that names the user's cache folder, and where it is otherwise, below the home folder.
CACHES = {"win32": ("LOCALAPPDATA", "AppData/Local"), "darwin": ("XDG_CACHE_HOME", "Library/Caches")}


class Found(NamedTuple):
    """A profile for a bundle on this machine.

    Attributes:
        profile: one that counts; None where there is none.
        file: where it lies, or where one lies that does not count.
        ignored: why the one in `file` does not count, and the way out.
    """

    profile: Profile | None = None
    file: Path | None = None
    ignored: str | None = None


def find(bundle: Path, manifest: Manifest, *, profile: str | Path | Literal[False] | None) -> Found:
    """Find the profile for a bundle on this machine.

    Args:
        bundle: the bundle's folder.
        manifest: its manifest.
        profile: a file; None for this machine's own, in the user's cache folder; False or "none" for none.

    Raises:
        InputError: the file that was named cannot be read or is not valid. One in the cache folder is ignored then.
    """
    if profile is False or profile == NONE:
        return Found()
    if profile is not None:
        return _judge(Path(profile), bundle, manifest, this_host(bundle))
    folder = cache_folder()
    files = list(folder.glob(f"{sha256(bundle / MANIFEST)[:16]}-*.json")) if folder is not None else []
    if not files:  # most machines; the processor and the versions need not be looked up
        return Found()
    here = this_host(bundle)
    own = host_file(here)
    file = own if own in files else max(files, key=lambda file: file.stat().st_mtime)
    try:
        return _judge(file, bundle, manifest, here)
    except InputError as exc:
        return Found(None, file, str(exc))


def this_host(bundle: Path) -> Host:
    """Describe what a profile measured now would be for."""
    versions = {package: number for package in PACKAGES if (number := package_version(package))}
    return Host(
        bundle=sha256(bundle / MANIFEST), processor=processor(), threads=usable_threads().number, versions=versions
    )


def host_file(host: Host) -> Path:
    """Name the file of a host's own profile.

    Raises:
        InputError: there is no home folder.
    """
    folder = cache_folder()
    if folder is None:
        raise InputError("there is no home folder to keep a profile in. Name a file with --output.")
    rest = json.dumps([host.processor, host.threads, sorted(host.versions.items())])
    return folder / f"{host.bundle[:16]}-{hashlib.sha256(rest.encode()).hexdigest()[:8]}.json"


def cache_folder() -> Path | None:
    """Name portabert's folder in the user's cache; None where there is no home folder."""
    variable, usual = CACHES.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    named = Path(os.environ.get(variable, ""))  # XDG's specification: one that is relative is ignored
    folder = (named if named.is_absolute() else Path(os.path.expanduser("~"), usual)) / "portabert"
    return folder if folder.is_absolute() else None


def check_targets(file: Path, plot: Path, *, named: bool) -> None:
    """Make sure, before anything is measured, that a profile and its picture can be written.

    Args:
        file: where the profile goes.
        plot: where its picture goes.
        named: whether the user named the file; then it replaces a profile and nothing else.

    Raises:
        InputError: they cannot.
    """
    if plot.suffix.lower() != ".svg":
        raise InputError(f"--plot must end in .svg. Got {str(plot)!r} instead.")
    if named and file.exists():
        try:
            read(file)
        except InputError as exc:
            raise InputError(
                f"{file} exists and is no profile; it will not be replaced. Choose another --output."
            ) from exc
    for folder in {file.parent, plot.parent}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise InputError(f"{folder} cannot be made: {exc.strerror}. Choose another --output or --plot.") from exc
        if not os.access(folder, os.W_OK):
            raise InputError(f"nothing can be written into {folder}. Choose another --output or --plot.")


def _judge(file: Path, bundle: Path, manifest: Manifest, here: Host) -> Found:
    profile = read(file)
    differences = list(_differences(profile, here, manifest))
    if not differences:
        return Found(profile, file)
    told = f"profile {file} is not used: {'; '.join(differences)}. Tune again: python -m runtime tune {bundle}"
    return Found(None, file, told)


def _differences(profile: Profile, here: Host, manifest: Manifest) -> Iterator[str]:
    made = profile.host
    if made.bundle != here.bundle:
        yield "it is for another bundle, or this one was exported anew"
    elif profile.winner.variant not in manifest.variants:
        yield f"its variant {profile.winner.variant!r} is none of the bundle's, {', '.join(manifest.variants)}"
    if made.processor != here.processor:
        yield f"it was measured on another processor, {made.processor!r}; this is {here.processor!r}"
    if made.threads != here.threads:
        yield f"it was measured with {made.threads} usable threads, here are {here.threads}"
    for package in dict.fromkeys([*made.versions, *here.versions]):
        was, is_now = (host.versions.get(package, "none") for host in (made, here))
        if was != is_now:
            yield f"it was measured with {package} {was}, here is {is_now}"
