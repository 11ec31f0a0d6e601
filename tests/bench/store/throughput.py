"""Commits per second and their latency with 1, 4 and 16 processes, on files and on S3, beside Icechunk.

``make bench-store`` prints one JSON line a figure. Both sides start as many processes, which begin at one moment and
write one small blob a commit; runs alternate. S3 is SeaweedFS on loopback, started here. What a process was told has
landed is then looked for in the history, and objects that nothing names are counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import icechunk
import icechunk_writer  # type: ignore[import-not-found]  # beside this program
from figures import show  # type: ignore[import-not-found]  # beside this program

from evergraft.store import log
from evergraft.store.open import open_store
from evergraft.testing.graphs import start_graph
from evergraft.testing.orphans import orphans
from evergraft.testing.servers import s3_server

COMMITS = {1: 40, 4: 16, 16: 12}
"""Commits of each process, by their number."""

PEER = f"icechunk {icechunk.__version__}"


@dataclass
class Side:
    """What the runs of one side came to: one number a run."""

    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    orphans: list[float] = field(default_factory=list)
    operations: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """Where to write: a URL, and how Icechunk and child processes reach it."""

    url: str
    options: dict[str, str | None]
    environment: dict[str, str]


def main() -> None:
    """Measure every number of processes on both backends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--writers", type=int, nargs="+", default=list(COMMITS))
    parser.add_argument("--backends", nargs="+", default=["file", "s3"], choices=("file", "s3"))
    args = parser.parse_args()
    os.environ["ICECHUNK_LOG"] = "error"  # it warns of local files, which is just what is measured
    for backend in args.backends:
        with tempfile.TemporaryDirectory() as folder, _place(backend, Path(folder)) as place:
            for writers in args.writers:
                ours, theirs = Side(), Side()
                for _ in range(args.runs):
                    _ours(place, writers, ours)
                    _theirs(place, writers, theirs)
                _print(backend, writers, ours, theirs)


@contextmanager
def _place(backend: str, folder: Path) -> Iterator[Place]:
    if backend == "file":
        yield Place(url=str(folder), options={}, environment=dict(os.environ))
        return
    with s3_server(folder) as server:
        options = {"endpoint": server.endpoint, "key": server.key, "secret": server.secret}
        names = {"AWS_ENDPOINT_URL": "endpoint", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        os.environ.update({name: str(options[option]) for name, option in names.items()})
        yield Place(url=server.url, options=options, environment=dict(os.environ))


def _ours(place: Place, writers: int, side: Side) -> None:
    url = f"{place.url}/{uuid.uuid4().hex}"
    store = open_store(url)
    start_graph(store)
    flags = ["--wait", "--commits", str(COMMITS[writers])]
    commands = [[sys.executable, "-m", "evergraft.testing.storm", url, f"w{n}", *flags] for n in range(writers)]
    said = _race(commands, place.environment, side)
    standing = {(commit.version, commit.id) for commit, _ in log.read_commits(store)}
    side.lost.append(sum((line["version"], line["id"]) not in standing for line in said))
    side.orphans.append(len(orphans(store)))
    side.operations.append(sum(line["operations"] for line in said) / len(said))


def _theirs(place: Place, writers: int, side: Side) -> None:
    url = f"{place.url}/{uuid.uuid4().hex}"
    storage = icechunk_writer.storage(url, **{"endpoint": None, "key": None, "secret": None, **place.options})
    icechunk_writer.create(storage, chunks=writers * COMMITS[writers])
    program = str(Path(__file__).with_name("icechunk_writer.py"))
    flags = [f"--{name}={value}" for name, value in place.options.items()]
    commands = [
        [sys.executable, program, url, str(n), "--commits", str(COMMITS[writers]), *flags] for n in range(writers)
    ]
    said = _race(commands, place.environment, side)
    side.lost.append(len(said) - icechunk_writer.landed(storage))


def _race(commands: Sequence[Sequence[str]], environment: dict[str, str], side: Side) -> list[dict[str, Any]]:
    """Start all, let them go at once, and take their times; what they were told has landed."""
    pipe = subprocess.PIPE
    running = [subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True, env=environment) for line in commands]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate()[0] for process in running]
    assert not any(process.returncode for process in running)
    said = [json.loads(line) for output in outputs for line in output.splitlines()]
    seconds = sorted(line["ended"] - line["started"] for line in said)
    side.rate.append(len(said) / (max(line["ended"] for line in said) - min(line["started"] for line in said)))
    side.p50.append(seconds[len(seconds) // 2])
    side.p99.append(seconds[min(len(seconds) - 1, len(seconds) * 99 // 100)])
    return said


def _print(backend: str, writers: int, ours: Side, theirs: Side) -> None:
    hard = backend == "s3" and writers == 16
    where = f"with {writers} processes, {backend}" if writers > 1 else f"with one process, {backend}"
    rate, late = (4.0, 0.25) if hard else (None, None)
    show(f"commits per second {where}", "1/s", ours.rate, peer=PEER, peers=theirs.rate, at_least=rate)
    show(f"commit p50 {where}", "s", ours.p50, peer=PEER, peers=theirs.p50)
    show(f"commit p99 {where}", "s", ours.p99, peer=PEER, peers=theirs.p99, at_most=late)
    show(f"operations a commit {where}", "operations", ours.operations)
    show(f"acknowledged commits lost {where}", "commits", ours.lost, at_most=0)
    show(f"acknowledged commits lost {where}, {PEER}", "commits", theirs.lost)
    show(f"orphans {where}", "objects", ours.orphans, at_most=0)


if __name__ == "__main__":
    main()
