"""Modules and routes by content id, through the store and the local cache."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from evergraft import names
from evergraft.errors import DataError, IntegrityError, StoreUnavailableError
from evergraft.graph.module import encode
from evergraft.store import blobs
from evergraft.store.cache import ModuleCache
from evergraft.store.recording import RecordingStore
from evergraft.store.seam import Store, Unknown
from evergraft.testing.faults import FaultyStore
from evergraft.testing.graphs import route_on, tiny_module

MODULE = tiny_module("one")
ROUTE, SUMMARY, _ = route_on(None, "root")


def test_a_module_comes_back_whole(store: Store) -> None:
    assert blobs.put_module(store, MODULE) == len(encode(MODULE))
    assert blobs.put_module(store, MODULE) == len(encode(MODULE))
    assert blobs.get_module(store, MODULE.id) == MODULE


def test_several_modules_are_put_and_got_by_id(memory: Store) -> None:
    modules = [tiny_module(number) for number in range(20)]
    sizes = blobs.put_modules(memory, [*modules, modules[0]])
    assert sizes == {module.id: len(encode(module)) for module in modules}
    assert blobs.get_modules(memory, [*sizes, modules[0].id]) == {module.id: module for module in modules}


def test_a_route_comes_back_whole(store: Store) -> None:
    assert blobs.put_route(store, ROUTE) == SUMMARY.id
    assert blobs.put_route(store, ROUTE) == SUMMARY.id
    assert blobs.get_route(store, SUMMARY.id) == ROUTE


def test_a_blob_that_is_gone_is_damage_unless_the_whole_graph_is(memory: Store) -> None:
    with pytest.raises(StoreUnavailableError, match="the graph that was here is not"):
        blobs.get_module(memory, MODULE.id)
    memory.put(names.GRAPH, b"{}")
    for key, read in (
        (names.module_key(MODULE.id), lambda: blobs.get_module(memory, MODULE.id)),
        (names.route_key(SUMMARY.id), lambda: blobs.get_route(memory, SUMMARY.id)),
    ):
        with pytest.raises(
            IntegrityError, match=f"{key} does not exist, though the graph names it; put it back"
        ) as told:
            read()
        assert told.value.exit_code == 65


def test_damaged_bytes_are_found_by_readers_and_by_writers(memory: Store) -> None:
    other = encode(tiny_module("another"))
    for data in (other, encode(MODULE)[:-1], b""):
        memory.put(names.module_key(MODULE.id), data)
        with pytest.raises(IntegrityError, match=MODULE.id[:12]):
            blobs.get_module(memory, MODULE.id)
        with pytest.raises(IntegrityError):
            blobs.put_module(memory, MODULE)
    memory.put(names.route_key(SUMMARY.id), ROUTE.encode() + b" ")
    with pytest.raises(IntegrityError, match="damaged"):
        blobs.get_route(memory, SUMMARY.id)
    with pytest.raises(IntegrityError, match="damaged"):
        blobs.put_route(memory, ROUTE)


def test_no_answer_says_so(memory: Store) -> None:
    silent = FaultyStore(memory, after=lambda key, outcome: Unknown("timed out"))
    with pytest.raises(StoreUnavailableError, match=r"timed out.*run again"):
        blobs.put_module(silent, MODULE)


# --- the local cache ----------------------------------------------------------------------------------------------


def test_only_missing_modules_are_pulled(memory: Store, tmp_path: Path) -> None:
    blobs.put_module(memory, MODULE)
    cache = ModuleCache(tmp_path / "cache")
    store = RecordingStore(memory)
    for _ in range(3):
        assert blobs.get_module(store, MODULE.id, cache=cache) == MODULE
    assert len(store.reads) == 1
    assert blobs.get_module(store, MODULE.id, cache=ModuleCache(tmp_path / "cache")) == MODULE
    assert len(store.reads) == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_copy_is_pulled_again(memory: Store, tmp_path: Path, damage: str) -> None:
    blobs.put_module(memory, MODULE)
    cache = ModuleCache(tmp_path)
    blobs.get_module(memory, MODULE.id, cache=cache)
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    data = path.read_bytes()
    path.write_bytes({"flip": data[:-1] + bytes([data[-1] ^ 1]), "cut": data[:-1], "empty": b""}[damage])
    assert cache.get(MODULE.id) is None
    assert blobs.get_module(memory, MODULE.id, cache=cache) == MODULE
    assert cache.get(MODULE.id) == MODULE


def test_damage_in_the_store_never_enters_the_cache(memory: Store, tmp_path: Path) -> None:
    memory.put(names.module_key(MODULE.id), encode(tiny_module("another")))
    with pytest.raises(IntegrityError):
        blobs.get_module(memory, MODULE.id, cache=ModuleCache(tmp_path))
    assert list(tmp_path.rglob("*")) == []


def test_the_least_recently_used_go_first_and_the_cap_holds(tmp_path: Path) -> None:
    modules = [tiny_module(number, elements=256) for number in range(12)]
    size = len(encode(modules[0]))
    cache = ModuleCache(tmp_path, max_bytes=10 * size)
    for age, module in enumerate(modules[:10]):
        cache.put(module.id, encode(module))
        os.utime(tmp_path / module.id[:2] / module.id, (1000 + age, 1000 + age))
    assert cache.get(modules[0].id) == modules[0]
    cache.put(modules[10].id, encode(modules[10]))
    kept = [number for number, module in enumerate(modules) if cache.get(module.id)]
    assert 0 in kept
    assert 10 in kept
    assert 1 not in kept
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 9 * size


def test_what_is_larger_than_the_cap_is_not_kept(tmp_path: Path) -> None:
    cache = ModuleCache(tmp_path, max_bytes=10)
    cache.put(MODULE.id, encode(MODULE))
    assert cache.get(MODULE.id) is None


def test_a_cache_that_cannot_be_written_is_no_error(memory: Store, tmp_path: Path) -> None:
    blobs.put_module(memory, MODULE)
    (tmp_path / "file").write_text("in the way")
    assert blobs.get_module(memory, MODULE.id, cache=ModuleCache(tmp_path / "file")) == MODULE


def test_a_damaged_copy_that_cannot_be_removed_is_no_error(
    memory: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.put_module(memory, MODULE)
    path = tmp_path / MODULE.id[:2] / MODULE.id
    path.parent.mkdir()
    path.write_bytes(b"damaged")

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    for act in ("unlink", "replace", "write_bytes"):
        monkeypatch.setattr(Path, act, refuse)
    assert blobs.get_module(memory, MODULE.id, cache=ModuleCache(tmp_path)) == MODULE


def test_many_processes_share_a_cache(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from evergraft.graph.module import encode\n"
        "from evergraft.store.cache import ModuleCache\n"
        "from evergraft.testing.graphs import tiny_module\n"
        "modules = [tiny_module(number, elements=256) for number in range(30)]\n"
        "cache = ModuleCache(Path(sys.argv[1]), max_bytes=len(encode(modules[0])) * 15)\n"
        "for module in modules * 4:\n"
        "    found = cache.get(module.id)\n"
        "    assert found is None or found == module\n"
        "    cache.put(module.id, encode(module))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "cache")]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert not list(tmp_path.rglob(".*"))


def test_a_route_that_nobody_could_read_is_not_written(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(ROUTE.encode())
    monkeypatch.setattr(blobs, "MAX_ROUTE_BYTES", size - 1)
    with pytest.raises(DataError, match=f"the route of root: it would have {size} bytes, more than the {size - 1}"):
        blobs.put_route(memory, ROUTE)
    assert list(memory.list("")) == []
    monkeypatch.setattr(blobs, "MAX_ROUTE_BYTES", size)
    assert blobs.get_route(memory, blobs.put_route(memory, ROUTE)) == ROUTE
