"""Writes cut in half, as a store without atomic writes leaves them: found by name, never served, never built upon."""

from __future__ import annotations

import uuid

import pytest

from evergraft import names
from evergraft.errors import IntegrityError, StoreUnavailableError
from evergraft.graph.state import Graph
from evergraft.names import RunKey
from evergraft.store import blobs, hint, log
from evergraft.store.checkpoints import write_checkpoint
from evergraft.store.memory import MemoryStore
from evergraft.store.retry import Retry
from evergraft.store.seam import Store
from evergraft.store.verify import verify
from evergraft.testing.faults import FaultyStore
from evergraft.testing.graphs import closing, land, landing, root_of, start_graph
from evergraft.testing.injection import Way, nth
from evergraft.testing.invariants import check_invariants
from evergraft.testing.mishaps import plant_hint, rewind, tear

ONCE = Retry(attempts=1)


@pytest.fixture
def store() -> Store:
    return MemoryStore(uuid.uuid4().hex)


@pytest.fixture
def graph(store: Store) -> Graph:
    """Three tasks and a checkpoint at their version."""
    graph = start_graph(store)
    for number in range(3):
        graph = land(store, graph, f"a/{number}")
    return write_checkpoint(store, graph)


def commit_torn(store: Store, graph: Graph, number: int) -> None:
    torn = FaultyStore(store, plan=nth("put_if_absent", number, Way.TORN))
    actions = landing(torn, root_of(graph), "a/torn")
    log.commit(torn, graph, actions=actions, base=graph.version, author="torn", search=None, unknown=ONCE)


def test_a_torn_commit_is_damage_that_nobody_builds_upon(store: Store, graph: Graph) -> None:
    with pytest.raises(StoreUnavailableError, match="may have landed"):
        commit_torn(store, graph, 2)
    with pytest.raises(IntegrityError):
        log.read_graph(store)
    with pytest.raises(IntegrityError):
        land(store, graph, "b/next")
    assert "the log breaks at version 4" in verify(store).findings[0].what
    assert check_invariants(store) != []
    assert log.read_graph(store, 3) == graph


@pytest.mark.parametrize(("number", "what"), [(0, "module"), (1, "route")])
def test_a_torn_blob_never_becomes_part_of_the_graph(store: Store, graph: Graph, number: int, what: str) -> None:
    with pytest.raises(StoreUnavailableError, match="may or may not be written"):
        commit_torn(store, graph, number)
    assert log.read_graph(store) == graph
    with pytest.raises(IntegrityError, match=what):
        land(store, graph, "a/torn")
    assert log.read_graph(store) == graph


def test_a_torn_blob_in_use_is_found_with_the_routes_it_touches(store: Store, graph: Graph) -> None:
    route = next(graph.routes())
    for key, kind in ((names.module_key(route.layers[-1].module), "module"), (names.route_key(route.id), "document")):
        whole = store.get(key)
        tear(store, key)
        assert any(kind in what and what.startswith("a/0: ") for what in check_invariants(store))
        assert any("a/0" in finding.routes for finding in verify(store).findings)
        store.put(key, whole)
    assert check_invariants(store) == []
    tear(store, names.module_key(route.layers[-1].module))
    with pytest.raises(IntegrityError):
        blobs.get_module(store, route.layers[-1].module)


@pytest.mark.parametrize("prefix", ["checkpoints/0", "checkpoints/shards/", names.HINT])
def test_torn_checkpoints_and_hints_are_done_without(store: Store, graph: Graph, prefix: str) -> None:
    for entry in list(store.list(prefix)):
        tear(store, entry.key)
        assert log.read_graph(store) == graph
        assert log.read_task(store, "a/1") == (graph.task("a/1"), 3)


def test_a_backup_put_back_under_newer_hints_and_checkpoints_goes_on(
    store: Store, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest commits are gone, what was derived from them is not: readers are back at the older version."""
    monkeypatch.setattr(hint, "EVERY_S", 0.0)
    plant_hint(store, version=3, checkpoint=3)
    rewind(store, 1)
    before = log.read_graph(store)
    assert (before.version, [task for task, _ in before.tasks()]) == (1, ["a/0", "root"])
    after = before
    for number in range(4):  # over the versions of the checkpoint that is left
        actions = (closing(f"b/{number}", RunKey(1, 1), outcome="kept"),)
        after, _ = log.commit(store, after, actions=actions, base=after.version, author="later", search=None)
        plant_hint(store, version=after.version, checkpoint=3)
        assert log.read_graph(store) == after
    assert check_invariants(store) == []


def test_a_writer_that_knows_commits_which_a_backup_undid_is_refused(store: Store, graph: Graph) -> None:
    """Else it would leave a gap that hides its commit from every reader."""
    rewind(store, 1)
    with pytest.raises(IntegrityError, match="version 3"):
        land(store, graph, "b/late")
    assert log.read_graph(store).version == 1
    assert check_invariants(store) == []
