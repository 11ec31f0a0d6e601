"""gc beside searches: what an open one may build on or has made stays; a closed one's folder goes, whole."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evergraft import names
from evergraft.errors import ConflictError, IntegrityError
from evergraft.graph.commit import Condemn
from evergraft.graph.state import Graph
from evergraft.names import RunKey
from evergraft.search.claims import Crew, Timing
from evergraft.search.engine import Outcome, run_search
from evergraft.search.events import silent
from evergraft.store import log
from evergraft.store.files import FileStore
from evergraft.store.gc import Collected, gc
from evergraft.store.memory import MemoryStore
from evergraft.store.remove import remove_route
from evergraft.store.verify import verify
from evergraft.testing.aging import AgingStore, Clock, nothing
from evergraft.testing.arithmetic import ArithmeticTrainer, init_graph, make_request

GRACE_S = 3600.0
LONG = 3 * GRACE_S
SEARCH: dict[str, Any] = {
    "strategy": "mu2net",
    "samples": 2 * 2 * 16,
    "parameters": {"generations": 2, "candidates": 2},
}


class KilledError(Exception):
    """The worker ends here."""


@pytest.fixture
def store() -> AgingStore:
    """A graph with a root, in a store whose time stands still."""
    fresh = AgingStore(MemoryStore(uuid.uuid4().hex), Clock())
    init_graph(fresh)
    return fresh


ON_ONE: dict[str, Any] = {"strategy": "linear", "parameters": {"parent": "a/one"}}
"""Shares every layer of a/one's route but the head."""


def search(
    store: AgingStore, task: str, *, iteration: int = 1, settings: Mapping[str, Any] = SEARCH
) -> tuple[Outcome, Graph]:
    return run_search(
        store,
        log.read_graph(store),
        request=make_request(task, iteration=iteration, **settings),
        make_trainer=ArithmeticTrainer,
        emit=silent,
        crew=Crew(timing=Timing(dead_s=0.0, first_poll_s=0.001)),
    )


def killed_at(
    store: AgingStore, task: str, start: str, *, after: int = 0, settings: Mapping[str, Any] = SEARCH
) -> None:
    """A search of `task` whose worker dies ahead of writing the first key that begins with `start`, or a later one."""
    seen = [0]

    def before(operation: str, key: str) -> None:
        if operation.startswith("put") and key.startswith(start):
            seen[0] += 1
            if seen[0] > after:
                raise KilledError

    store.before = before
    with pytest.raises(KilledError):
        search(store, task, settings=settings)
    store.before = nothing


def collect(store: AgingStore, *, times: int = 1) -> Collected:
    for _ in range(times):
        store.clock.advance(LONG)
        done = gc(store, grace_s=GRACE_S, clock=store.clock)
    return done


def folders(store: AgingStore) -> set[str]:
    return {entry.key.split("/")[1] for entry in store.list(names.SEARCHES)}


def test_a_closed_search_s_folder_goes_whole_when_nobody_wrote_there_for_a_while(store: AgingStore) -> None:
    search(store, "a/one")
    killed_at(store, "a/two", names.LOG)
    gc(store, grace_s=GRACE_S, clock=store.clock)
    one, two = (names.search_id(task, RunKey(1, 1)) for task in ("a/one", "a/two"))
    assert folders(store) == {one, two}
    done = collect(store)
    assert folders(store) == {two}
    assert [folder.search for folder in done.plan.folders] == [one]
    assert done.plan.open_searches == (f"{two} (a/two)",)
    assert verify(store).findings == ()


def test_a_search_overtaken_by_a_later_run_is_closed(store: AgingStore) -> None:
    killed_at(store, "a/one", names.LOG)
    search(store, "a/one", iteration=2)
    collect(store)
    assert folders(store) == set()


def test_modules_uploaded_for_an_open_search_stay_however_old(store: AgingStore) -> None:
    """Its final result names them; a resumed worker may commit weeks later."""
    killed_at(store, "a/one", names.LOG)
    uploaded = {entry.key for entry in store.list(names.MODULES)}
    assert collect(store, times=5).plan.condemn == ()
    assert {entry.key for entry in store.list(names.MODULES)} == uploaded
    outcome, _ = search(store, "a/one")
    assert outcome.kind == "committed"
    assert verify(store).findings == ()


