"""Groups of slots: one worker trains several side by side, others find work, a crash takes no neighbour with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergraft.errors import StoppedError
from evergraft.graph.route import RouteSummary
from evergraft.search.claims import Crew, Timing
from evergraft.search.engine import run_search
from evergraft.search.events import silent
from evergraft.search.groups import Claimed, share_of
from evergraft.search.values import SlotRef, SlotResult
from evergraft.store import log
from evergraft.store.memory import MemoryStore
from evergraft.testing.arithmetic import ArithmeticTrainer, init_graph, make_request

EIGHT: dict[str, Any] = {
    "strategy": "mu2net",
    "samples": 2 * 8 * 16,
    "parameters": {"generations": 2, "candidates": 8},
}
TIMING = Timing(dead_s=0.0, first_poll_s=0.001)
PATIENT = Timing(dead_s=60.0, first_poll_s=0.001, longest_poll_s=0.01)


@pytest.fixture
def store(request: pytest.FixtureRequest) -> MemoryStore:
    fresh = MemoryStore(request.node.name)
    for entry in list(fresh.list("")):
        fresh.delete(entry.key)
    init_graph(fresh)
    return fresh


@dataclass
class Grouping(ArithmeticTrainer):
    """Remembers the groups it was given, and raises in the group that holds `poison`."""

    groups: list[tuple[int, ...]] = field(default_factory=list)
    poison: SlotRef | None = None
    error: BaseException = field(default_factory=lambda: RuntimeError("poison"))

    def train(self, group: Sequence[Claimed]) -> Iterator[SlotResult]:
        self.groups.append(tuple(claimed.ref.slot for claimed in group))
        if any(claimed.ref == self.poison for claimed in group):
            raise self.error
        yield from super().train(group)


def search(store: MemoryStore, crew: Crew, groups: list[tuple[int, ...]], **trainer: Any) -> RouteSummary | None:
    outcome, _ = run_search(
        store,
        log.read_graph(store),
        request=make_request("a/one", **EIGHT),
        make_trainer=lambda folder, spec: Grouping(folder, spec, groups=groups, **trainer),
        emit=silent,
        crew=crew,
    )
    return outcome.route


def undisturbed(name: str) -> RouteSummary | None:
    other = MemoryStore(f"{name} alone")
    for entry in list(other.list("")):
        other.delete(entry.key)
    init_graph(other)
    return search(other, Crew(timing=TIMING, worker="0" * 32), [])


def test_who_is_alone_takes_all_that_the_trainer_wants(store: MemoryStore) -> None:
    groups: list[tuple[int, ...]] = []
    found = search(store, Crew(timing=TIMING, worker="0" * 32, expected=0), groups, width=5)
    assert groups == [(0, 1, 2, 3, 4), (5, 6, 7)] * 2
    assert found == undisturbed(store.url)


def test_who_may_have_company_leaves_half(store: MemoryStore) -> None:
    groups: list[tuple[int, ...]] = []
    search(store, Crew(timing=TIMING, worker="0" * 32), groups, width=8)
    assert [len(group) for group in groups] == [4, 2, 1, 1] * 2


@given(st.integers(1, 64), st.integers(0, 20))
def test_a_share_is_at_least_one_and_leaves_as_much_to_each_of_the_others(num_open: int, others: int) -> None:
    share = share_of(num_open, others)
    assert 1 <= share <= num_open
    assert share == 1 or (share - 1) * (others + 1) < num_open


def test_a_crash_releases_nothing_and_its_slots_are_then_trained_one_by_one(store: MemoryStore) -> None:
    groups: list[tuple[int, ...]] = []

    def crew() -> Crew:
        return Crew(timing=TIMING, worker="0" * 32, expected=0)

    with pytest.raises(RuntimeError, match="poison"):
        search(store, crew(), groups, width=4, poison=SlotRef(0, 2))
    assert groups == [(0, 1, 2, 3)]
    groups.clear()
    assert search(store, crew(), groups, width=4) == undisturbed(store.url)
    assert groups[:5] == [(0,), (1,), (2,), (3,), (4, 5, 6, 7)]


def test_a_stop_releases_the_whole_group_which_then_goes_on_together(store: MemoryStore) -> None:
    groups: list[tuple[int, ...]] = []

    def crew(worker: str) -> Crew:
        return Crew(timing=PATIENT, worker=worker, expected=0)

    with pytest.raises(StoppedError):
        search(
            store,
            crew("0" * 32),
            groups,
            width=4,
            poison=SlotRef(0, 2),
            error=StoppedError("asked to stop"),
        )
    groups.clear()
    # Another worker, which cannot tell that the first one is gone but by its releases.
    assert search(store, crew("00000000" + "1" * 24), groups, width=4) == undisturbed(store.url)
    assert groups[0] == (0, 1, 2, 3)


def test_a_second_worker_finds_work_beside_a_greedy_one(store: MemoryStore) -> None:
    first: list[tuple[int, ...]] = []
    second: list[tuple[int, ...]] = []
    together = threading.Barrier(2, timeout=10)

    @dataclass
    class Meeting(Grouping):
        def train(self, group: Sequence[Claimed]) -> Iterator[SlotResult]:
            if not self.groups:
                together.wait()  # both hold a group of the first generation at the same time
            yield from super().train(group)

    def work(name: str, groups: list[tuple[int, ...]]) -> None:
        run_search(
            store,
            log.read_graph(store),
            request=make_request("a/one", **EIGHT),
            make_trainer=lambda folder, spec: Meeting(folder, spec, groups=groups, width=8),
            emit=silent,
            crew=Crew(timing=PATIENT, worker=name),
        )

    other = threading.Thread(target=work, args=("8" + "0" * 31, second), daemon=True)
    other.start()
    work("0" * 32, first)
    other.join(timeout=10)
    assert not other.is_alive()
    assert {slot for group in (first[0], second[0]) for slot in group} <= set(range(8))
    assert not set(first[0]) & set(second[0])
    outcome = log.read_graph(store).task("a/one")
    assert outcome is not None
    assert outcome.route == undisturbed(store.url)
