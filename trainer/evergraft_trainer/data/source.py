"""Where a dataset's bytes come from: one folder or file behind fsspec, listed and read, never trusted.

Local listings see links and devices for what they are; names that leave the root are refused; every read is hashed,
and a second read that gives other bytes, or other bytes than were pinned, stops the work. Called by the formats and
by ``manifest``.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import posixpath
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

from evergraft.errors import DataError
from evergraft_trainer.data.backend import Backend, open_backend

_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Object:
    """One file or object: its name below the root, size in bytes, and the store's own version of it.

    `version` is ``{"generation": …}`` or ``{"etag": …}`` on object stores and empty on file systems. `problem` says
    why it must not be read, if so.
    """

    name: str
    size: int
    version: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Source:
    """A dataset's root. `root` is the folder; `file` is set if the URL names one file in it."""

    url: str
    backend: Backend
    root: str
    file: str | None = None
    digests: dict[str, str] = field(default_factory=dict, repr=False)
    """SHA-256 of every object read so far, or pinned; the only state here, and it only grows."""

    @property
    def remote(self) -> bool:
        """Whether a read is a request over the network."""
        return self.backend.scheme in ("gs", "s3")

    @property
    def local(self) -> bool:
        """Whether objects are local files, with links and devices among them."""
        return self.backend.scheme == "file"

    @cached_property
    def tree(self) -> Mapping[str, Object]:
        """Every object below the root by name, in sorted order. Listed once."""
        found = self.backend.ask(self._find, where=self.url)
        return {item.name: item for item in sorted(found, key=lambda item: item.name)}

    def stat(self, name: str) -> Object:
        """The object called `name`, checked to lie inside the root and to be readable.

        Raises:
            DataError: no such object, or a name, link or device that must not be followed.
        """
        check_name(name, where=self.url)
        item = self.tree.get(name) if name != self.file else self._single(name)
        if item is None:
            raise DataError(f"{self.where(name)}: no such file in the dataset; add it or drop what refers to it")
        if item.problem:
            raise DataError(f"{self.where(name)}: {item.problem}")
        return item

    def read(self, name: str, *, limit: int) -> bytes:
        """The whole object, at most `limit` bytes.

        Raises:
            DataError: too large, gone, or other bytes than those pinned or read before.
        """
        item = self.stat(name)
        if item.size > limit:
            raise DataError(f"{self.where(name)}: {item.size:,} bytes where {limit:,} are allowed; remove the file")
        fs, options = self.backend.fs, self.backend.read_options
        path = f"{self.root}/{name}"
        data = self.backend.ask(lambda: bytes(fs.cat_file(path, **options)), where=self.where(name))
        self._record(name, hashlib.sha256(data).hexdigest())
        return data

    def open(self, name: str) -> io.BufferedReader:
        """A seekable local file with the object's bytes, hashed first; a scratch copy if the object is not local."""
        self.stat(name)
        file = self.backend.ask(lambda: self._local_file(name), where=self.where(name))
        try:
            file.seek(0)
            self._record(name, hashlib.file_digest(file, "sha256").hexdigest())
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def where(self, name: str) -> str:
        """The URL of an object, for messages."""
        base = posixpath.dirname(self.url.rstrip("/")) if self.file else self.url.rstrip("/")
        return f"{base}/{name}"

    def _record(self, name: str, digest: str) -> None:
        if self.digests.setdefault(name, digest) != digest:
            raise DataError(
                f"{self.where(name)}: the bytes changed since the dataset was pinned; put the old file back, "
                "or raise the task's iteration to train on the new data"
            )

    def _find(self) -> list[Object]:
        if self.local:
            return list(_local_tree(Path(self.root)))
        prefix = self.root.rstrip("/") + "/"
        return [
            _remote_object(path[len(prefix) :], info)
            for path, info in self.backend.fs.find(self.root, detail=True).items()
            if path.startswith(prefix) and not path.endswith("/")
        ]

    def _single(self, name: str) -> Object:
        path = f"{self.root}/{name}"
        if self.local:
            return _local_object(Path(self.root), Path(path))
        return _remote_object(name, self.backend.ask(lambda: self.backend.fs.info(path), where=self.where(name)))

    def _local_file(self, name: str) -> io.BufferedReader:
        if self.local:
            return (Path(self.root) / name).open("rb")
        scratch = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            with self.backend.fs.open(f"{self.root}/{name}", "rb") as remote:
                shutil.copyfileobj(remote, scratch, _CHUNK_BYTES)
        except BaseException:
            scratch.close()
            raise
        return cast("io.BufferedReader", scratch)


def open_source(url: str, *, endpoint: str | None = None, storage_options: Mapping[str, Any] | None = None) -> Source:
    """Open a dataset's URL: a local path or ``file://``, ``memory://``, ``gs://``, ``s3://``.

    Raises:
        DataError: another scheme, or nothing is there.
        PermissionDeniedError, UserError: the credentials given may not read it, or are missing.
        StoreUnavailableError: no answer.
    """
    backend, path = open_backend(url, endpoint=endpoint, storage_options=storage_options)
    missing = "no such folder or file; check dataset.url"
    path = path.rstrip("/")
    if backend.ask(lambda: backend.fs.info(path)["type"], where=url, missing=missing) == "file":
        root, name = posixpath.split(path)
        return Source(url=url, backend=backend, root=root, file=name)
    return Source(url=url, backend=backend, root=path)


def check_name(name: str, *, where: str) -> None:
    """Refuse a relative name that could leave the root or cannot be written in JSON.

    Raises:
        DataError: absolute, with ``..``, a scheme, a backslash, control characters or bytes that are no UTF-8.
    """
    parts = name.split("/")
    if not name or name.startswith("/") or "://" in name or "\\" in name or ".." in parts:
        raise DataError(f"{where}: {name!r} leaves the dataset's folder; use a relative path below it")
    if not name.isprintable():
        raise DataError(f"{where}: {name!r} is no printable UTF-8 name; rename the file")


def _remote_object(name: str, info: Mapping[str, Any]) -> Object:
    version = {}
    if info.get("generation"):
        version = {"generation": str(info["generation"])}
    elif info.get("ETag") or info.get("etag"):
        version = {"etag": str(info.get("ETag") or info.get("etag")).strip('"')}
    return Object(name=name, size=int(info["size"]), version=version)


def _local_tree(root: Path) -> Iterator[Object]:
    folders = [root]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                else:
                    yield _local_object(root, Path(entry.path))


def _local_object(root: Path, path: Path) -> Object:
    name = path.relative_to(root).as_posix()
    if path.is_symlink():
        # Not Path.is_dir, which raises where the target is not ours to see.
        if os.path.isdir(path):  # noqa: PTH112
            return Object(name, 0, problem="a link to a folder; move the folder there instead")
        if not Path(os.path.realpath(path)).is_relative_to(root):
            return Object(name, 0, problem="a link that leaves the dataset's folder; copy the file there instead")
    try:
        status = path.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        return Object(name, 0, problem="no such file, or a link to nothing; remove what refers to it")
    if not stat.S_ISREG(status.st_mode):
        return Object(name, 0, problem="not a regular file; remove it")
    return Object(name, status.st_size)