def test_what_an_open_search_may_build_on_stays_though_it_serves_no_more(store: AgingStore) -> None:
    """No result names the parent yet: the base version alone says that it may be chosen."""
    search(store, "a/one")
    folder = names.search_key(names.search_id("a/two", RunKey(1, 1)), "0000")
    killed_at(store, "a/two", folder, settings=ON_ONE)
    remove_route(store, "a/one")
    collect(store, times=4)
    outcome, _ = search(store, "a/two", settings=ON_ONE)
    assert (outcome.kind, outcome.route is not None and outcome.route.parent_task) == ("committed", "a/one")
    assert verify(store).findings == ()
    collect(store, times=4)
    assert verify(store).findings == ()


def test_a_winner_condemned_just_before_its_result_was_written_lands_after_the_next_collections(
    store: AgingStore,
) -> None:
    """The narrow gap: gc read the searches, then the result came, then gc condemned what lay there from before."""
    killed_at(store, "a/one", names.LOG)
    final = json.loads(store.get(names.final_key(names.search_id("a/one", RunKey(1, 1)))))
    graph = log.read_graph(store)
    condemn = (Condemn(tuple(final["modules"])),)
    log.commit(store, graph, actions=condemn, base=graph.version, author="gc", search=None)
    with pytest.raises(ConflictError, match="condemned by gc; search again"):
        search(store, "a/one")
    collect(store, times=2)
    outcome, after = search(store, "a/one")
    assert outcome.kind == "committed"
    assert set(final["modules"]) <= set(after.swept)
    collect(store, times=4)
    assert verify(store).findings == ()


def test_a_removed_task_s_search_evolves_again_from_modules_that_were_deleted(store: AgingStore) -> None:
    search(store, "a/one")
    remove_route(store, "a/one")
    assert len(collect(store).plan.condemn) > 0
    collect(store, times=3)
    outcome, _ = search(store, "a/one", iteration=2)
    assert outcome.kind == "committed"
    assert verify(store).findings == ()


def test_an_unreadable_result_of_an_open_search_stops_the_collection(store: AgingStore) -> None:
    """What it named cannot be known, so nothing may be called unused."""
    search(store, "a/two")
    remove_route(store, "a/two")
    killed_at(store, "a/one", names.LOG)
    store.inner.put(names.final_key(names.search_id("a/one", RunKey(1, 1))), b"{")
    before = sorted(entry.key for entry in store.list(""))
    with pytest.raises(IntegrityError, match="final/result"):
        collect(store)
    assert sorted(entry.key for entry in store.list("")) == before


def test_a_folder_whose_deletion_was_cut_off_is_finished_and_an_unreadable_one_is_kept(store: AgingStore) -> None:
    search(store, "a/one")
    one = names.search_id("a/one", RunKey(1, 1))
    store.delete(names.search_key(one, "search.json"))
    damaged = "0" * 32
    store.put(names.search_key(damaged, "search.json"), b"{")
    done = collect(store)
    assert folders(store) == {damaged}
    assert done.plan.open_searches == (f"{damaged} (unknown task)",)


def test_a_planted_search_of_a_task_without_a_form_in_utf_8_stops_nobody(store: AgingStore) -> None:
    store.put(names.search_key("abc", "search.json"), b'{"format":1,"task":"\\ud800","base":0,"run":"i1-c1"}')
    assert collect(store).plan.open_searches == ("abc (unknown task)",)


@pytest.mark.parametrize("name", [b"\xff/result.json", b"ab/0000-0000/a\\b"])
def test_what_no_store_would_write_is_left_alone(tmp_path: Path, name: bytes) -> None:
    inner = FileStore(tmp_path)
    init_graph(inner)
    foreign = tmp_path / "searches" / os.fsdecode(name)
    foreign.parent.mkdir(parents=True)
    foreign.touch()
    gc(inner, grace_s=0.0)
    assert foreign.exists()


def test_a_crash_half_way_through_a_folder_leaves_its_header(store: AgingStore) -> None:
    search(store, "a/one")
    header = names.search_key(names.search_id("a/one", RunKey(1, 1)), "search.json")
    total = len(list(store.list(names.SEARCHES)))
    for number in range(total):
        count = [0]

        def before(operation: str, key: str, count: list[int] = count, number: int = number) -> None:
            if operation == "delete" and key.startswith(names.SEARCHES):
                count[0] += 1
                if count[0] > number:
                    raise KilledError

        copy = AgingStore(MemoryStore(uuid.uuid4().hex), Clock(store.clock.now, dict(store.clock.written)), before)
        for entry in store.list(""):
            copy.inner.put(entry.key, store.get(entry.key))
        with pytest.raises(KilledError):
            collect(copy)
        assert any(entry.key == header for entry in copy.list(names.SEARCHES)), number
        copy.before = nothing
        collect(copy)
        assert folders(copy) == set()
