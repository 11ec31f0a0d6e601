"""gc keeps whatever anyone may need, frees the rest in three steps, and no race, stall or crash makes it forget."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from evergraft import names
from evergraft.errors import ConflictError, IntegrityError, NotAGraphError, RouteRemovedError
from evergraft.graph.commit import Condemn
from evergraft.graph.route import RouteSummary
from evergraft.graph.state import Graph
from evergraft.names import RunKey
from evergraft.store import blobs, log
from evergraft.store.gc import Collected, gc
from evergraft.store.gcfacts import store_time
from evergraft.store.memory import MemoryStore
from evergraft.store.open import open_store
from evergraft.store.remove import remove_route
from evergraft.store.seam import Store
from evergraft.store.verify import verify
from evergraft.testing.aging import AgingStore, Clock, nothing
from evergraft.testing.graphs import land, landing, root_of, start_graph
from evergraft.testing.invariants import check_invariants

pytestmark = pytest.mark.slow

GRACE_S = 3600.0
LONG = 3 * GRACE_S


@pytest.fixture(params=["memory", "file"])
def aging(request: pytest.FixtureRequest, tmp_path: Path) -> AgingStore:
    """A fresh store whose time stands still."""
    inner = MemoryStore(uuid.uuid4().hex) if request.param == "memory" else open_store(str(tmp_path / "graph"))
    return AgingStore(inner, Clock())


@pytest.fixture
def quick() -> AgingStore:
    """The same, in memory alone, for what is tried many times."""
    return AgingStore(MemoryStore(uuid.uuid4().hex), Clock())


def collect(store: AgingStore, *, after: float = 0.0) -> Collected:
    store.clock.advance(after)
    return gc(store, grace_s=GRACE_S, clock=store.clock)


def counts(done: Collected) -> tuple[int, int, int]:
    """(condemned, deleted, swept)."""
    return len(done.plan.condemn), done.deleted, len(done.plan.swept)


def serving(graph: Graph, task: str) -> RouteSummary:
    state = graph.task(task)
    assert state is not None
    assert state.route is not None
    return state.route


def own_module(route: RouteSummary) -> str:
    return route.layers[-1].module


def present(store: Store, blob: str) -> bool:
    return any(names.blob_id(entry.key) == blob for entry in store.list(""))


def assert_whole(store: Store) -> None:
    assert verify(store).findings == ()
    assert check_invariants(store) == []


def test_a_removed_route_goes_in_three_steps_a_grace_period_each(aging: AgingStore) -> None:
    graph = land(aging, start_graph(aging), "a/one")
    gone = serving(graph, "a/one")
    remove_route(aging, "a/one")
    assert counts(collect(aging)) == (0, 0, 0)
    assert counts(collect(aging, after=GRACE_S)) == (2, 0, 0)
    assert counts(collect(aging, after=GRACE_S - 1)) == (0, 0, 0)
    assert present(aging, gone.id)
    assert present(aging, own_module(gone))
    assert counts(collect(aging, after=1)) == (0, 2, 0)
    assert not present(aging, gone.id)
    assert not present(aging, own_module(gone))
    assert present(aging, gone.layers[0].module)
    assert counts(collect(aging, after=GRACE_S - 1)) == (0, 0, 0)
    done = collect(aging, after=1)
    assert counts(done) == (0, 0, 2)
    assert done.to_json()["waiting"] == 0
    after = log.read_graph(aging)
    assert (after.condemned, set(after.swept)) == (frozenset(), {gone.id, own_module(gone)})
    assert counts(collect(aging, after=LONG)) == (0, 0, 0)
    assert log.read_graph(aging).version == after.version
    assert_whole(aging)
    assert [entry.key for entry in aging.list("probe/")] == []


def test_nothing_is_condemned_before_it_is_a_grace_period_old(aging: AgingStore) -> None:
    """What a writer has uploaded and not yet committed looks just like what nobody needs."""
    graph = start_graph(aging)
    aging.clock.advance(LONG)
    actions = landing(aging, root_of(graph), "a/one")
    assert counts(collect(aging, after=GRACE_S - 1)) == (0, 0, 0)
    log.commit(aging, graph, actions=actions, base=graph.version, author="test", search=None)
    assert counts(collect(aging, after=LONG)) == (0, 0, 0)
    assert_whole(aging)


def test_modules_of_a_superseded_route_go_unless_they_are_shared_and_documents_of_ancestors_stay(
    aging: AgingStore,
) -> None:
    graph = land(aging, start_graph(aging), "a/one")
    first = serving(graph, "a/one")
    graph = land(aging, graph, "a/child", parent="a/one")
    graph = land(aging, graph, "a/one", run=RunKey(2, 1))
    for _ in range(4):
        collect(aging, after=LONG)
    assert not present(aging, own_module(first))  # the kit's children replace the last layer
    assert present(aging, first.id)
    assert {entry.key for entry in aging.list(names.ROUTES)} >= {names.route_key(first.id)}
    assert_whole(aging)
    remove_route(aging, "a/child")
    for _ in range(4):
        collect(aging, after=LONG)
    assert not present(aging, first.id)
    assert_whole(aging)


def test_optimiser_states_expire_with_their_route(aging: AgingStore) -> None:
    graph = land(aging, land(aging, start_graph(aging), "a/one"), "a/two")
    one, two = serving(graph, "a/one"), serving(graph, "a/two")
    blobs.put_optimizer(aging, one.id, b"state")
    blobs.put_optimizer(aging, two.id, b"state")
    remove_route(aging, "a/one")
    assert collect(aging).plan.expired == ()
    assert collect(aging, after=GRACE_S).plan.expired == (names.optimizer_key(one.id),)
    assert [entry.key for entry in aging.list(names.OPTIMIZER)] == [names.optimizer_key(two.id)]


def test_a_writer_paused_between_upload_and_commit_is_refused_and_lands_when_it_comes_again(aging: AgingStore) -> None:
    graph = start_graph(aging)
    actions = landing(aging, root_of(graph), "a/one")
    assert counts(collect(aging, after=GRACE_S)) == (2, 0, 0)

    def attempt(read: Graph) -> Graph:
        """Upload again, having read the graph first, as every attempt of a search does; its base stays."""
        assert landing(aging, root_of(read), "a/one") == actions
        after, _ = log.commit(
            aging, read, actions=actions, base=graph.version, author="test", search=None, uploaded=read.version
        )
        return after

    with pytest.raises(ConflictError, match="condemned by gc; search again"):
        log.commit(aging, graph, actions=actions, base=graph.version, author="test", search=None)
    with pytest.raises(ConflictError, match="condemned by gc; search again"):
        attempt(log.read_graph(aging))
    early = log.read_graph(aging)
    for _ in range(2):
        collect(aging, after=GRACE_S)
    with pytest.raises(ConflictError, match="was deleted since version"):
        attempt(early)
    assert serving(attempt(log.read_graph(aging)), "a/one").id
    for _ in range(3):
        assert counts(collect(aging, after=LONG)) == (0, 0, 0)
    assert_whole(aging)


def test_a_child_of_a_route_that_was_condemned_meanwhile_is_refused(aging: AgingStore) -> None:
    """Also when it shares no module with it: its lineage would lead nowhere."""
    graph = land(aging, start_graph(aging, blocks=1), "a/one")  # of one layer, so that a child shares nothing
    actions = landing(aging, serving(graph, "a/one"), "a/child")
    remove_route(aging, "a/one")
    collect(aging, after=LONG)
    with pytest.raises(ConflictError, match="condemned"):
        log.commit(aging, graph, actions=actions, base=graph.version, author="test", search=None)


def test_what_came_into_use_meanwhile_is_not_condemned(aging: AgingStore) -> None:
    """A route lands on a removed parent just before the condemn: modules, document and lineage stay."""
    graph = land(aging, start_graph(aging, blocks=1), "a/one")
    parent = serving(graph, "a/one")
    remove_route(aging, "a/one")
    aging.clock.advance(LONG)
    actions = landing(aging, parent, "a/child")  # its own blobs are young
    other = AgingStore(aging.inner, aging.clock)
    todo = [lambda: log.commit(other, graph, actions=actions, base=graph.version, author="test", search=None)]

    def before(operation: str, key: str) -> None:
        if operation == "put_if_absent" and key.startswith(names.LOG) and todo:
            todo.pop()()

    aging.before = before
    done = collect(aging)
    assert not todo
    assert done.plan.condemn == (own_module(parent),)
    assert present(aging, parent.id)
    assert_whole(aging)


def removed_graph(store: AgingStore) -> tuple[Graph, RouteSummary]:
    """A graph whose a/one was removed and whose blobs are due to be deleted."""
    graph = land(store, land(store, start_graph(store), "a/one"), "a/two")
    gone = serving(graph, "a/one")
    remove_route(store, "a/one")
    assert counts(collect(store, after=LONG)) == (2, 0, 0)
    store.clock.advance(LONG)
    return graph, gone


def at(number: int, act: Callable[[], object], *, deletes: bool = True) -> Callable[[str, str], None]:
    """Act ahead of operation `number`, counted from 0; if that is a delete, only if `deletes`."""
    count = [0]

    def before(operation: str, key: str) -> None:
        count[0] += 1
        if count[0] == number + 1 and (deletes or operation != "delete"):
            act()

    return before


def operations(make: Callable[[AgingStore], None], *, steps: int) -> int:
    """How many store operations a collection takes, `steps` collections into the life of a graph."""
    store = AgingStore(MemoryStore(uuid.uuid4().hex), Clock())
    make(store)
    for _ in range(steps):
        collect(store, after=LONG)
    count = [0]

    def before(operation: str, key: str) -> None:
        count[0] += 1

    store.before = before
    collect(store, after=LONG)
    return count[0]


def mixed(store: AgingStore) -> None:
    """Removed routes at every step: one due to be condemned, one to be deleted, one to be swept."""
    graph = start_graph(store)
    for task in ("a/one", "a/two", "a/three", "a/stays"):
        graph = land(store, graph, task)
    remove_route(store, "a/one")
    collect(store, after=LONG)
    remove_route(store, "a/two")
    collect(store, after=LONG)
    remove_route(store, "a/three")


class KilledError(Exception):
    """The process ends here; nothing of ours may catch it."""


def test_cut_off_at_any_operation_the_next_one_goes_on() -> None:
    total = operations(mixed, steps=0)
    assert total > 30
    for number in range(total):
        store = AgingStore(MemoryStore(uuid.uuid4().hex), Clock())
        mixed(store)

        def die() -> None:
            raise KilledError

        store.before = at(number, die)
        with pytest.raises(KilledError):
            collect(store, after=LONG)
        store.before = nothing
        assert check_invariants(store) == []
        for _ in range(4):
            collect(store, after=LONG)
        graph = log.read_graph(store)
        assert (len(graph.condemned), len(graph.swept)) == (0, 6)
        assert verify(store).findings == ()


def test_two_collections_at_once_at_every_interleaving() -> None:
    """One runs whole ahead of each operation of the other; then both of nothing more is left to do."""
    for number in range(operations(mixed, steps=0)):
        store = AgingStore(MemoryStore(uuid.uuid4().hex), Clock())
        mixed(store)
        store.clock.advance(LONG)
        other = AgingStore(store.inner, store.clock)
        store.before = at(number, lambda other=other: collect(other))  # type: ignore[misc]
        collect(store)
        store.before = nothing
        assert check_invariants(store) == []
        for _ in range(4):
            collect(store, after=LONG)
        graph = log.read_graph(store)
        assert (len(graph.condemned), len(graph.swept)) == (0, 6), number
        assert verify(store).findings == ()


@pytest.mark.parametrize("asleep_s", [0.0, GRACE_S / 2 + 1, LONG])
def test_a_collection_that_sleeps_anywhere_never_deletes_what_was_put_again(asleep_s: float) -> None:
    """While it sleeps, others delete and free the same blobs, and a writer puts and commits them again.

    Only a delete that is under way already for a whole grace period is beyond any promise.
    """

    def make(store: AgingStore) -> None:
        removed_graph(store)

    for number in range(operations(make, steps=0)):
        store = AgingStore(MemoryStore(uuid.uuid4().hex), Clock())
        graph, gone = removed_graph(store)
        other = AgingStore(store.inner, store.clock)
        landed: list[Graph] = []

        def meanwhile(other: AgingStore = other, graph: Graph = graph, landed: list[Graph] = landed) -> None:
            collect(other)
            collect(other, after=asleep_s)
            read = log.read_graph(other)
            actions = landing(other, root_of(graph), "a/one", run=RunKey(1, 1))
            actions = (*actions[:2], *landing(other, root_of(graph), "a/one", run=RunKey(2, 1))[2:])
            try:
                landed.append(log.commit(other, read, actions=actions, base=read.version, author="w", search=None)[0])
            except ConflictError:
                assert asleep_s < GRACE_S

        store.before = at(number, meanwhile, deletes=asleep_s < GRACE_S)
        collect(store)
        store.before = nothing
        assert check_invariants(store) == []
        for _ in range(4):
            collect(store, after=LONG)
        assert verify(store).findings == ()
        assert bool(landed) <= present(store, own_module(gone))


def test_a_collection_that_comes_late_to_its_deletes_leaves_them_to_the_next(quick: AgingStore) -> None:
    _, gone = removed_graph(quick)

    def sleep(operation: str, key: str) -> None:
        if operation == "put_if_absent" and key.startswith(names.LOG):
            quick.clock.advance(GRACE_S)

    quick.before = sleep
    assert collect(quick).deleted == 0
    assert present(quick, gone.id)
    quick.before = nothing
    assert collect(quick).deleted == 2
    assert not present(quick, gone.id)


def before_the_log(store: AgingStore, act: Callable[[], object]) -> None:
    """Act once, just before the next log entry is created."""
    todo = [act]

    def before(operation: str, key: str) -> None:
        if operation == "put_if_absent" and key.startswith(names.LOG) and todo:
            todo.pop()()

    store.before = before


def test_what_another_collection_freed_meanwhile_is_not_announced_again(quick: AgingStore) -> None:
    """A writer may have put it again, too young to be condemned."""
    graph, gone = removed_graph(quick)
    other = AgingStore(quick.inner, quick.clock)
    landings = []

    def meanwhile() -> None:
        collect(other)
        collect(other, after=GRACE_S)
        read = log.read_graph(other)
        assert set(read.swept) == {gone.id, own_module(gone)}
        landings.append((read, landing(other, root_of(graph), "a/one")[:2]))

    before_the_log(quick, meanwhile)
    assert collect(quick).deleted == 0
    ((read, (added, put)),) = landings
    closing = landing(quick, root_of(graph), "a/one", run=RunKey(2, 1))[2]
    log.commit(quick, read, actions=(added, put, closing), base=read.version, author="test", search=None)
    assert_whole(quick)


def test_a_name_is_not_freed_while_another_collection_is_about_to_delete_it(quick: AgingStore) -> None:
    graph, gone = removed_graph(quick)
    collect(quick)
    other = AgingStore(quick.inner, quick.clock)

    def die_before_deleting(operation: str, key: str) -> None:
        if operation == "delete" and key.startswith(names.MODULES):
            raise KilledError

    def meanwhile() -> None:
        landing(other, root_of(graph), "a/one")  # put again, in vain: it is condemned
        other.before = die_before_deleting
        with pytest.raises(KilledError):
            collect(other)

    quick.clock.advance(GRACE_S)
    before_the_log(quick, meanwhile)
    collect(quick)
    assert log.read_graph(quick).swept == {}
    assert own_module(gone) in log.read_graph(quick).condemned


def test_ancestors_of_a_route_too_young_to_be_condemned_stay(quick: AgingStore) -> None:
    """Someone may be about to build on it, and then its lineage must still lead to the root."""
    graph = land(quick, start_graph(quick, blocks=1), "a/one")
    quick.clock.advance(LONG)
    graph = land(quick, graph, "a/two", parent="a/one")
    remove_route(quick, "a/two")
    remove_route(quick, "a/one", force=True)
    one, two = serving(graph, "a/one"), serving(graph, "a/two")
    assert collect(quick).plan.condemn == (own_module(one),)
    actions = landing(quick, two, "a/three")
    log.commit(quick, graph, actions=actions, base=graph.version, author="test", search=None)
    for _ in range(3):
        collect(quick, after=LONG)
    assert present(quick, one.id)
    assert_whole(quick)


def test_a_dry_run_writes_nothing_and_says_what_a_run_would_do(quick: AgingStore) -> None:
    graph = land(quick, start_graph(quick), "a/one")
    remove_route(quick, "a/one")
    quick.clock.advance(LONG)
    before = {entry.key: quick.get(entry.key) for entry in quick.list("")}
    done = gc(quick, grace_s=GRACE_S, dry_run=True)
    assert {entry.key: quick.get(entry.key) for entry in quick.list("")} == before
    assert (done.dry_run, counts(done)) == (True, counts(collect(quick)))
    assert counts(done) == (2, 0, 0)
    assert graph.version < log.read_graph(quick).version


def test_it_begins_anew_while_writers_are_faster_and_gives_up_in_the_end(quick: AgingStore) -> None:
    graph = start_graph(quick)
    parents = []
    for number in range(6):
        graph = land(quick, graph, f"a/{number}")
        parents.append(landing(quick, serving(graph, f"a/{number}"), f"b/{number}"))
    for number in range(6):
        remove_route(quick, f"a/{number}")
    other = AgingStore(quick.inner, quick.clock)

    def before(operation: str, key: str) -> None:
        if operation == "put_if_absent" and key.startswith(names.LOG):
            actions = parents.pop()
            log.commit(other, log.read_graph(other), actions=actions, base=graph.version, author="w", search=None)

    quick.before = before
    with pytest.raises(ConflictError, match=r"in use|is a parent"):
        collect(quick, after=LONG)
    assert len(parents) == 1
    quick.before = nothing
    assert_whole(quick)


def test_a_run_at_the_key_of_a_removed_route_stops(quick: AgingStore) -> None:
    graph = land(quick, start_graph(quick), "a/one")
    after = remove_route(quick, "a/one")
    actions = landing(quick, root_of(graph), "a/one")
    with pytest.raises(RouteRemovedError, match="set iteration to 2"):
        log.commit(quick, after, actions=actions, base=after.version, author="test", search=None)


def test_no_graph_is_no_graph_and_a_gap_in_the_log_stops_everything(quick: AgingStore) -> None:
    with pytest.raises(NotAGraphError):
        gc(quick)
    graph = land(quick, start_graph(quick), "a/one")
    quick.delete(names.log_key(graph.version))
    quick.put(names.log_key(graph.version), b"{}")
    with pytest.raises(IntegrityError):
        gc(quick)


def test_what_is_no_blob_by_its_name_is_left_alone(quick: AgingStore) -> None:
    start_graph(quick)
    for key in ("modules/notes.txt", f"modules/ab/{'0' * 64}.safetensors", "routes/x/y.json"):
        quick.put(key, b"mine")
    for _ in range(4):
        assert counts(collect(quick, after=LONG)) == (0, 0, 0)


def test_left_over_probes_go(quick: AgingStore) -> None:
    start_graph(quick)
    quick.put("probe/left-over", b"x")
    assert collect(quick, after=GRACE_S - 1).plan.probes == ()
    assert collect(quick, after=1).plan.probes == ("probe/left-over",)
    assert list(quick.list("probe/")) == []


def test_condemning_one_blob_twice_is_no_news(quick: AgingStore) -> None:
    graph = land(quick, start_graph(quick), "a/one")
    gone = serving(graph, "a/one")
    graph = remove_route(quick, "a/one")
    for _ in range(2):
        actions = (Condemn((own_module(gone),)),)
        graph, _ = log.commit(quick, graph, actions=actions, base=graph.version, author="test", search=None)
    assert graph.condemned == {own_module(gone)}


def test_a_real_store_tells_its_time_and_loses_what_nobody_needs(store: Store) -> None:
    """On every backend, with a grace period of nothing: this is all about the store's own timestamps and deletes."""
    graph = land(store, start_graph(store), "a/one")
    written = {entry.key: entry.modified for entry in store.list("")}
    now = store_time(store)
    assert all(0 <= now - at < 120 for at in written.values())
    gone = serving(graph, "a/one")
    remove_route(store, "a/one")
    assert counts(gc(store, grace_s=3600)) == (0, 0, 0)
    assert [counts(gc(store, grace_s=0)) for _ in range(3)] == [(2, 0, 0), (0, 2, 0), (0, 0, 2)]
    assert not present(store, gone.id)
    assert verify(store).findings == ()
    assert not any(entry.key.startswith("probe/") for entry in store.list(""))
