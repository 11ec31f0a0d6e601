"""The commit log: one commit or none, whoever races, whatever answer is lost; and what reading and writing it costs."""

from __future__ import annotations

import datetime
import itertools
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from evergraft import canonical, names
from evergraft.errors import (
    AlreadyCommittedError,
    ConflictError,
    DataError,
    FormatError,
    IntegrityError,
    NotAGraphError,
    StoreFullError,
    StoreUnavailableError,
    UserError,
)
from evergraft.graph.commit import PutRoute
from evergraft.graph.state import Graph
from evergraft.names import RunKey
from evergraft.store import blobs, hint, history, log
from evergraft.store.recording import RecordingStore
from evergraft.store.retry import Retry
from evergraft.store.seam import Created, Lost, Store, Unknown
from evergraft.testing.faults import FaultyStore
from evergraft.testing.graphs import closing, land, landing, root_of, route_on, start_graph

AT_ONCE = Retry(attempts=4, sleep=lambda seconds: None)


FEW_RACES = Retry(attempts=6, sleep=lambda seconds: None)


def commit_kept(store: Store, graph: Graph, task: str, run: RunKey, *, races: Retry = FEW_RACES) -> Graph:
    """Close one run with nothing to land: the smallest commit."""
    actions = (closing(task, run, outcome="kept"),)
    after, _ = log.commit(
        store,
        graph,
        actions=actions,
        base=graph.version,
        author="test",
        search=None,
        races=races,
        unknown=AT_ONCE,
    )
    return after


# --- starting a graph ---------------------------------------------------------------------------------------------


def test_a_graph_starts_with_its_root(store: Store) -> None:
    graph = start_graph(store)
    assert (graph.version, root_of(graph).is_root) == (0, True)
    info = log.read_info(store)
    assert (info.root, info.reference_parameters, info.reference_flops) == (root_of(graph).id, 12, 1000)
    assert log.read_graph(store) == graph


def test_starting_it_again_with_the_same_root_adopts_it(memory: Store) -> None:
    start_graph(memory)
    grown = land(memory, log.read_graph(memory), "a/one")
    info = log.read_info(memory)
    assert start_graph(memory) == grown
    assert log.read_info(memory) == info


def test_another_root_is_refused_and_changes_nothing(memory: Store) -> None:
    start_graph(memory)
    before = {entry.key: memory.get(entry.key) for entry in memory.list("")}
    _, summary, modules = route_on(None, "root", "another")
    with pytest.raises(ConflictError, match="starts from another root"):
        log.init_graph(memory, root=summary, modules=blobs.put_modules(memory, []), reference=(1, 1), author="test")
    assert {entry.key: memory.get(entry.key) for entry in memory.list("")} == before
    assert modules


def test_an_init_that_died_between_its_two_writes_is_finished_by_the_next(memory: Store) -> None:
    def die(operation: str, key: str) -> None:
        if operation == "put_if_absent" and key == names.log_key(0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start_graph(FaultyStore(memory, before=die))
    begun = log.read_info(memory)
    with pytest.raises(NotAGraphError, match=r"never finished.*graph init again"):
        log.read_graph(memory)
    assert start_graph(memory).version == 0
    assert log.read_info(memory) == begun


def test_of_racing_inits_one_root_wins_and_the_others_are_told(store: Store) -> None:
    roots = [route_on(None, "root", number % 2) for number in range(6)]
    sizes = [blobs.put_modules(store, modules) for _, _, modules in roots]
    for route, _, _ in roots:
        blobs.put_route(store, route)

    def init(number: int) -> str:
        try:
            graph = log.init_graph(
                store, root=roots[number][1], modules=sizes[number], reference=(1, 1), author=str(number)
            )
        except ConflictError:
            return "refused"
        return root_of(graph).id

    with ThreadPoolExecutor(max_workers=6) as pool:
        told = list(pool.map(init, range(6)))
    graph = log.read_graph(store)
    assert graph.version == 0
    assert sorted(told) == sorted([root_of(graph).id] * 3 + ["refused"] * 3)
    assert log.read_info(store).root == root_of(graph).id


@pytest.mark.parametrize("key", [names.GRAPH, names.log_key(0)])
def test_an_init_without_an_answer_says_that_running_again_is_safe(memory: Store, key: str) -> None:
    silent = FaultyStore(memory, after=lambda named, outcome: Unknown("timed out") if named == key else outcome)
    with pytest.raises(StoreUnavailableError, match=r"may or may not be .*run again"):
        start_graph(silent)
    assert start_graph(memory).version == 0


def test_what_is_no_graph_names_the_command_that_makes_one(store: Store) -> None:
    with pytest.raises(NotAGraphError, match="evergraft graph init"):
        log.read_graph(store)
    with pytest.raises(NotAGraphError, match="evergraft graph init"):
        log.read_task(store, "a/one")


@pytest.mark.parametrize("key", [names.GRAPH, names.log_key(1)])
def test_a_newer_format_is_refused_by_name(memory: Store, key: str) -> None:
    start_graph(memory)
    memory.put(key, canonical.dumps({"format": 2}))
    with pytest.raises(FormatError, match="format 2 is newer than 1"):
        log.read_graph(memory)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"format": 1}', b"\xff", b'{"format": 1, "version": NaN}'])
