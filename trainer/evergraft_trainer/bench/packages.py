"""Packages that the stream's data comes from, fetched by the machine's own clients and kept in the cache.

Debian packages by ``apt-get download`` and ``dpkg-deb -x``, which need no root; npm packages by ``npm pack``. What is
in the cache is never asked for again. Called by the builders of the tasks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from evergraft.errors import UserError

FETCH_TIMEOUT_S = 900
"""The largest package has 130 MB."""


def cache_folder() -> Path:
    """Where packages, datasets and unfinished runs lie: ``${EVERGRAFT_CACHE:-~/.cache/evergraft}/stream``."""
    return Path(os.environ.get("EVERGRAFT_CACHE") or "~/.cache/evergraft").expanduser().absolute() / "stream"


def debian(name: str) -> Path:
    """The folder that holds the unpacked Debian package.

    Raises:
        UserError: there is no apt here, or it does not find the package.
    """
    final = cache_folder() / "debian" / name
    if final.is_dir():
        return final
    with _workplace() as folder:
        _call(["apt-get", "download", "-q", name], folder, wanted=f"the Debian package {name}")
        found = sorted(folder.glob("*.deb"))
        _call(["dpkg-deb", "-x", str(found[0]), str(folder / "files")], folder, wanted=f"the files of {name}")
        _keep(folder / "files", final)
    return final


def npm(name: str) -> Path:
    """The packed file (.tgz) of the npm package ``name@version``.

    Raises:
        UserError: there is no npm here, or it does not find the package.
    """
    final = cache_folder() / "npm" / f"{name.replace('@', '-')}.tgz"
    if final.is_file():
        return final
    with _workplace() as folder:
        _call(["npm", "pack", "--loglevel", "error", name], folder, wanted=f"the npm package {name}")
        _keep(next(iter(sorted(folder.glob("*.tgz")))), final)
    return final


def members(archive: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The contents of those files of a packed npm package that are named; read in place, nothing is unpacked.

    Raises:
        UserError: one of them is not there.
    """
    wanted = set(names)
    with tarfile.open(archive, "r:gz") as packed:
        for member in packed:
            if member.isfile() and member.name in wanted and (file := packed.extractfile(member)) is not None:
                wanted.discard(member.name)
                yield member.name, file.read()
    if wanted:
        raise UserError(f"{archive}: holds no {min(wanted)}; remove the file, so that it is fetched again")


@contextmanager
def _workplace() -> Iterator[Path]:
    """A temporary folder beside the cache's, so that what is done can be moved into place at once."""
    home = cache_folder()
    make_folder(home)
    folder = Path(tempfile.mkdtemp(dir=home, prefix=".fetch-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder of the cache.

    Raises:
        UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"EVERGRAFT_CACHE: no folder can be made at {folder}: {error.strerror}") from None


def _keep(made: Path, final: Path) -> None:
    make_folder(final.parent)
    try:
        made.rename(final)
    except OSError:
        if not final.exists():  # Else another process was as quick.
            raise


def _call(command: Sequence[str], folder: Path, *, wanted: str) -> None:
    if shutil.which(command[0]) is None:
        raise UserError(f"{command[0]}: not found; the stream needs it for {wanted} (build it on a Debian machine)")
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command, no shell
            command, cwd=folder, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]}: no answer within {FETCH_TIMEOUT_S} s for {wanted}; try again") from None
    if done.returncode:
        hint = " (after a new installation, run apt-get update once)" if command[0] == "apt-get" else ""
        raise UserError(f"{command[0]}: could not get {wanted}: {_reason(done.stderr)}{hint}")


def _reason(said: str) -> str:
    """The first line that tells an error, as apt and npm mark them."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E: ", "npm error 4", "npm error 5", "npm error network"))]
    return next(iter([*errors, *lines]), "it gave no reason")
