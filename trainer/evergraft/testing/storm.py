"""One writer of a storm: `python -m evergraft.testing.storm URL WRITER --commits N` lands N routes, one after another.

Real blobs and the log's own commit; what is acknowledged is printed, one JSON line each, once it is known. With
``--wait`` it says "ready" and starts at a line from standard input, so that all start at once. ``--kill N`` ends it
with SIGKILL at its N-th store operation, ``--kill-call N`` before its N-th call to the file system. Called by tests
and benchmarks.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

from evergraft.errors import EvergraftError
from evergraft.graph.state import Graph
from evergraft.store import log
from evergraft.store.open import open_store
from evergraft.store.recording import RecordingStore
from evergraft.store.seam import Store
from evergraft.testing.graphs import landing, root_of
from evergraft.testing.worker import KillingStore

_CALLS = frozenset({"open", "os.link", "os.rename", "os.remove", "os.mkdir"})


def main() -> int:
    """Land the routes; the exit code of the error that stopped it, 0 if all landed."""
    args = _arguments()
    store: Store = RecordingStore(open_store(args.url))
    store = KillingStore(store, at=args.kill, landed=args.landed) if args.kill else store
    try:
        graph = log.read_graph(store)
        if args.wait:
            print("ready", flush=True)
            sys.stdin.readline()
        if args.kill_call:
            _kill_at_call(args.kill_call, below=args.url.removeprefix("file://"))
        for number in range(args.commits):
            graph = _land(store, graph, f"{args.writer}/{number:05d}", author=args.writer)
    except EvergraftError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _land(store: Store, graph: Graph, task: str, *, author: str) -> Graph:
    started = time.monotonic()
    actions = landing(store, root_of(graph), task)
    graph, commit = log.commit(store, graph, actions=actions, base=graph.version, author=author, search=None)
    ended = time.monotonic()
    said = {"task": task, "version": commit.version, "id": commit.id, "started": started, "ended": ended}
    if isinstance(store, RecordingStore):
        said["operations"] = len(store.operations)
        said["bytes"] = sum(operation.size for operation in store.operations)
        store.operations.clear()
    print(json.dumps(said), flush=True)
    return graph


def _kill_at_call(at: int, *, below: str) -> None:
    """End this process before its `at`-th call that opens, links, renames, removes or makes something below a folder.

    Python tells an audit hook of each such call, so no code of the store knows of this.
    """
    root, left = str(Path(below).absolute()), at

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in _CALLS and any(isinstance(part, str | os.PathLike) and root in str(part) for part in arguments):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A writer that lands synthetic routes, as one of many.")
    parser.add_argument("url", help="a graph; s3 and gs are reached as the environment says")
    parser.add_argument("writer", help="the first half of its tasks' names")
    parser.add_argument("--commits", type=int, default=1)
    parser.add_argument("--wait", action="store_true", help='say "ready", start at a line from standard input')
    parser.add_argument("--kill", type=int, default=0, metavar="N", help="die at the N-th store operation")
    parser.add_argument("--landed", action="store_true", help="with --kill: die once the operation took effect")
    parser.add_argument("--kill-call", type=int, default=0, metavar="N", help="die before the N-th file system call")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