def test_planted_documents_are_damage_and_nothing_else(memory: Store, data: bytes) -> None:
    start_graph(memory)
    for key in (names.log_key(1), names.GRAPH):
        memory.put(key, data)
        with pytest.raises(IntegrityError):
            log.read_graph(memory)


# --- committing ---------------------------------------------------------------------------------------------------


def test_a_commit_is_what_its_author_said(memory: Store) -> None:
    graph = start_graph(memory)
    now = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    actions = landing(memory, root_of(graph), "a/one")
    after, commit = log.commit(memory, graph, actions=actions, base=0, author="me", search="s", now=now)
    assert (commit.version, commit.author, commit.base, commit.search) == (1, "me", 0, "s")
    assert commit.time == "2030-01-02T03:04:05Z"
    assert commit.previous == canonical.sha256(memory.get(names.log_key(0)))
    assert memory.get(names.log_key(1)) == commit.encode()
    assert after == log.read_graph(memory)


def test_a_stale_reader_commits_on_head(memory: Store) -> None:
    stale = start_graph(memory)
    for number in range(5):
        land(memory, log.read_graph(memory), f"a/{number}")
    assert land(memory, stale, "b/late").version == 6
    assert len(list(log.read_graph(memory).tasks())) == 7


def test_the_same_run_lands_once(memory: Store) -> None:
    graph = start_graph(memory)
    actions = landing(memory, root_of(graph), "a/one")
    log.commit(memory, graph, actions=actions, base=0, author="one", search=None)
    with pytest.raises(AlreadyCommittedError, match="version 1 closed run i1-c1"):
        log.commit(memory, graph, actions=actions, base=0, author="two", search=None)
    assert log.read_graph(memory).version == 1


def test_modules_that_nobody_added_are_seen_also_where_the_parent_was_replaced_since(memory: Store) -> None:
    graph = land(memory, start_graph(memory), "a/one")
    parent = graph.task("a/one")
    assert parent is not None
    assert parent.route is not None
    _, *foreign = landing(memory, parent.route, "a/two")
    land(memory, graph, "a/one", run=RunKey(2, 1))
    with pytest.raises(ConflictError, match="neither new nor of its parent a/one"):
        log.commit(memory, graph, actions=tuple(foreign), base=graph.version, author="test", search=None)


def test_a_lost_race_of_another_task_is_tried_again(memory: Store) -> None:
    graph = start_graph(memory)
    rivals = iter(["b/1", "b/2", "b/3"])
    inside = False

    def rival(operation: str, key: str) -> None:
        nonlocal inside
        if operation == "put_if_absent" and key.startswith("log/") and not inside:
            inside = True
            for task in itertools.islice(rivals, 1):
                commit_kept(memory, log.read_graph(memory), task, RunKey(1, 1))
            inside = False

    after = commit_kept(FaultyStore(memory, before=rival), graph, "a/one", RunKey(1, 1))
    assert after.version == 4
    assert [task for task, _ in after.tasks()] == ["a/one", "b/1", "b/2", "b/3", "root"]
    assert after == log.read_graph(memory)


