"""Restore and remove write new commits, never lower a run key, and name whatever stands in the way."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from evergraft import names
from evergraft.errors import AlreadyCommittedError, ConflictError, RouteRemovedError, UserError
from evergraft.graph.state import Graph, TaskState
from evergraft.names import RunKey
from evergraft.store import log
from evergraft.store.gc import gc
from evergraft.store.memory import MemoryStore
from evergraft.store.open import open_store
from evergraft.store.remove import builders, remove_route
from evergraft.store.restore import restore
from evergraft.store.seam import Store
from evergraft.store.verify import verify
from evergraft.testing.aging import AgingStore, Clock
from evergraft.testing.graphs import land, landing, root_of, start_graph


@pytest.fixture(params=["memory", "file"])
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore(uuid.uuid4().hex) if request.param == "memory" else open_store(str(tmp_path / "graph"))


@pytest.fixture
def graph(plain: Store) -> Graph:
    """Version 1: a/one; 2: a/two on it; 3: a/one evolved again; 4: a/three."""
    graph = land(plain, start_graph(plain), "a/one")
    graph = land(plain, graph, "a/two", parent="a/one")
    graph = land(plain, graph, "a/one", run=RunKey(2, 1))
    return land(plain, graph, "a/three")


def state(graph: Graph, task: str) -> TaskState:
    found = graph.task(task)
    assert found is not None
    return found


def routes(graph: Graph) -> dict[str, str | None]:
    return {task: state.route.id if state.route else None for task, state in graph.tasks()}


def test_the_routes_of_a_version_come_back_and_run_keys_stay(plain: Store, graph: Graph) -> None:
    earlier = log.read_graph(plain, version=2)
    done = restore(plain, 2)
    after = log.read_graph(plain)
    assert (done.version, after.version) == (5, 5)
    assert routes(after) == {**routes(earlier), "a/three": None}
    assert done.routes == {"a/one": routes(earlier)["a/one"], "a/three": None}
    assert [state(after, task).run for task in ("a/one", "a/three")] == [RunKey(2, 1), RunKey(1, 1)]
    assert (state(after, "a/one").outcome, state(after, "a/three").outcome) == ("committed", "removed")
    assert verify(plain).findings == ()
    for run in (RunKey(1, 1), RunKey(2, 1)):
        actions = landing(plain, root_of(after), "a/one", run=run)
        with pytest.raises(AlreadyCommittedError):
            log.commit(plain, graph, actions=actions, base=graph.version, author="late", search=None)
    restore(plain, 4)
    assert routes(log.read_graph(plain)) == routes(graph)
    assert log.read_graph(plain, version=5) == after


def test_one_task_alone(plain: Store, graph: Graph) -> None:
    earlier = log.read_graph(plain, version=2)
    restore(plain, 2, task="a/one")
    after = log.read_graph(plain)
    assert routes(after) == {**routes(graph), "a/one": routes(earlier)["a/one"]}
    with pytest.raises(UserError, match=r"a/three: it had no route at version 2; .* graph remove"):
        restore(plain, 2, task="a/three")
    with pytest.raises(UserError, match="a/four: the graph never heard"):
        restore(plain, 2, task="a/four")
    with pytest.raises(UserError, match="version -5 does not exist; the first is 0"):
        restore(plain, -5)
    with pytest.raises(UserError, match="version 99 does not exist; the newest is 5"):
        restore(plain, 99)


def test_what_stands_already_is_not_written_again(plain: Store, graph: Graph) -> None:
    assert restore(plain, graph.version).to_json() == {"version": 4, "restored": 4, "routes": {}}
    assert log.read_graph(plain).version == 4


def test_what_gc_took_is_named_and_what_can_come_back_too(plain: Store) -> None:
    store = AgingStore(plain, Clock())
    graph = land(store, start_graph(store), "a/one")
    graph = land(store, graph, "a/two")
    remove_route(store, "a/one")
    store.clock.advance(100.0)
    gc(store, grace_s=10.0, clock=store.clock)
    remove_route(store, "a/two")
    for _ in range(3):  # a/one is condemned, then deleted, then free; a/two is young
        before = log.read_graph(store).version
        with pytest.raises(ConflictError, match=r"a/one needs .*; train those tasks again.*--task: a/two"):
            restore(store, graph.version)
        assert log.read_graph(store).version == before
        store.clock.advance(20.0)
        for key in [*store.clock.written]:
            if key.startswith((names.MODULES, names.ROUTES)):
                store.clock.written[key] = store.clock.now
        gc(store, grace_s=10.0, clock=store.clock)
    assert log.read_graph(store).condemned == frozenset()
    restore(store, graph.version, task="a/two")
    assert verify(store).findings == ()


def test_a_run_at_a_removed_route_s_key_stops_and_a_higher_one_lands(plain: Store, graph: Graph) -> None:
    after = remove_route(plain, "a/three")
    assert state(after, "a/three").route is None
    with pytest.raises(RouteRemovedError, match=r"a/three: RouteRemoved: .*set iteration to 2"):
        land(plain, graph, "a/three")
    assert state(land(plain, after, "a/three", run=RunKey(2, 1)), "a/three").outcome == "committed"
    with pytest.raises(ConflictError, match="no route to remove"):
        remove_route(plain, "a/four")
    with pytest.raises(ConflictError, match="root"):
        remove_route(plain, names.ROOT_TASK, force=True)


def test_a_route_that_others_build_on_stays_unless_forced(plain: Store, graph: Graph) -> None:
    graph = land(plain, graph, "a/deep", parent="a/two")
    with pytest.raises(ConflictError, match=r"a/one: a/two, a/deep build on its route; .*--force"):
        remove_route(plain, "a/one")
    assert log.read_graph(plain).version == graph.version
    assert builders(graph, "a/three") == []
    after = remove_route(plain, "a/one", force=True)
    assert state(after, "a/one").route is None
    assert state(after, "a/two").route == state(graph, "a/two").route
    assert verify(plain).findings == ()


def test_a_task_on_its_own_earlier_route_builds_on_nobody_else(plain: Store, graph: Graph) -> None:
    graph = land(plain, graph, "a/three", parent="a/three", run=RunKey(2, 1))
    assert state(remove_route(plain, "a/three"), "a/three").outcome == "removed"


def test_who_comes_to_build_on_it_at_the_last_moment_is_seen(plain: Store, graph: Graph) -> None:
    store = AgingStore(plain, Clock())
    todo = [lambda: land(plain, graph, "a/late", parent="a/three")]

    def before(operation: str, key: str) -> None:
        if operation == "put_if_absent" and key.startswith(names.LOG) and todo:
            todo.pop()()

    store.before = before
    with pytest.raises(ConflictError, match="a/three: a/late build on its route"):
        remove_route(store, "a/three")
    assert state(log.read_graph(plain), "a/three").route is not None
