"""Real worker processes, killed, stopped and delayed: one commit, and the winner of an undisturbed worker.

The workers train with arithmetic (the program is ``evergraft.testing.worker``), so a process lives a fraction of a
second and every store operation of a search can be the last. `EVERGRAFT_TEST_LONG` enumerates all of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evergraft.store import log
from evergraft.store.files import FileStore
from evergraft.store.verify import verify
from evergraft.testing.arithmetic import init_graph

pytestmark = pytest.mark.slow

MU2NET = {"strategy": "mu2net", "samples": 2 * 3 * 16, "parameters": {"generations": 2, "candidates": 3}}
STEP = 1 if os.environ.get("EVERGRAFT_TEST_LONG") else 4
"""Every operation, or every fourth."""


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    init_graph(FileStore(tmp_path / "graph"))
    return tmp_path / "graph"


def start(graph: Path, *flags: object, search: Mapping[str, Any] = MU2NET) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "evergraft.testing.worker", str(graph), "a/one", "--search", json.dumps(search)]
    return subprocess.Popen([*command, *map(str, flags)], stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    said: dict[str, Any] = json.loads(out)
    return said


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one worker that nobody disturbs comes to."""
    folder = tmp_path_factory.mktemp("calm") / "graph"
    init_graph(FileStore(folder))
    return finish(start(folder))


def holds(graph: Path, expected: dict[str, Any]) -> None:
    """One commit, whole, with the expected winner."""
    store = FileStore(graph)
    head = log.read_graph(store)
    assert head.version == 1
    state = head.task("a/one")
    assert state is not None
    assert state.route is not None
    assert list(state.route.module_ids()) == expected["modules"]
    assert verify(store).holds


@pytest.mark.parametrize("landed", [False, True], ids=["before", "after"])
def test_killed_at_any_operation_the_next_worker_ends_the_same(
    tmp_path: Path, undisturbed: dict[str, Any], landed: bool
) -> None:
    number = 1
    while True:
        graph = tmp_path / f"graph-{number}"
        init_graph(FileStore(graph))
        killed = start(graph, "--kill", number, *(["--landed"] if landed else []))
        killed.communicate(timeout=60)
        if killed.returncode == 0:
            break  # it came to its end before
        assert killed.returncode == -signal.SIGKILL
        finish(start(graph))
        holds(graph, undisturbed)
        number += STEP
    assert number > 40


def test_workers_share_the_slots_and_train_none_twice(graph: Path, undisturbed: dict[str, Any]) -> None:
    workers = [start(graph, "--slow", 0.2) for _ in range(3)]
    said = [finish(worker) for worker in workers]
    trained = [tuple(slot) for worker in said for slot in worker["trained"]]
    assert sorted(trained) == sorted(map(tuple, undisturbed["trained"]))
    assert sum(bool(worker["trained"]) for worker in said) >= 2
    assert {tuple(worker["modules"]) for worker in said} == {tuple(undisturbed["modules"])}
    holds(graph, undisturbed)


def test_a_worker_stopped_for_longer_than_a_lease_changes_nothing(graph: Path, undisturbed: dict[str, Any]) -> None:
    lease = ("--beat", 0.1, "--dead", 0.4)
    sleeper = start(graph, "--slow", 0.3, *lease)
    wait_for(lambda: list(graph.glob("searches/*/0000-*/claim-1.json")))
    sleeper.send_signal(signal.SIGSTOP)
    try:
        finish(start(graph, *lease))
    finally:
        sleeper.send_signal(signal.SIGCONT)
    assert finish(sleeper)["modules"] == undisturbed["modules"]
    holds(graph, undisturbed)


def test_a_clock_that_is_hours_wrong_changes_nothing(graph: Path, undisturbed: dict[str, Any]) -> None:
    lease = ("--slow", 0.1, "--beat", 0.1, "--dead", 5)
    workers = [start(graph, "--clock", hours, *lease) for hours in (-7, 0, 31)]
    said = [finish(worker) for worker in workers]
    trained = [tuple(slot) for worker in said for slot in worker["trained"]]
    assert sorted(trained) == sorted(map(tuple, undisturbed["trained"]))
    holds(graph, undisturbed)


def test_all_workers_killed_then_started_again(graph: Path, undisturbed: dict[str, Any]) -> None:
    workers = [start(graph, "--slow", 0.3) for _ in range(2)]
    wait_for(lambda: list(graph.glob("searches/*/0000-*/result.json")))
    for worker in workers:
        worker.kill()
        worker.communicate()
    kept = {path.parent.name for path in graph.glob("searches/*/*/result.json")}
    again = [finish(start(graph)), finish(start(graph))]
    trained = {f"{g:04d}-{s:04d}" for worker in again for g, s in worker["trained"]}
    assert not trained & kept
    holds(graph, undisturbed)


def test_a_worker_joins_late(graph: Path, undisturbed: dict[str, Any]) -> None:
    first = start(graph, "--slow", 0.3)
    wait_for(lambda: list(graph.glob("searches/*/0000-*/result.json")))
    late = start(graph, "--slow", 0.1)
    assert finish(first)["modules"] == finish(late)["modules"] == undisturbed["modules"]
    holds(graph, undisturbed)


def test_three_deaths_without_progress_fail_the_candidate(graph: Path) -> None:
    """The worker dies right after it has claimed the one slot, three times; the fourth says that it failed."""
    one_slot = {"strategy": "finetune"}
    for number in range(1, 4):
        worker = start(graph, "--slow", 30, search=one_slot)
        wait_for(lambda number=number: list(graph.glob(f"searches/*/0000-0000/claim-{number}.json")))
        worker.kill()
        worker.communicate()
    said = finish(start(graph, search=one_slot))
    assert (said["outcome"], said["trained"]) == ("failed", [])
    head = log.read_graph(FileStore(graph))
    state = head.task("a/one")
    assert state is not None
    assert (state.outcome, state.route) == ("failed", None)


def test_a_store_that_goes_away_for_a_while_costs_no_more_than_a_restart(
    graph: Path, undisturbed: dict[str, Any]
) -> None:
    """The folder is taken away while a worker trains. It ends with 75 (temporary), and the next one goes on."""
    worker = start(graph, "--slow", 0.5)
    wait_for(lambda: list(graph.glob("searches/*/0000-*/claim-1.json")))
    graph.rename(graph.with_name("away"))
    graph.write_text("nothing can be made below a file")
    worker.communicate(timeout=60)
    assert worker.returncode == 75
    graph.unlink()
    graph.with_name("away").rename(graph)
    finish(start(graph))
    holds(graph, undisturbed)


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)
