"""Exactly once: whatever answer of a search is lost, one commit with the same winner; who wakes too late is refused."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from evergraft.errors import AlreadyCommittedError, ConflictError, RouteRemovedError, StoreError
from evergraft.graph.commit import Condemn, PutRoute, RemoveRoute, Restore, Swept
from evergraft.graph.route import RouteSummary
from evergraft.names import RunKey, module_key
from evergraft.search.engine import run_search
from evergraft.search.events import silent
from evergraft.store import log
from evergraft.store.clients import Client, gcs_client, s3_client
from evergraft.store.memory import MemoryStore
from evergraft.store.objects import ObjectStore
from evergraft.store.options import StoreOptions
from evergraft.store.retry import Retry
from evergraft.store.seam import Store
from evergraft.testing import arithmetic
from evergraft.testing.clients import faulty_client
from evergraft.testing.faults import FaultyStore
from evergraft.testing.graphs import landing, root_of, start_graph
from evergraft.testing.injection import ATOMIC, NO_ANSWER, Call, Faults, Way, every_fault, nth
from evergraft.testing.invariants import check_invariants

AT_ONCE = Retry(attempts=4, first_s=0.0)
SEARCHES: dict[str, dict[str, Any]] = {
    "finetune": {},
    "mu2net": {"strategy": "mu2net", "samples": 64, "parameters": {"generations": 2, "candidates": 2}},
}
WAYS = ATOMIC - {Way.STALL, Way.SLOW}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waits between asking again what became of a commit."""
    defaults = log.commit.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "unknown", AT_ONCE)


def fresh() -> MemoryStore:
    store = MemoryStore(uuid.uuid4().hex)
    arithmetic.init_graph(store)
    return store


def search(store: Store, settings: dict[str, Any]) -> str:
    outcome, _ = run_search(
        store,
        log.read_graph(store),
        request=arithmetic.make_request("a/one", **settings),
        make_trainer=arithmetic.ArithmeticTrainer,
        emit=silent,
    )
    return outcome.kind


def winner(store: Store) -> RouteSummary:
    """The one route that landed; nothing else did."""
    commits = [commit for commit, _ in log.read_commits(store, 1)]
    (route,) = [action.route for commit in commits for action in commit.actions if isinstance(action, PutRoute)]
    assert len(commits) == 1
    assert check_invariants(store, [(1, commits[0].id)]) == []
    return route


def kept(store: Store) -> list[str]:
    """What stays of a search for ever, or as long as it may."""
    return [entry.key for entry in store.list("") if entry.key.split("/")[0] in ("modules", "routes", "optimizer")]


def creates(settings: dict[str, Any]) -> tuple[RouteSummary, list[str], list[Call]]:
    """The winner of a calm search, what is kept, and its conditional creates."""
    store = FaultyStore(fresh())
    assert search(store, settings) == "committed"
    return winner(store.inner), kept(store.inner), [call for call in store.faults.calls if call.name == "put_if_absent"]


def cases() -> Iterator[Any]:
    for name, settings in SEARCHES.items():
        ways = WAYS if name == "finetune" else NO_ANSWER
        yield pytest.param(settings, ways, id=name)


@pytest.mark.parametrize(("settings", "ways"), list(cases()))
def test_any_conditional_write_may_fail_in_any_way(settings: dict[str, Any], ways: frozenset[Way]) -> None:
    """The worker goes on or is started again; late writes arrive after everything is over."""
    expected, objects, calls = creates(settings)
    assert len(calls) >= 6
    assert any(call.key.startswith("log/") for call in calls)
    for call, way in every_fault(calls, ways=ways):
        store = FaultyStore(fresh(), plan=nth(call.name, call.number, way))
        try:
            first = search(store, settings)
        except StoreError:
            first = "failed"
        assert [fault for _, fault in store.faults.struck] == [way], (call, way)
        again = search(store.inner, settings)
        assert again == ("already" if first == "committed" else again)
        assert kept(store.inner) == objects, (call, way)
        store.faults.deliver()
        assert winner(store.inner) == expected, (call, way)


class Bucket(MemoryFileSystem):  # type: ignore[misc]
    """fsspec's memory, with the names that a bucket's client lists."""

    def find(self, path: str, **options: Any) -> dict[str, Any]:
        return {name.lstrip("/"): facts for name, facts in super().find(path, **options).items()}


def opened(client: Client, url: str, faults: Faults) -> ObjectStore:
    quick = Retry(attempts=4, first_s=0.0)
    return ObjectStore(url, client=faulty_client(client, faults), retry=quick)


