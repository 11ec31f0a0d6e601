"""Real processes on one folder: nothing is lost, nothing lands twice, killed writers harm nobody."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evergraft.graph.commit import CloseSearch
from evergraft.store import log
from evergraft.store.open import open_store
from evergraft.store.verify import verify
from evergraft.testing.graphs import start_graph

WRITER = """
import sys
from evergraft.names import RunKey
from evergraft.store import log
from evergraft.store.open import open_store
from evergraft.testing.graphs import closing

url, writer, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = open_store(url)
graph = log.read_graph(store)
for number in range(count):
    actions = (closing(f"w/{writer}", RunKey(number + 1, 1), outcome="kept"),)
    graph, _ = log.commit(store, graph, actions=actions, base=graph.version, author=writer, search=None)
"""

RACER = """
import sys
from evergraft.errors import AlreadyCommittedError
from evergraft.store import log
from evergraft.store.open import open_store
from evergraft.testing.graphs import landing, root_of

store = open_store(sys.argv[1])
graph = log.read_graph(store)
actions = landing(store, root_of(graph), "a/one")
print("ready", flush=True)
sys.stdin.readline()
try:
    log.commit(store, graph, actions=actions, base=graph.version, author=sys.argv[2], search=None)
    print("landed")
except AlreadyCommittedError:
    print("already")
"""

WRITERS, COMMITS = 8, 25


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def closed_runs(url: str) -> list[tuple[str, int]]:
    commits = log.read_commits(open_store(url))
    actions = (action for commit, _ in commits for action in commit.actions)
    return [(action.task, action.run.iteration) for action in actions if isinstance(action, CloseSearch)]


def test_of_eight_writers_at_once_no_commit_is_lost(tmp_path: Path) -> None:
    url = str(tmp_path / "graph")
    start_graph(open_store(url))
    writers = [start(WRITER, url, str(n), str(COMMITS)) for n in range(WRITERS)]
    for writer in writers:
        writer.communicate(timeout=200)
    assert [writer.returncode for writer in writers] == [0] * WRITERS
    expected = {(f"w/{n}", number + 1) for n in range(WRITERS) for number in range(COMMITS)}
    found = closed_runs(url)
    assert len(found) == len(expected)
    assert set(found) == expected
    report = verify(open_store(url))
    assert report.findings == ()
    assert report.version == WRITERS * COMMITS
    assert list((tmp_path / "graph" / ".writing").iterdir()) == []


def test_of_six_that_land_the_same_run_one_does(tmp_path: Path) -> None:
    url = str(tmp_path / "graph")
    start_graph(open_store(url))
    racers = [start(RACER, url, str(n)) for n in range(6)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    said = [racer.communicate("go\n", timeout=60)[0].strip() for racer in racers]
    assert sorted(said) == ["already"] * 5 + ["landed"]
    assert closed_runs(url) == [("a/one", 1)]


@pytest.mark.parametrize("after_s", [0.15, 0.3])
def test_writers_killed_at_any_moment_leave_a_whole_graph(tmp_path: Path, after_s: float) -> None:
    url = str(tmp_path / "graph")
    start_graph(open_store(url))
    writers = [start(WRITER, url, str(n), "100000") for n in range(3)]
    log_folder = tmp_path / "graph" / "log"
    deadline = time.monotonic() + 60
    while len(list(log_folder.iterdir())) < 10 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(after_s)
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        writer.communicate(timeout=60)
    store = open_store(url)
    assert verify(store).findings == ()
    found = closed_runs(url)
    for name in {task for task, _ in found}:
        runs = [run for task, run in found if task == name]
        assert runs == list(range(1, len(runs) + 1))
    before = log.read_graph(store).version
    finisher = start(WRITER, url, "last", "3")
    finisher.communicate(timeout=60)
    assert log.read_graph(store).version == before + 3
