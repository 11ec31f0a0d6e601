"""Graphs that earlier versions wrote are read for ever, and what a later one writes is refused, never rewritten."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import evergraft
from evergraft import canonical, names
from evergraft.errors import FormatError
from evergraft.graph.bundle import decode_bundle
from evergraft.graph.module import decode, encode_tensors, read_header
from evergraft.names import RunKey, search_id
from evergraft.search.folder import Folder
from evergraft.store import blobs, log
from evergraft.store.checkpoints import list_checkpoints, load_checkpoint
from evergraft.store.copy import copy_graph
from evergraft.store.files import FileStore
from evergraft.store.gc import gc
from evergraft.store.lineage import read_lineage
from evergraft.store.memory import MemoryStore
from evergraft.store.remove import remove_route
from evergraft.store.restore import restore
from evergraft.store.verify import verify
from evergraft.testing.graphs import landing, root_of, start_graph
from evergraft.testing.invariants import check_invariants

GRAPHS = Path(__file__).resolve().parents[2] / "data" / "graphs"
OLD = sorted(path for path in GRAPHS.iterdir() if path.is_dir() and path.with_suffix(".json").exists())


@pytest.fixture(params=OLD, ids=lambda path: path.name)
def old(request: pytest.FixtureRequest) -> Path:
    """Each graph that is kept, in turn."""
    path: Path = request.param
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_there_are_old_graphs_and_they_are_small() -> None:
    assert OLD
    assert sum(path.stat().st_size for path in GRAPHS.rglob("*") if path.is_file()) < 300_000


def test_every_version_reads_as_it_did_and_reading_writes_nothing(old: Path) -> None:
    before = contents(old)
    store = FileStore(old)
    expected = json.loads(old.with_suffix(".json").read_text())
    for version, tasks in enumerate(expected["versions"]):
        graph = log.read_graph(store, version=version)
        assert {task for task, _ in graph.tasks()} == set(tasks)
        for task, state in graph.tasks():
            route, wanted = state.route, tasks[task]
            assert (str(state.run) if state.run else None) == wanted["run"]
            assert (state.outcome, state.visibility) == (wanted["outcome"], wanted["visibility"])
            assert (route.id if route else None, route.parent if route else None) == (wanted["route"], wanted["parent"])
            assert (route.quality if route else None) == wanted["quality"]
            assert (canonical.digest(list(route.module_ids())) if route else None) == wanted["modules"]
            assert log.read_task(store, task, version=version)[0] == state
    head = log.read_graph(store)
    assert head.version == len(expected["versions"]) - 1
    assert (sorted(head.condemned), dict(head.swept)) == (expected["condemned"], expected["swept"])
    assert contents(old) == before


def test_it_holds_what_a_store_can_hold(old: Path) -> None:
    """Else keeping it proves less than it seems to."""
    graph = log.read_graph(FileStore(old))
    states = dict(graph.tasks())
    assert {state.outcome for state in states.values()} >= {"committed", "removed"}
    assert {state.visibility for state in states.values()} == {"Public", "Private"}
    assert any(layer.deltas for route in graph.routes() for layer in route.layers)
    assert graph.condemned
    assert graph.swept
    actions = {
        action["type"] for commit, _ in log.read_commits(FileStore(old)) for action in commit.to_json()["actions"]
    }
    everything = {"addModules", "putRoute", "removeRoute", "closeSearch", "restore", "condemn", "swept"}
    assert actions == everything
    assert len(list_checkpoints(FileStore(old))) > 1
    assert any((old / names.OPTIMIZER).rglob("*.safetensors"))


def test_every_promise_holds_and_every_checkpoint_loads(old: Path) -> None:
    store = FileStore(old)
    assert verify(store).findings == ()
    assert check_invariants(store) == []
    for version in list_checkpoints(store):
        assert load_checkpoint(store, version) == log.read_graph(store, version=version)


def test_every_route_is_read_up_to_the_root_and_gives_its_answers(old: Path) -> None:
    from evergraft_trainer.answers import verify_answers

    store = FileStore(old)
    for route in log.read_graph(store).routes():
        steps = read_lineage(store, route.id)
        assert steps[-1].route.task == names.ROOT_TASK
        served = evergraft.load(str(old), route.task) if route.task != names.ROOT_TASK else None
        assert served is None or tuple(served.labels) == blobs.get_route(store, route.id).labels
    assert [row for row in verify_answers(str(old)) if not row["holds"]] == []


def test_optimiser_states_and_open_searches_are_read(old: Path) -> None:
    store = FileStore(old)
    for entry in store.list(names.OPTIMIZER):
        assert {module.kind for module in decode_bundle(store.get(entry.key)).values()} == {"optimizer"}
    header = Folder(store, search_id("old/twice", RunKey(3, 1))).header()
    assert header is not None
    assert header["task"] == "old/twice"


def test_it_can_be_gone_on_with(old: Path, tmp_path: Path) -> None:
    """Kept, copied, restored, added to: by the present version, like any graph of its own."""
    shutil.copytree(old, tmp_path / "graph")
    store, copy = FileStore(tmp_path / "graph"), MemoryStore(str(tmp_path))
    copy_graph(store, copy)
    for place in (store, copy):
        graph = log.read_graph(place)
        actions = landing(place, root_of(graph), "new/task")
        after, _ = log.commit(place, graph, actions=actions, base=graph.version, author="test", search=None)
        remove_route(place, "old/twice")
        restore(place, after.version)
        for _ in range(3):
            gc(place, grace_s=0.0)
        assert verify(place).findings == ()


# What a later version writes


def newer(data: bytes) -> bytes:
    """The document with the next format number."""
    return canonical.dumps({**json.loads(data), "format": canonical.FORMAT + 1})


@pytest.fixture
def graph_store(request: pytest.FixtureRequest) -> MemoryStore:
    store = MemoryStore(request.node.name)
    for entry in list(store.list("")):
        store.delete(entry.key)
    start_graph(store)
    return store


Damage = Callable[[MemoryStore], None]


def rewrite(key: str) -> Damage:
    return lambda store: store.put(key, newer(store.get(key)))


def commit_beyond(store: MemoryStore) -> None:
    commit = {"format": canonical.FORMAT + 1, "version": 1, "ways": ["of the future"]}
    store.put(names.log_key(1), canonical.dumps(commit))


READERS: dict[str, tuple[Damage, str]] = {
    "graph.json": (rewrite(names.GRAPH), "graph.json"),
    "commit": (rewrite(names.log_key(0)), names.log_key(0)),
    "commit beyond": (commit_beyond, names.log_key(1)),
}


@pytest.mark.parametrize("kind", READERS)
def test_a_newer_graph_or_commit_stops_readers_and_writers_alike(graph_store: MemoryStore, kind: str) -> None:
    graph = log.read_graph(graph_store)
    damage, what = READERS[kind]
    damage(graph_store)
    before = {entry.key: graph_store.get(entry.key) for entry in graph_store.list("")}
    acts: list[Callable[[], Any]] = [
        lambda: log.read_graph(graph_store),
        lambda: log.read_task(graph_store, "a/one"),
        lambda: verify(graph_store),
        lambda: remove_route(graph_store, "a/one"),
        lambda: restore(graph_store, 0),
        lambda: copy_graph(graph_store, MemoryStore("elsewhere")),
        lambda: gc(graph_store, grace_s=0.0, dry_run=True),
        lambda: gc(graph_store, grace_s=0.0),
    ]
    if kind == "commit beyond":  # whoever has read the graph before meets it when it commits
        actions = ()
        acts.append(
            lambda: log.commit(graph_store, graph, actions=actions, base=0, author="test", search=None),
        )
    for act in acts:
        with pytest.raises(FormatError, match=rf"{what}.*: format 2 is newer than 1, .*install a version that reads"):
            act()
    assert {entry.key: graph_store.get(entry.key) for entry in graph_store.list("")} == before


def test_a_newer_checkpoint_or_shard_stops_readers(old: Path, tmp_path: Path) -> None:
    """Falling back to an older checkpoint would read on past a document that says it must not be."""
    for number, place in enumerate(("manifest", "shard")):
        folder = tmp_path / str(number)
        shutil.copytree(old, folder)
        store = FileStore(folder)
        newest = list_checkpoints(store)[0]
        if place == "manifest":
            store.put(names.checkpoint_key(newest), newer(store.get(names.checkpoint_key(newest))))
        else:
            manifest = json.loads(store.get(names.checkpoint_key(newest)))
            index = next(index for index, shard in enumerate(manifest["shards"]) if shard)
            data = newer(store.get(names.shard_key(manifest["shards"][index])))
            manifest["shards"][index] = canonical.sha256(data)
            store.put(names.shard_key(manifest["shards"][index]), data)
            store.put(names.checkpoint_key(newest), canonical.dumps(manifest))
        before = contents(folder)
        for act in (log.read_graph, verify):
            with pytest.raises(FormatError, match=r"checkpoint .*format 2 is newer .*install a version"):
                act(store)
        assert contents(folder) == before


def test_a_newer_route_module_bundle_or_search_is_refused(graph_store: MemoryStore) -> None:
    route = json.loads(graph_store.get(next(iter(graph_store.list(names.ROUTES))).key))
    data = canonical.dumps({**route, "format": 2})
    graph_store.put(names.route_key(canonical.sha256(data)), data)
    with pytest.raises(FormatError, match=r"routes/.*json: format 2 is newer .*install a version"):
        blobs.get_route(graph_store, canonical.sha256(data))

    file = graph_store.get(next(iter(graph_store.list(names.MODULES))).key)
    header, _ = read_header(file, where="test")
    metadata = {**header["__metadata__"], "format": "2"}
    future = encode_tensors(decode(file).tensors, metadata=metadata)
    with pytest.raises(FormatError, match=r"module: format 2 is newer .*install a version"):
        decode(future)

    with pytest.raises(FormatError, match=r"bundle: format 2 is newer .*install a version"):
        decode_bundle(encode_tensors({}, metadata={"format": "2", "modules": "[]"}))

    for name in ("search.json", "data.json"):
        graph_store.put(names.search_key("0" * 32, name), b'{"format": 2}')
    folder = Folder(graph_store, "0" * 32)
    for act in (folder.header, folder.manifest):
        with pytest.raises(FormatError, match=r"(search|data)\.json .*format 2 is newer .*install a version"):
            act()
    with pytest.raises(FormatError, match=r"search\.json"):
        gc(graph_store, grace_s=0.0)


def test_a_newer_hint_is_as_good_as_none(graph_store: MemoryStore) -> None:
    graph_store.put(names.HINT, b'{"format": 2, "where": "elsewhere"}')
    assert log.read_graph(graph_store).version == 0


def test_unknown_fields_of_a_known_format_do_no_harm_and_stay(graph_store: MemoryStore) -> None:
    for key in (names.GRAPH, names.log_key(0)):
        graph_store.put(key, canonical.dumps({**json.loads(graph_store.get(key)), "unheardOf": [1]}))
    graph = log.read_graph(graph_store)
    actions = landing(graph_store, root_of(graph), "a/one")
    log.commit(graph_store, graph, actions=actions, base=0, author="test", search=None)
    assert b"unheardOf" in graph_store.get(names.GRAPH)
    assert b"unheardOf" in graph_store.get(names.log_key(0))
    assert verify(graph_store).findings == ()