def test_a_lost_race_of_the_same_run_is_already_committed(memory: Store) -> None:
    graph = start_graph(memory)
    raced = False

    def rival(operation: str, key: str) -> None:
        nonlocal raced
        if operation == "put_if_absent" and key.startswith("log/") and not raced:
            raced = True
            commit_kept(memory, graph, "a/one", RunKey(1, 1))

    with pytest.raises(AlreadyCommittedError):
        commit_kept(FaultyStore(memory, before=rival), graph, "a/one", RunKey(1, 1))
    assert log.read_graph(memory).version == 1


def test_a_commit_whose_answer_was_lost_landed_once(memory: Store) -> None:
    graph = start_graph(memory)
    lost = iter([True, True, False])

    def lose(key: str, outcome: Created) -> Created:
        return Unknown("no answer") if key.startswith("log/") and next(lost) else outcome

    after = commit_kept(FaultyStore(memory, after=lose), graph, "a/one", RunKey(1, 1))
    assert after.version == 1
    assert log.read_graph(memory) == after


def test_an_unknown_answer_is_settled_before_another_name_is_tried(memory: Store) -> None:
    """No answer, and meanwhile someone else took the name: ours must move on, once."""
    graph = start_graph(memory)
    first = True

    def rival(operation: str, key: str) -> None:
        nonlocal first
        if operation == "put_if_absent" and key == names.log_key(1) and first:
            first = False
            commit_kept(memory, graph, "b/rival", RunKey(1, 1))

    told: list[Created] = []

    def lose_once(key: str, outcome: Created) -> Created:
        if key.startswith("log/"):
            told.append(outcome)
        return Unknown("no answer") if len(told) == 1 else outcome

    after = commit_kept(FaultyStore(memory, before=rival, after=lose_once), graph, "a/one", RunKey(1, 1))
    assert isinstance(told[1], Lost)
    assert after.version == 2
    assert [commit.version for commit, _ in log.read_commits(memory)] == [0, 1, 2]


def test_no_answer_at_all_says_that_running_again_is_safe(memory: Store) -> None:
    graph = start_graph(memory)
    silent = FaultyStore(memory, after=lambda key, outcome: Unknown("timed out"))
    with pytest.raises(StoreUnavailableError, match="may have landed, and running again is safe"):
        commit_kept(silent, graph, "a/one", RunKey(1, 1))
    with pytest.raises(AlreadyCommittedError):
        commit_kept(memory, graph, "a/one", RunKey(1, 1))


def test_a_full_store_refuses_the_commit_and_the_graph_stands(memory: Store) -> None:
    graph = start_graph(memory)

    def full(operation: str, key: str) -> None:
        if operation == "put_if_absent":
            raise StoreFullError("no space left")

    with pytest.raises(StoreFullError):
        commit_kept(FaultyStore(memory, before=full), graph, "a/one", RunKey(1, 1))
    assert log.read_graph(memory) == graph


def test_clients_that_commit_at_once_lose_nothing(clients: Callable[[], Store]) -> None:
    graph = start_graph(clients())
    shared = [clients(), clients()]

    def work(number: int) -> None:
        store, mine = shared[number % 2], graph
        for run in range(4):
            mine = commit_kept(store, mine, f"w/{number}", RunKey(run + 1, 1), races=log.RACES)

    with ThreadPoolExecutor(max_workers=6) as pool:
        list(pool.map(work, range(6)))
    after = log.read_graph(clients())
    assert after.version == 24
    assert {str(state.run) for task, state in after.tasks() if task != "root"} == {"i4-c1"}
    assert len({commit.id for commit, _ in log.read_commits(clients())}) == 25


