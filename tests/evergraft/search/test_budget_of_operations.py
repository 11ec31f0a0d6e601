"""What a search costs in store operations: at most six writes a candidate, a commit the size of its change.

Beats and what is written at validations are counted apart, as are checkpoints. Counted over all that a search does,
for one worker and for several that share it.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from evergraft import names
from evergraft.graph.commit import AddModules
from evergraft.search.claims import Crew, Timing
from evergraft.search.engine import Outcome, run_search
from evergraft.search.events import Emit, silent
from evergraft.store import log
from evergraft.store.memory import MemoryStore
from evergraft.store.recording import Operation, RecordingStore
from evergraft.store.seam import Store
from evergraft.testing.arithmetic import ArithmeticTrainer, init_graph, make_request

GENERATIONS, CANDIDATES = 3, 6
MU2NET: dict[str, Any] = {
    "strategy": "mu2net",
    "samples": GENERATIONS * CANDIDATES * 8,
    "validations": 1,
    "parameters": {"generations": GENERATIONS, "candidates": CANDIDATES},
}
WRITES_A_CANDIDATE = 6
WRITES_A_COMMIT_BESIDE_MODULES = 4
READS_A_COMMIT = 6


@pytest.fixture
def store() -> MemoryStore:
    fresh = MemoryStore(uuid.uuid4().hex)
    init_graph(fresh)
    return fresh


def search(store: Store, *, emit: Emit = silent, **settings: Any) -> Outcome:
    outcome, _ = run_search(
        store,
        log.read_graph(store),
        request=make_request("a/one", **settings),
        make_trainer=ArithmeticTrainer,
        emit=emit,
        crew=Crew(worker=uuid.uuid4().hex, timing=Timing(first_poll_s=0.001, longest_poll_s=0.01)),
    )
    return outcome


def at_once(store: Store, count: int, **settings: Any) -> list[list[Operation]]:
    """What each of `count` workers did that began the first generation together."""
    stores = [RecordingStore(store) for _ in range(count)]
    start = threading.Barrier(count, timeout=60)

    def emit(name: str, fields: Mapping[str, Any]) -> None:
        if name == "generation" and fields["generation"] == 0:
            start.wait()

    workers = [threading.Thread(target=search, args=(store,), kwargs={"emit": emit, **settings}) for store in stores]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [recording.operations for recording in stores]


def writes_of_slots(operations: Sequence[Operation]) -> Iterator[tuple[str, str]]:
    """(place, name) of every write in a slot's folder, but beats and states: claims, weights, results."""
    for operation in operations:
        if operation.name in ("put", "put_if_absent") and operation.key.startswith(names.SEARCHES):
            place, _, name = operation.key.split("/", 2)[2].rpartition("/")
            if place not in ("", names.FINAL) and not name.startswith(("beat-", "state-")):
                yield place, name


def is_result(operation: Operation) -> bool:
    return operation.key.endswith("/result.json") and f"/{names.FINAL}/" not in operation.key


def of_commit(operations: Sequence[Operation]) -> list[Operation]:
    """What came after the closing document was written, checkpoints apart."""
    written = [
        i for i, one in enumerate(operations) if one.name == "put_if_absent" and one.key.endswith("final/result.json")
    ]
    return [one for one in operations[written[-1] + 1 :] if not one.key.startswith(names.CHECKPOINTS)]


def new_modules(store: Store) -> int:
    commits = [commit for commit, _ in log.read_commits(store, 1)]
    assert len(commits) == 1
    return sum(len(action.modules) for action in commits[0].actions if isinstance(action, AddModules))


@pytest.mark.parametrize("settings", [{}, {"strategy": "lora"}, MU2NET], ids=["finetune", "lora", "mu2net"])
def test_one_worker_stays_within_the_budget(store: MemoryStore, settings: dict[str, Any]) -> None:
    recording = RecordingStore(store)
    search(recording, **settings)
    candidates = GENERATIONS * CANDIDATES if settings is MU2NET else 1
    each = Counter(place for place, _ in writes_of_slots(recording.operations))
    assert len(each) == candidates
    assert max(each.values()) <= WRITES_A_CANDIDATE
    commit = of_commit(recording.operations)
    writes = [one for one in commit if one.name in ("put", "put_if_absent")]
    assert len(writes) <= new_modules(store) + WRITES_A_COMMIT_BESIDE_MODULES
    assert len(commit) - len(writes) <= READS_A_COMMIT
    assert not [one for one in recording.operations if one.name == "delete"]


def test_one_worker_lists_seldom_and_reads_only_parents_results(store: MemoryStore) -> None:
    recording = RecordingStore(store)
    search(recording, **MU2NET)
    names_of = Counter(operation.name for operation in recording.operations)
    assert names_of["list"] <= 2 * GENERATIONS + 2
    read = sum(one.name == "get" and is_result(one) for one in recording.operations)
    assert read <= GENERATIONS * CANDIDATES  # the parents of candidates alone


@pytest.mark.parametrize("count", [2, 4])
def test_workers_together_stay_within_the_budget(store: MemoryStore, count: int) -> None:
    """Claims that others were faster to make count too."""
    done = at_once(store, count, **MU2NET)
    everything = [operation for operations in done for operation in operations]
    candidates = GENERATIONS * CANDIDATES
    writes = list(writes_of_slots(everything))
    assert len({place for place, _ in writes}) == candidates
    assert len(writes) <= WRITES_A_CANDIDATE * candidates
    results = Counter(place for place, name in writes if name == "result.json")
    assert set(results.values()) == {1}
    for operations in done:
        own = sum(one.name == "put_if_absent" and is_result(one) for one in operations)
        read = sum(one.name == "get" and is_result(one) for one in operations)
        assert read <= candidates + own  # each of the others' once, and its candidates' parents


def test_the_end_is_uploaded_and_committed_once(store: MemoryStore) -> None:
    """A worker that saw another make the end leaves it to that one to upload what the winner needs."""
    done = at_once(store, 4, **MU2NET)
    uploads = Counter(one.key for operations in done for one in operations if one.name == "put_if_absent")
    assert {times for key, times in uploads.items() if key.startswith((names.MODULES, names.ROUTES))} == {1}
    assert uploads[names.log_key(1)] == 1
