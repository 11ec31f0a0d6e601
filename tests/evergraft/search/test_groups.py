"""Groups of slots: one worker trains several side by side, others find work, a crash takes no neighbour with it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergraft import canonical
from evergraft.errors import StoppedError, SupersededError
from evergraft.graph.route import RouteSummary
from evergraft.search.claims import Crew, Timing
from evergraft.search.engine import run_search
from evergraft.search.events import silent
from evergraft.search.folder import Folder
from evergraft.search.groups import Claimed, share_of
from evergraft.search.values import SlotRef, SlotResult
from evergraft.store import log
from evergraft.store.memory import MemoryStore
from evergraft.store.recording import RecordingStore
from evergraft.testing.arithmetic import ArithmeticTrainer, init_graph, make_request

PLACE = "0000-0000"


def state(profile: str, samples: int) -> bytes:
    return canonical.dumps({"format": canonical.FORMAT, "profile": profile, "samples": samples})


def claimed(folder: Folder, *ends: tuple[str, int, dict[str, bool]]) -> None:
    """Claims that ended with a state of that profile and so many samples (-1: none), and such a last beat."""
    for number, (profile, samples, beat) in enumerate(ends, start=1):
        folder.put_object(SlotRef(0, 0), f"claim-{number}.json", b"{}")
        folder.put_object(SlotRef(0, 0), f"beat-{number}.json", canonical.dumps({"format": canonical.FORMAT, **beat}))
        if samples >= 0:
            folder.put_state(SlotRef(0, 0), number, state(profile, samples))


DEAD: dict[str, bool] = {"released": False}


@pytest.mark.parametrize(
    ("ends", "crashed"),
    [
        ([("x", -1, DEAD)] * 3, True),
        ([("x", -1, DEAD)] * 2, False),
        ([("x", 64, DEAD), ("x", 64, DEAD), ("x", 64, DEAD), ("x", 64, DEAD)], True),
        ([("x", 64, DEAD), ("x", 128, DEAD), ("x", 192, DEAD)], False),
        ([("x", -1, DEAD), ("x", -1, {"released": True}), ("x", -1, DEAD)], False),
        # Who lived to see another take over was slow, not dead.
        ([("x", -1, {"released": False, "superseded": True})] * 5, False),
        # On another kind of machine a candidate begins anew; what came of it there does not count here.
        ([("x", 640, DEAD), ("y", 64, DEAD), ("y", 128, DEAD), ("y", 192, DEAD)], False),
    ],
)
def test_what_counts_as_a_crash(
    store: MemoryStore, ends: list[tuple[str, int, dict[str, bool]]], crashed: bool
) -> None:
    folder = Folder(store, "0" * 32)
    claimed(folder, *ends)
    assert Crew().has_crashed_often(folder, PLACE, len(ends) + 1) is crashed


def test_a_claim_of_an_absurd_number_costs_no_reads(store: MemoryStore) -> None:
    folder = Folder(store, "0" * 32)
    claimed(folder, *[("x", -1, DEAD)] * 3)
    recording = RecordingStore(store)
    assert Crew().has_crashed_often(Folder(recording, "0" * 32), PLACE, 999_999_999)
    assert len(recording.reads) <= 8


def test_a_worker_that_sees_its_claim_taken_over_says_so(store: MemoryStore) -> None:
    folder = Folder(store, "0" * 32)
    claimed(folder, ("x", -1, DEAD), ("x", -1, DEAD))

    def work() -> None:
        with Crew(timing=Timing(beat_s=0.001)).working(folder, PLACE, 1) as duty:
            for _ in range(2000):
                duty.tell(1)
                time.sleep(0.001)

    with pytest.raises(SupersededError):
        work()
    beat = json.loads(folder.object(SlotRef(0, 0), "beat-1.json"))
    assert (beat["released"], beat["superseded"]) == (False, True)


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