def drop_each_answer(client: Client, url: str, *, like: str, ways: frozenset[Way]) -> None:
    """Below the seam nothing of a single fault reaches the search: it commits in one go."""
    calm = Faults()
    place = opened(client, f"{url}/{uuid.uuid4().hex}", calm)
    arithmetic.init_graph(place)
    before = len([call for call in calm.calls if call.name == "put_if_absent"])
    search(place, {})
    expected = winner(place)
    calls = [call for call in calm.calls if call.name == "put_if_absent"][before:]
    assert len(calls) >= 6
    for call, way in every_fault(calls, ways=ways):
        faults = Faults(like=like)
        store = opened(client, f"{url}/{uuid.uuid4().hex}", faults)
        arithmetic.init_graph(store)
        faults.plan = nth(call.name, call.number, way)
        assert search(store, {}) == "committed"
        assert [fault for _, fault in faults.struck] == [way]
        faults.deliver()
        assert winner(store) == expected, (call, way)


@pytest.mark.parametrize(
    ("like", "ways"),
    [("gs", WAYS - {Way.FULL}), ("s3", frozenset({Way.TWICE, Way.HTTP_409, Way.HTTP_412}))],
    ids=["gs", "s3"],
)
def test_below_an_object_store_any_fault_that_passes_is_invisible(like: str, ways: frozenset[Way]) -> None:
    client = Client(make=lambda: Bucket(skip_instance_cache=True))
    drop_each_answer(client, f"{like}://once", like=like, ways=ways)


@pytest.mark.server
def test_lost_answers_of_gs(request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("gcs_server")
    client = gcs_client(StoreOptions(endpoint=server.endpoint))
    drop_each_answer(client, server.url, like="gs", ways=frozenset({Way.LOST_AFTER, Way.TWICE}))


@pytest.mark.server
def test_lost_answers_of_s3(request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("s3_server")
    client = s3_client(StoreOptions(endpoint=server.endpoint, key=server.key, secret=server.secret))
    drop_each_answer(client, server.url, like="s3", ways=frozenset({Way.TWICE}))


# --- a stalled writer wakes ---------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "file"])
def connect(request: pytest.FixtureRequest, tmp_path: Any) -> Callable[[], Store]:
    from evergraft.store.open import open_store

    url = f"memory://{uuid.uuid4().hex}" if request.param == "memory" else str(tmp_path / "graph")
    return lambda: open_store(url)


def newer_run(store: Store) -> None:
    graph = log.read_graph(store)
    actions = landing(store, root_of(graph), "a/one", run=RunKey(2, 1))
    log.commit(store, graph, actions=actions, base=graph.version, author="newer", search=None)


def same_run_then_restore(store: Store) -> None:
    graph = log.read_graph(store)
    actions = landing(store, root_of(graph), "a/one")
    graph, _ = log.commit(store, graph, actions=actions, base=graph.version, author="same", search=None)
    restore = (Restore(0, {"a/one": None}),)
    log.commit(store, graph, actions=restore, base=graph.version, author="restore", search=None)


def same_run_then_removal(store: Store) -> None:
    graph = log.read_graph(store)
    actions = landing(store, root_of(graph), "a/one")
    graph, _ = log.commit(store, graph, actions=actions, base=graph.version, author="same", search=None)
    log.commit(store, graph, actions=(RemoveRoute("a/one"),), base=graph.version, author="remove", search=None)


def collection(store: Store) -> None:
    graph = log.read_graph(store)
    actions = landing(MemoryStore(uuid.uuid4().hex), root_of(graph), "a/one")
    (module,) = actions[0].to_json()["modules"]
    for action in (Condemn((module,)), Swept((module,))):
        if isinstance(action, Swept):
            store.delete(module_key(module))
        graph, _ = log.commit(store, graph, actions=(action,), base=graph.version, author="gc", search=None)


OVERTAKEN = [
    (newer_run, AlreadyCommittedError, "version 1 closed run i2-c1"),
    (same_run_then_restore, RouteRemovedError, "set iteration to 2"),
    (same_run_then_removal, RouteRemovedError, "set iteration to 2"),
    (collection, ConflictError, "was deleted since version 0"),
]


@pytest.mark.parametrize(("overtake", "error", "message"), OVERTAKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_writer_stalled_in_its_commit_is_refused_when_it_wakes(
    connect: Callable[[], Store], overtake: Callable[[Store], None], error: type[Exception], message: str
) -> None:
    """It has uploaded, read HEAD and checked; its conditional create hangs in the network while others go on."""
    graph = start_graph(connect())
    stalled = FaultyStore(connect())
    actions = landing(stalled, root_of(graph), "a/one")
    sent = len([call for call in stalled.faults.calls if call.name == "put_if_absent"])
    stalled.faults.plan = nth("put_if_absent", sent, Way.STALL)
    gate = stalled.faults.gate
    with ThreadPoolExecutor(max_workers=1) as pool:
        late = pool.submit(
            log.commit, stalled, graph, actions=actions, base=graph.version, author="stalled", search=None
        )
        try:
            assert gate.reached.wait(30)
            overtake(connect())
        finally:
            gate.open()
        with pytest.raises(error, match=message):
            late.result(timeout=30)
    after = log.read_graph(connect())
    assert "stalled" not in {commit.author for commit, _ in log.read_commits(connect())}
    assert check_invariants(connect(), [(after.version, [*log.read_commits(connect())][-1][0].id)]) == []
