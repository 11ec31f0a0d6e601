"""More workers for a local run: processes of the same command, which join the same searches.

They need no coordination: each runs every task in the same order, and meets the others in the searches' folders. Their
events come back over a pipe. Called by ``evergraft run --workers``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from evergraft.search.events import Emit

FOLLOW_PARENT = "EVERGRAFT_FOLLOW_PARENT"
"""Set for processes that must end with the one that started them, to the number of its workers."""

WORKER_NUMBER = "EVERGRAFT_WORKER_NUMBER"
"""Which of a run's processes this is, counted from 0."""

END_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 30.0


@contextmanager
def extra_workers(
    count: int,
    files: Sequence[Path],
    *,
    graph_url: str,
    threads: int,
    device: str,
    passes: int,
    at_once: bool,
    emit: Emit,
) -> Iterator[None]:
    """`count` more processes of this run while the block runs; asked to stop at its end, and waited for.

    On cuda each gets the GPU of its number, this process keeping the first. With `at_once` each begins with the task
    of its number.
    """
    command = [sys.executable, "-m", "evergraft", "run", *map(str, files), "--graph", graph_url]
    command += ["--threads", str(threads), "--device", device, "--passes", str(passes), "--json"]
    command += ["--at-once"] if at_once else []
    with contextlib.ExitStack() as stack:
        for number in range(1, count + 1):
            stack.enter_context(_worker(command, number, emit, workers=count + 1))
        yield


@contextmanager
def _worker(command: Sequence[str], number: int, emit: Emit, *, workers: int) -> Iterator[None]:
    environment = {**os.environ, FOLLOW_PARENT: str(workers), WORKER_NUMBER: str(number)}
    if "cuda" in command:
        environment["CUDA_VISIBLE_DEVICES"] = str(number)
    process = subprocess.Popen(  # noqa: S603 - our own program and arguments, no shell
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )
    assert process.stderr is not None
    reader = threading.Thread(target=_relay, args=(process.stderr, number, emit), name=f"worker {number}", daemon=True)
    reader.start()
    patience_s = 0.0
    try:
        yield
        patience_s = END_TIMEOUT_S  # it is about to see by itself that everything is closed
    finally:
        _end(process, patience_s=patience_s)
        reader.join(timeout=5)


def _end(process: subprocess.Popen[bytes], *, patience_s: float) -> None:
    """Wait for a process, then ask it to stop, then insist."""
    steps = ((patience_s, process.terminate), (STOP_TIMEOUT_S, process.kill))
    for timeout_s, insist in steps:
        try:
            process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            insist()
    process.wait()


def _relay(stream: IO[bytes], number: int, emit: Emit) -> None:
    """Pass on another process's events; what is no event is passed on as a line."""
    for line in stream:
        try:
            fields = json.loads(line)
            name = str(fields.pop("event"))
        except (ValueError, KeyError, AttributeError, TypeError):
            emit("said", {"worker": number, "line": line.decode(errors="replace").rstrip()})
            continue
        if name not in ("search", "done", "data"):
            emit(name, {**fields, "worker": number})