def test_a_race_without_end_gives_up(memory: Store) -> None:
    graph = start_graph(memory)
    number = itertools.count(1)
    inside = False

    def rival(operation: str, key: str) -> None:
        nonlocal inside
        if operation == "put_if_absent" and key.startswith("log/") and not inside:
            inside = True
            commit_kept(memory, log.read_graph(memory), "b/rival", RunKey(next(number), 1))
            inside = False

    with pytest.raises(StoreUnavailableError, match="6 commits in a row were overtaken"):
        commit_kept(FaultyStore(memory, before=rival), graph, "a/one", RunKey(1, 1))


# --- reading ------------------------------------------------------------------------------------------------------


def test_every_version_can_be_read_for_ever(memory: Store) -> None:
    seen = [start_graph(memory)]
    for number in range(9):
        seen.append(land(memory, seen[-1], f"a/{number % 3}", run=RunKey(number + 1, 1)))
    for version, graph in enumerate(seen):
        assert log.read_graph(memory, version) == graph
        assert log.read_task(memory, "a/1", version) == (graph.task("a/1"), version)
    with pytest.raises(UserError, match="version 10 does not exist; the newest is 9"):
        log.read_graph(memory, 10)


def test_refresh_reads_one_object_when_nothing_is_new(memory: Store) -> None:
    graph = start_graph(memory)
    store = RecordingStore(memory)
    assert log.refresh(store, graph) is graph
    assert len(store.operations) == 1


@pytest.mark.parametrize(
    "text",
    [
        None,
        b"garbage",
        b"[]",
        b'{"format": 1, "version": 1e3, "checkpoint": -1}',
        b'{"format": 1, "version": "3", "checkpoint": null}',
        b'{"format": 1, "version": 3, "checkpoint": -5}',
        b'{"format": 1, "version": 0, "checkpoint": -1}',
        b'{"format": 1, "version": 900, "checkpoint": 899}',
        b'{"format": 1, "version": 900, "checkpoint": -1}',
        b'{"format": 1, "version": 3, "checkpoint": 2}',
        b'{"format": 9}',
    ],
)
def test_any_hint_or_none_gives_the_same_graph(memory: Store, text: bytes | None) -> None:
    graph = start_graph(memory)
    for number in range(4):
        graph = land(memory, graph, f"a/{number}")
    memory.delete(names.HINT) if text is None else memory.put(names.HINT, text)
    assert log.read_graph(memory) == graph
    assert log.read_task(memory, "a/2") == (graph.task("a/2"), 4)


