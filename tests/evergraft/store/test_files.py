"""What only a folder can do wrong: full disks, closed folders, file systems without links, killed writers."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from evergraft.errors import NotFoundError, PermissionDeniedError, StoreFullError, UserError
from evergraft.names import RunKey
from evergraft.store import log
from evergraft.store.files import TEMPORARY, FileStore
from evergraft.store.open import open_store
from evergraft.store.seam import Landed, Lost, Unknown
from evergraft.store.verify import verify
from evergraft.testing.graphs import closing, land, start_graph


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "graph")


def files_in(store: FileStore) -> list[str]:
    root = Path(store.url.removeprefix("file://"))
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def failing(number: int) -> Callable[..., NoReturn]:
    def fail(*args: object, **kwargs: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("call", ["write", "fsync", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_nothing_half_written(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    store.put("log/0", b"before")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(number))
        with pytest.raises(StoreFullError, match="no space left"):
            store.put_if_absent("log/1", b"x" * 100)
        with pytest.raises(StoreFullError, match="no space left"):
            store.put("log/0", b"after")
    assert files_in(store) == ["log/0"]
    assert store.get("log/0") == b"before"
    assert store.put_if_absent("log/1", b"again") == Landed()


def test_a_disk_that_fills_up_in_the_middle_leaves_nothing(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write

    def half(descriptor: int, data: memoryview) -> int:
        if len(data) < 60:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(descriptor, data[:50])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(StoreFullError):
        store.put("modules/ab", b"x" * 100)
    assert files_in(store) == []


def test_a_partial_write_goes_on(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[:7]))
    store.put("a", bytes(range(100)))
    assert store.get("a") == bytes(range(100))


def test_a_link_that_fails_for_want_of_space_is_a_full_disk(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", failing(errno.ENOSPC))
    with pytest.raises(StoreFullError):
        store.put_if_absent("log/1", b"x")
    assert files_in(store) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_links_is_refused(store: FileStore, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "link", failing(number))
    with pytest.raises(UserError, match="cannot make hard links"):
        store.put_if_absent("log/1", b"x")
    assert files_in(store) == []


def test_a_link_that_succeeds_and_says_it_failed_has_landed(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def treacherous(*args: object, **kwargs: object) -> NoReturn:
        link(*args, **kwargs)  # type: ignore[arg-type]
        raise FileExistsError(errno.EEXIST, "exists")

    monkeypatch.setattr(os, "link", treacherous)
    assert store.put_if_absent("log/1", b"ours") == Landed()
    assert store.put_if_absent("log/1", b"other") == Lost(b"ours")


def test_an_odd_failure_of_a_link_is_unknown(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EIO))
    outcome = store.put_if_absent("log/1", b"x")
    assert isinstance(outcome, Unknown)
    assert "Input/output error" in outcome.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_closed_folder_is_denied(store: FileStore) -> None:
    store.put("log/0", b"x")
    root = Path(store.url.removeprefix("file://"))
    (root / "log").chmod(0o500)
    try:
        with pytest.raises(PermissionDeniedError, match="write access"):
            store.put_if_absent("log/1", b"x")
    finally:
        (root / "log").chmod(0o700)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_no_permission_is_denied_by_name(store: FileStore, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing(number))
        for act in (store.put, store.put_if_absent):
            with pytest.raises(PermissionDeniedError, match="log/1"):
                act("log/1", b"x")
    monkeypatch.setattr(Path, "read_bytes", failing(number))
    with pytest.raises(PermissionDeniedError):
        store.get("log/1")


def test_a_closed_folder_does_not_look_empty(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("log/1", b"x")

    def scandir(path: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionDeniedError):
        list(store.list("log/"))


def test_a_file_where_the_root_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "graph").write_text("not a folder")
    store = FileStore(tmp_path / "graph")
    with pytest.raises(NotFoundError):
        store.get("graph.json")
    with pytest.raises(UserError, match="a file stands where a folder is needed"):
        store.put_if_absent("graph.json", b"{}")


def test_what_a_killed_writer_leaves_is_never_seen(store: FileStore) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from evergraft.store.files import FileStore\n"
        "os.link = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "FileStore(Path(sys.argv[1])).put_if_absent('log/1', b'x' * 1000)\n"
    )
    root = store.url.removeprefix("file://")
    done = subprocess.run([sys.executable, "-c", program, root], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.split("/")[0] for path in files_in(store)] == [TEMPORARY]
    assert list(store.list("")) == []
    with pytest.raises(NotFoundError):
        store.get("log/1")
    assert store.put_if_absent("log/1", b"next") == Landed()


def test_deleting_the_last_object_of_a_folder_takes_the_folder_along(store: FileStore) -> None:
    store.put("searches/ab/search.json", b"{}")
    store.put("log/0", b"x")
    store.delete("searches/ab/search.json")
    root = Path(store.url.removeprefix("file://"))
    assert not (root / "searches/ab").exists()
    assert (root / "log").exists()


def test_a_folder_that_a_delete_takes_away_is_made_again(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link
    taken: list[Path] = []

    def racing(source: Path, target: Path, **kwargs: object) -> None:
        if not taken:
            taken.append(Path(target).parent)
            taken[0].rmdir()
        link(source, target)

    monkeypatch.setattr(os, "link", racing)
    assert store.put_if_absent("searches/ab/claim-1", b"x") == Landed()
    assert taken


def test_paths_and_file_urls_open_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a graph"
    open_store(str(folder)).put("a", b"x")
    assert open_store(f"file://{tmp_path}/a%20graph").get("a") == b"x"
    with pytest.raises(UserError, match="three slashes"):
        open_store("file://tmp/graph")


def test_a_disk_that_fills_up_at_any_step_of_a_commit_leaves_the_graph_as_it_was(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = land(store, start_graph(store), "a/one")
    before = {path: (Path(store.url.removeprefix("file://")) / path).read_bytes() for path in files_in(store)}
    whole = os.fsync
    for allowed in range(2):  # the entry itself, then its folder
        calls = iter(range(allowed))

        def fsync(descriptor: int, calls: Iterator[int] = calls) -> None:
            if next(calls, None) is None:
                raise OSError(errno.ENOSPC, "No space left on device")
            whole(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(StoreFullError):
                log.commit(
                    store,
                    graph,
                    actions=(closing("a/two", RunKey(allowed + 1, 1), outcome="kept"),),
                    base=graph.version,
                    author="test",
                    search=None,
                )
        landed = {path for path in files_in(store) if path not in before}
        assert all(path.startswith("log/") for path in landed)
        assert verify(store).findings == ()
        assert {path: (Path(store.url.removeprefix("file://")) / path).read_bytes() for path in before} == before
    after = log.read_graph(store)
    assert land(store, after, "a/three").version == after.version + 1


def test_only_what_says_what_goes_on_now_is_not_synced(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut may take a claim, for it takes the claim's worker too; a result it may not."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    assert store.put_if_absent("searches/x/0000-0000/claim-1.json", b"1") == Landed()
    store.put("searches/x/0000-0000/beat-1.json", b"1")
    assert synced == []
    assert store.put_if_absent("searches/x/0000-0000/result.json", b"1") == Landed()
    assert len(synced) == 2 + 4  # the file, its name, and the names of the four folders above it
    store.put_if_absent("searches/x/0000-0001/result.json", b"1")
    assert len(synced) == 2 + 4 + 3
    store.put("searches/x/0000-0001/state-1.json", b"1")
    assert len(synced) == 2 + 4 + 3 + 2


def test_a_folder_that_is_made_again_is_synced_again(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for made in (["graph", "modules", "ab"], ["modules", "ab"]):
        synced: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", synced.append)
            store.put("modules/ab/x", b"1")
        assert len(synced) == 2 + len(made)
        store.delete("modules/ab/x")


def test_a_list_enters_only_folders_that_may_hold_the_prefix(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("s/x/0000-0000/a", "s/x/0001-0000/a", "s/x/0001-0001/b", "s/y/0001-0000/a", "s/x/0001.json"):
        store.put(key, b"1")
    entered: list[str] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: entered.append(str(folder)) or scan(folder))  # type: ignore[func-returns-value]
    listed = [entry.key for entry in store.list("s/x/0001")]
    assert listed == ["s/x/0001-0000/a", "s/x/0001-0001/b", "s/x/0001.json"]
    assert sorted(Path(folder).name for folder in entered) == ["0001-0000", "0001-0001", "x"]


def test_a_name_too_long_for_the_file_system_is_the_users_to_change(store: FileStore) -> None:
    store.put("searches/short", b"")
    for act in (store.get, store.delete, lambda key: store.put(key, b"")):
        with pytest.raises(UserError, match="too long a name for this file system"):
            act("searches/" + "a" * 300)
