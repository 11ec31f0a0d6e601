"""Where built images are kept: one folder a name and content, made once, whole or not at all.

``EVERGRAFT_CACHE`` or ``~/.cache/evergraft``, folder ``images``, outside the tree. A key is the digest of everything
that decides the content; processes that want the same thing wait for the one that makes it. Used by everything in
this folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.harness.layout import cache_folder

ROOT = Path(__file__).resolve().parents[3]
"""The repository's root, which is every build's context."""


def folder() -> Path:
    """The cache's folder for images."""
    path = cache_folder() / "images"
    path.mkdir(parents=True, exist_ok=True)
    return path


def key(*parts: str | bytes | Path) -> str:
    """Sixteen hex digits over texts, bytes, files and folders (names and contents; bytecode left out)."""
    digest = hashlib.sha256()
    for part in parts:
        for piece in _pieces(part):
            digest.update(hashlib.sha256(piece).digest())
    return digest.hexdigest()[:16]


def _pieces(part: str | bytes | Path) -> Iterable[bytes]:
    if isinstance(part, str):
        return [part.encode()]
    if isinstance(part, bytes):
        return [part]
    if part.is_file():
        return [part.name.encode(), part.read_bytes()]
    files = sorted(path for path in part.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [piece for path in files for piece in (str(path.relative_to(part)).encode(), path.read_bytes())]


def kept(name: str, digest: str, make: Callable[[Path], None], *, others: int = 2) -> Path:
    """The folder ``name-digest``, filled by `make` the first time.

    `make` gets an empty folder; what it leaves there appears at once when it has returned. Of the same name, the
    `others` used last stay beside it and older ones go.
    """
    place = folder() / f"{name}-{digest}"
    if not place.exists():
        with locked(name):
            if not place.exists():
                _fill(place, make)
    os.utime(place)
    _forget(name, keep=1 + others)
    return place


def _fill(place: Path, make: Callable[[Path], None]) -> None:
    partial = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        partial.mkdir()
        make(partial)
        partial.rename(place)
    finally:
        if partial.exists():
            shutil.rmtree(partial)


def _forget(name: str, keep: int) -> None:
    """Remove all but the last used of one name; names hold no hyphen, so none is another's beginning."""
    places = sorted(folder().glob(f"{name}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for place in places[keep:]:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock of one name; released also when the process dies."""
    with (folder() / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
