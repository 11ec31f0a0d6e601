"""Modules kept on this machine's disk, by content id, so that only missing layers are pulled.

Shared by any number of processes: a file appears whole by rename, is checked against its id at every read, and the
least recently used go when the folder outgrows its cap. Losing the folder costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from evergraft.errors import FormatError, IntegrityError
from evergraft.graph.module import Module, decode
from evergraft.store.keys import check_key

LOW_WATER = 0.9
"""Eviction goes down to this share of the cap, so that it does not run at every write."""


class ModuleCache:
    """Files named by module id in `folder`, at most about `max_bytes` of them."""

    def __init__(self, folder: Path, *, max_bytes: int = 4 << 30) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._bytes: int | None = None

    def get(self, module_id: str) -> Module | None:
        """The module, None if it is not kept here whole; damaged files are removed where that is ours to do."""
        path = self._path(module_id)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        try:
            module = decode(data, expected_id=module_id)
        except (IntegrityError, FormatError):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # marks it as used
        return module

    def put(self, module_id: str, data: bytes) -> None:
        """Keep the file of a module. A disk that is full or closed to us is no error: nothing is kept then."""
        if len(data) > self._max_bytes:
            return
        path = self._path(module_id)
        temporary = path.with_name(f".{uuid.uuid4().hex}")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(data)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            self._make_room(len(data))

    def _path(self, module_id: str) -> Path:
        return self._folder / module_id[:2] / check_key(module_id)

    def _make_room(self, added: int) -> None:
        self._bytes = None if self._bytes is None else self._bytes + added
        if self._bytes is not None and self._bytes <= self._max_bytes:
            return
        kept = sorted(self._files())
        self._bytes = sum(size for _, size, _ in kept)
        if self._bytes <= self._max_bytes:
            return
        for _, size, path in kept:
            path.unlink(missing_ok=True)
            self._bytes -= size
            if self._bytes <= self._max_bytes * LOW_WATER:
                break

    def _files(self) -> list[tuple[float, int, Path]]:
        """(last use, bytes, path) of every file, temporary ones of killed processes included."""
        found = []
        for path in self._folder.glob("*/*"):
            with contextlib.suppress(OSError):
                facts = path.stat()
                found.append((facts.st_mtime, facts.st_size, path))
        return found