def test_a_hint_that_cannot_be_written_harms_nobody(memory: Store, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(operation: str, key: str) -> None:
        if operation == "put":
            raise StoreUnavailableError("429: slow down")

    with caplog.at_level(logging.WARNING):
        graph = start_graph(memory)
        commit_kept(FaultyStore(memory, before=refuse), graph, "a/one", RunKey(1, 1))
    assert caplog.records == []


def test_hints_are_written_at_most_every_five_seconds(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    store = RecordingStore(memory)
    graph = start_graph(store)
    written = []
    for number, at in enumerate([1000.0, 1000.1, 1004.9, 1005.0, 1005.1, 1010.0]):
        now = at
        graph = commit_kept(store, graph, f"a/{number}", RunKey(1, 1))
        written.append([operation.key for operation in store.writes].count(names.HINT))
    assert written == [1, 1, 1, 2, 2, 3]
    found = hint.read_hint(memory)
    assert found is not None
    assert found.version == graph.version


def test_a_log_that_was_tampered_with_does_not_fold(memory: Store) -> None:
    graph = start_graph(memory)
    for number in range(3):
        graph = land(memory, graph, f"a/{number}")
    first = memory.get(names.log_key(1))
    memory.put(names.log_key(1), first.replace(b'"author":"test"', b'"author":"else"'))
    with pytest.raises(IntegrityError, match="commit 2 does not follow"):
        log.read_graph(memory)


@pytest.mark.parametrize("lost", [1, 2, 3, 4, 5, 6])
def test_nobody_commits_in_place_of_a_commit_that_is_gone(memory: Store, lost: int) -> None:
    """As while a backup is still being put back: the place must stay free for what belongs there."""
    hint._written.clear()
    graph = start_graph(memory)
    for number in range(7):
        graph = land(memory, graph, f"a/{number}")
    hint._written.clear()
    hint.write_hint(memory, graph)
    data = memory.get(names.log_key(lost))
    memory.delete(names.log_key(lost))
    with pytest.raises(IntegrityError, match=rf"log/0*{lost}\.json is absent though later commits are there"):
        log.read_graph(memory)
    memory.put(names.log_key(lost), data)
    assert log.read_graph(memory) == graph


def test_a_hint_of_a_longer_log_than_a_backup_holds_is_done_without(memory: Store) -> None:
    hint._written.clear()
    graph = land(memory, start_graph(memory), "a/0")
    hint._written.clear()
    hint.write_hint(memory, replace(graph, version=9))
    assert log.read_graph(memory) == graph


@pytest.mark.parametrize(
    ("field", "value"), [("author", None), ("time", "\ud800"), ("actions", [{"type": "putRoute", "route": {}}])]
)
def test_a_damaged_commit_is_named_by_its_key(memory: Store, field: str, value: object) -> None:
    graph = land(memory, start_graph(memory), "a/one")
    key = names.log_key(1)
    commit = json.loads(memory.get(key))
    if value is None:
        del commit[field]
    memory.put(key, json.dumps({**commit, **({} if value is None else {field: value})}).encode())
    hint.write_hint(memory, graph)
    for read in (
        log.read_graph,
        lambda store: list(log.read_commits(store)),
        lambda store: log.read_task(store, "a/one"),
    ):
        with pytest.raises(IntegrityError, match=f"^{key}: "):
            read(memory)
    memory.put(key, b'{"form')
    with pytest.raises(IntegrityError, match=f"^{key}: no JSON"):
        log.read_graph(memory)


# --- cost ---------------------------------------------------------------------------------------------------------


def test_a_commit_without_a_lost_race_stays_within_its_budget(memory: Store) -> None:
    """At most 6 reads and (new modules + 4) writes, the blobs included."""
    graph = start_graph(memory)
    for number in range(60):
        store = RecordingStore(memory)
        graph = land(store, graph, f"a/{number}")
        assert len(store.reads) <= 6
        assert len(store.writes) <= 1 + 4


def test_reading_one_task_reads_one_shard_and_its_own_blobs(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hint, "EVERY_S", 0.0)
    graph = start_graph(memory)
    for number in range(70):
        graph = land(memory, graph, f"a/{number}")
    store = RecordingStore(memory)
    state, version = log.read_task(store, "a/7")
    assert version == graph.version
    assert state is not None
    assert state.route is not None
    blobs.get_route(store, state.route.id)
    blobs.get_modules(store, state.route.module_ids())
    keys = [operation.key for operation in store.reads if operation.size]
    assert len(keys) < 20
    assert sum(key.startswith("checkpoints/shards/") for key in keys) == 1
    wanted = {names.module_key(module) for module in state.route.module_ids()}
    assert {key for key in keys if key.startswith("modules/")} == wanted
    assert [key for key in keys if key.startswith("routes/")] == [names.route_key(state.route.id)]


def test_a_routes_blobs_need_no_second_look(memory: Store) -> None:
    graph = start_graph(memory)
    store = RecordingStore(memory)
    actions = landing(store, root_of(graph), "a/one")
    assert [operation.name for operation in store.operations] == ["put_if_absent", "put_if_absent"]
    assert any(isinstance(action, PutRoute) for action in actions)


def test_a_commit_that_nobody_could_read_is_not_written(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = start_graph(memory)
    before = list(memory.list(""))
    monkeypatch.setattr(history, "MAX_COMMIT_BYTES", 100)
    with pytest.raises(DataError, match=r"commit 1: it would have \d+ bytes, more than the 100 such a document may"):
        commit_kept(memory, graph, "a/one", RunKey(1, 1))
    monkeypatch.undo()
    assert list(memory.list("")) == before
    assert log.read_graph(memory) == graph
