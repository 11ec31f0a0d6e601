"""Storms: many real processes commit routes at once, and are killed; nothing acknowledged is lost, nothing breaks.

The processes are ``evergraft.testing.storm``: real blobs, the log's own commit. `EVERGRAFT_TEST_LONG` runs all 10,000
commits and every point of dying; without it 1,008 and every third.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from evergraft.graph.state import Graph, apply
from evergraft.store import log
from evergraft.store.checkpoints import list_checkpoints
from evergraft.store.open import open_store
from evergraft.store.options import StoreOptions
from evergraft.store.seam import Store
from evergraft.store.verify import verify
from evergraft.testing.graphs import start_graph
from evergraft.testing.invariants import check_invariants
from evergraft.testing.orphans import orphans

LONG = bool(os.environ.get("EVERGRAFT_TEST_LONG"))
WRITERS = 16
COMMITS = 625 if LONG else 63
STEP = 1 if LONG else 3
KILLED = 12 if LONG else 4

Said = dict[str, Any]


def start(url: str, writer: str, *flags: object, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "evergraft.testing.storm", url, writer, *map(str, flags)]
    environment = {**os.environ, **(environment or {})}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def storm(url: str, commits: int, *, writers: int, environment: Mapping[str, str] | None = None) -> list[Said]:
    """Let writers loose at the same moment; what all of them were told has landed."""
    running = [start(url, f"w{n:02d}", "--commits", commits, "--wait", environment=environment) for n in range(writers)]
    for writer in running:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in running:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    said = [acknowledged(writer) for writer in running]
    assert [writer.returncode for writer in running] == [0] * writers
    return [line for lines in said for line in lines]


def acknowledged(writer: subprocess.Popen[str]) -> list[Said]:
    """What a writer said to its end; a last line that its death cut short was not said."""
    out, _ = writer.communicate()
    return [json.loads(line) for line in out.splitlines(keepends=True) if line.endswith("\n") and line != "ready\n"]


def holds(store: Store, said: Sequence[Said], *, landed: int | None = None) -> Graph:
    """The graph is whole, and all that was said to have landed did, once; with `landed` nothing else did."""
    assert check_invariants(store, [(line["version"], line["id"]) for line in said]) == []
    graph = log.read_graph(store)
    tasks = [task for task, state in graph.tasks() if task != "root" and state.route is not None]
    assert {line["task"] for line in said} <= set(tasks)
    assert len({line["version"] for line in said}) == len(said)
    if landed is not None:
        assert len(tasks) == graph.version == len(said) == landed
    return graph


def checkpoints_agree(store: Store, graph: Graph) -> None:
    """Hint and checkpoints are not ahead nor far behind, and the log folded from its start says the same."""
    folded = Graph()
    for commit, digest in log.read_commits(store):
        folded = apply(folded, commit, digest=digest)
    assert folded == graph
    hint = json.loads(store.get("hint.json"))
    assert hint["checkpoint"] <= hint["version"] <= graph.version
    assert hint["version"] - hint["checkpoint"] <= 2 * 65
    assert list_checkpoints(store) == list(range(64, graph.version + 1, 65))[::-1]


@pytest.mark.slow
@pytest.mark.timeout(1800 if LONG else 300)
def test_of_a_storm_on_files_every_commit_stands_once(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/graph"
    store = open_store(url)
    start_graph(store)
    said = storm(url, COMMITS, writers=WRITERS)
    graph = holds(store, said, landed=WRITERS * COMMITS)
    checkpoints_agree(store, graph)
    assert orphans(store) == []
    assert list((tmp_path / "graph" / ".writing").iterdir()) == []
    assert verify(store).findings == ()


@pytest.fixture(params=["gs", "s3"])
def bucket(request: pytest.FixtureRequest) -> tuple[str, StoreOptions, dict[str, str]]:
    """A fresh root in a real service: its URL, options for this process, the environment for others."""
    if request.param == "gs":
        server = request.getfixturevalue("gcs_server")
        url, environment = server.url, {"STORAGE_EMULATOR_HOST": server.endpoint}
    else:
        server = request.getfixturevalue("s3_server")
        keys = {"AWS_ACCESS_KEY_ID": server.key, "AWS_SECRET_ACCESS_KEY": server.secret}
        url, environment = server.url, {**keys, "AWS_ENDPOINT_URL": server.endpoint}
    options = StoreOptions(endpoint=server.endpoint, key=server.key, secret=server.secret)
    return f"{url}/{uuid.uuid4().hex}", options, environment


@pytest.mark.slow
@pytest.mark.server
def test_of_a_storm_on_a_bucket_every_commit_stands_once(bucket: tuple[str, StoreOptions, dict[str, str]]) -> None:
    url, options, environment = bucket
    store = open_store(url, options)
    start_graph(store)
    writers, commits = (16, 40) if LONG else (8, 10)
    graph = holds(store, storm(url, commits, writers=writers, environment=environment), landed=writers * commits)
    checkpoints_agree(store, graph)
    assert orphans(store) == []


@pytest.mark.slow
def test_writers_killed_at_random_moments_of_a_storm_leave_a_whole_graph(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/graph"
    store = open_store(url)
    start_graph(store)
    chance = random.Random(7)
    running = [start(url, f"w{n:02d}", "--commits", 100_000) for n in range(KILLED)]
    while len(list((tmp_path / "graph" / "log").iterdir())) < 20:
        time.sleep(0.02)
    for writer in running:
        time.sleep(chance.uniform(0.0, 0.4))
        writer.send_signal(signal.SIGKILL)
    said = [line for writer in running for line in acknowledged(writer)]
    assert len(said) >= 20 - KILLED
    holds(store, said)
    next_one_lands_at_once(url, store)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--kill",), ("--landed", "--kill"), ("--kill-call",)], ids="-".join)
def test_a_writer_killed_at_each_operation_in_turn_leaves_a_whole_graph(tmp_path: Path, flags: Sequence[str]) -> None:
    """Before each operation of the store, after it, and before each call that it makes to the file system."""
    url = f"file://{tmp_path}/graph"
    store = open_store(url)
    start_graph(store)
    said: list[Said] = []
    last, at = -signal.SIGKILL, 1
    while last == -signal.SIGKILL:
        writer = start(url, f"{flags[0].strip('-')}-{at}", *flags, at, "--commits", 2)
        said += acknowledged(writer)
        last, at = writer.returncode, at + STEP
        holds(store, said)
    assert last == 0, "once the point lies beyond its end, a writer finishes"
    assert at > 12, "there are as many operations as two commits need"
    next_one_lands_at_once(url, store)


def next_one_lands_at_once(url: str, store: Store) -> None:
    before = log.read_graph(store).version
    started = time.monotonic()
    writer = start(url, "later", "--commits", 3)
    said = acknowledged(writer)
    assert time.monotonic() - started < 20.0
    assert [line["version"] for line in said] == [before + 1, before + 2, before + 3]
    holds(store, said)
