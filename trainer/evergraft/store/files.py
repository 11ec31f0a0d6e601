"""A store in a folder: ``file:///path``. Safe for many processes on one machine or one shared file system.

An object appears whole or not at all: it is written to a hidden temporary file and synced, then linked (create) or
renamed (overwrite) to its name, then the folder is synced. What says only what goes on now, such as a claim, is not
synced: a power cut that takes it has ended the process that it speaks of. `os.link` is what makes a create atomic; who
won is decided by reading the name back, because a link over a network may succeed and still report an error.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from evergraft import names
from evergraft.errors import (
    NotFoundError,
    PermissionDeniedError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    UserError,
)
from evergraft.store.keys import check_key, check_prefix
from evergraft.store.seam import Created, Entry, Landed, Lost, Unknown

TEMPORARY = ".writing"
"""The hidden folder of the root where objects are prepared. What a killed process leaves there is never listed."""

FOLDER_TRIES = 4

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EXDEV, errno.EMLINK})


class FileStore:
    """Objects as files below `root`, which is made when the first one is written."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._lasting: set[Path] = set()  # folders that a power cut cannot take, as far as this process knows

    @property
    def url(self) -> str:
        """``file://`` and the folder."""
        return f"file://{self._root}"

    def get(self, key: str) -> bytes:
        """The whole object. Raises NotFoundError if there is none."""
        path = self._path(key)
        try:
            return path.read_bytes()
        except OSError as error:
            self._refuse(error, path)

    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite the object, atomically."""
        self._place(self._path(key), data, os.replace)

    def put_if_absent(self, key: str, data: bytes) -> Created:
        """Create the object unless its name is taken."""
        path = self._path(key)
        try:
            failure = self._place(path, data, _link)
            return self._decide(path, data, failure)
        except StoreUnavailableError as error:  # perhaps after the link: only trying again can tell
            return Unknown(str(error))
        except OSError as error:
            self._refuse(error, path, writing=True)

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every object whose key begins with `prefix`, ordered by key."""
        start = check_prefix(prefix).rpartition("/")[0]
        found = self._walk(self._root / start, f"{start}/" if start else "", prefix)
        yield from sorted(found, key=lambda entry: entry.key)

    def delete(self, key: str) -> None:
        """Delete the object; deleting what is not there is no error."""
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty
                for folder in itertools.takewhile(lambda folder: folder != self._root, path.parents):
                    folder.rmdir()
        except OSError as error:
            if error.errno not in _ABSENT:
                self._refuse(error, path)

    def _walk(self, folder: str | Path, key: str, prefix: str) -> Iterator[Entry]:
        """The objects below `folder`, whose own key is `key`; folders that cannot hold the prefix are not entered."""
        try:
            items = list(os.scandir(folder))
        except OSError as error:
            self._unreadable(error)
            return
        for item in items:
            name = key + item.name
            if item.name.startswith("."):
                continue
            if item.is_dir():
                inner = f"{name}/"
                if not item.is_symlink() and (inner.startswith(prefix) or prefix.startswith(inner)):
                    yield from self._walk(item.path, inner, prefix)
            elif name.startswith(prefix):
                with contextlib.suppress(FileNotFoundError):  # deleted while we walked
                    facts = item.stat()
                    yield Entry(key=name, size=facts.st_size, modified=facts.st_mtime)

    def _unreadable(self, error: OSError) -> None:
        """A folder that is not there holds nothing; one that is closed must not look empty."""
        if error.errno not in _ABSENT:
            self._refuse(error, Path(error.filename))

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _place(self, path: Path, data: bytes, move: Callable[[Path, Path], OSError | None]) -> OSError | None:
        """Prepare a file and `move` it to `path`; again if a concurrent delete took the emptied folder away."""
        lasting = not names.is_passing(path.relative_to(self._root).as_posix())
        for attempt in range(FOLDER_TRIES):
            try:
                with self._prepared(path, data, lasting=lasting) as prepared:
                    failure = move(prepared, path)
                if lasting:
                    _sync_folder(path.parent)
                    self._keep_folder(path.parent)
                return failure
            except OSError as error:
                if error.errno != errno.ENOENT or attempt + 1 == FOLDER_TRIES:
                    self._refuse(error, path, writing=True)
        raise AssertionError("the last attempt returns or raises")

    @contextlib.contextmanager
    def _prepared(self, path: Path, data: bytes, *, lasting: bool) -> Iterator[Path]:
        """A temporary file with `data` on the file system of `path`, synced if it is to last; gone again afterwards."""
        folder = self._root / TEMPORARY
        self._make_folder(folder)
        self._make_folder(path.parent)
        temporary = folder / uuid.uuid4().hex
        try:
            _write(temporary, data, sync=lasting)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder != self._root:
            self._make_folder(folder.parent)
        folder.mkdir(parents=folder == self._root, exist_ok=True)
        self._lasting.discard(folder)

    def _keep_folder(self, folder: Path) -> None:
        """Sync the parent of `folder`, its parent, … up to the root's: a crash must not lose the path to an object.

        Once for each folder, even if another process made it, for that may have been for a claim.
        """
        while folder not in self._lasting and folder != self._root.parent:
            _sync_folder(folder.parent)
            self._lasting.add(folder)
            folder = folder.parent

    def _decide(self, path: Path, data: bytes, failure: OSError | None) -> Created:
        """Landed or lost, by what the name holds now."""
        try:
            standing = path.read_bytes()
        except FileNotFoundError:
            if failure is None:  # created, and deleted by someone since
                return Landed()
            if failure.errno in _NO_LINKS:
                raise UserError(
                    f"{self.url}: this file system cannot make hard links ({failure.strerror}), so a graph on it "
                    "could lose commits; use a local disk, NFS, or an object store"
                ) from None
            if failure.errno in _FULL | _DENIED:
                raise failure from None
            return Unknown(f"{self.url}: {failure}")
        return Landed() if standing == data else Lost(standing)

    def _refuse(self, error: OSError, path: Path, *, writing: bool = False) -> NoReturn:
        if writing and error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            raise UserError(f"{self.url}: {path} cannot be written, since a file stands where a folder is needed")
        raise _translate(error, path) from error


def _translate(error: OSError, path: Path) -> StoreError | UserError:
    if error.errno in _ABSENT:
        return NotFoundError(f"file://{path} does not exist")
    if error.errno in _FULL:
        return StoreFullError(f"file://{path}: no space left; free some and run again, nothing half-written remains")
    if error.errno in _DENIED:
        return PermissionDeniedError(f"file://{path}: {error.strerror}; give this user write access to the folder")
    if error.errno == errno.ENAMETOOLONG:
        return UserError(f"file://{path}: too long a name for this file system; use a shorter one")
    return StoreUnavailableError(f"file://{path}: {error.strerror or error}")


def _link(source: Path, target: Path) -> OSError | None:
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError as error:
        return error
    return None


def _write(path: Path, data: bytes, *, sync: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
