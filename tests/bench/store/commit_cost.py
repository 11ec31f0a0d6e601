"""What one commit costs in a graph of 100 tasks and of 10,000: bytes, store operations, seconds.

``make bench-store`` prints one JSON line a figure. Routes are synthetic: 30 layers each, as of a ViT with 24 blocks,
most shared with the parent. Checkpoints are written once in 64 commits and counted apart, and so are whole reads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from evergraft.graph.commit import Action, AddModules, PutRoute
from evergraft.graph.state import Graph
from evergraft.names import RunKey
from evergraft.store import checkpoints, log
from evergraft.store.open import open_store
from evergraft.store.recording import RecordingStore
from evergraft.store.seam import Store
from evergraft.testing.graphs import closing, landing, root_of, route_on, start_graph

BLOCKS = 30
SIZES = (100, 10_000)
BAR = 2.0
COMMITS = 40
AT_ONCE = 1000


def main() -> None:
    """Measure both sizes on both backends and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, nargs=2, default=SIZES, metavar=("FEW", "MANY"))
    few, many = parser.parse_args().tasks
    with tempfile.TemporaryDirectory() as folder:
        for backend, url in (("memory", f"memory://{uuid.uuid4().hex}"), ("file", f"{folder}/graph")):
            grown = [_grow(open_store(f"{url}-{tasks}"), tasks) for tasks in (few, many)]
            _commits(backend, grown, (few, many))
            if backend == "file":
                _apart(grown, (few, many))


def _grow(store: Store, tasks: int) -> tuple[Store, Graph]:
    """A graph of so many tasks, in few large commits, with a checkpoint at its end."""
    graph = start_graph(store, blocks=BLOCKS)
    root = root_of(graph)
    for first in range(0, tasks, AT_ONCE):
        actions: list[Action] = []
        for number in range(first, min(first + AT_ONCE, tasks)):
            task = f"bench/{number:05d}"
            _, summary, new = route_on(root, task, blocks=BLOCKS)
            added = AddModules({module.id: module.num_bytes for module in new})
            actions += [added, PutRoute(summary), closing(task, RunKey(1, 1))]
        graph, _ = log.commit(store, graph, actions=tuple(actions), base=graph.version, author="bench", search=None)
    return store, checkpoints.write_checkpoint(store, graph)


def _commits(backend: str, grown: Sequence[tuple[Store, Graph]], sizes: tuple[int, int]) -> None:
    """One task after another lands in each graph, alternating, so that both see the same machine."""
    seconds: list[list[float]] = [[], []]
    written: list[list[int]] = [[], []]
    read: list[list[int]] = [[], []]
    operations: list[list[int]] = [[], []]
    graphs = [graph for _, graph in grown]
    for number in range(COMMITS):
        for side in (0, 1):
            store = RecordingStore(grown[side][0])
            started = time.perf_counter()
            actions = landing(store, root_of(graphs[side]), f"new/{number}")
            graphs[side], _ = log.commit(
                store, graphs[side], actions=actions, base=graphs[side].version, author="bench", search=None
            )
            seconds[side].append(time.perf_counter() - started)
            written[side].append(sum(operation.size for operation in store.writes))
            read[side].append(sum(operation.size for operation in store.reads))
            operations[side].append(len(store.operations))
    for name, unit, values in (
        ("bytes written by one commit", "bytes", written),
        ("bytes read by one commit", "bytes", read),
        ("store operations of one commit", "operations", operations),
        ("seconds of one commit", "s", seconds),
    ):
        _print(f"{name} at {sizes[1]} tasks, {backend}", unit, values[1], peer=f"at {sizes[0]} tasks", peers=values[0])


def _apart(grown: Sequence[tuple[Store, Graph]], sizes: tuple[int, int]) -> None:
    """What is not part of a commit: a checkpoint of 65 commits, finding one task, reading the whole graph."""
    for name, act in (
        ("the checkpoint of 65 commits", _checkpoint),
        ("finding one task", _find),
        ("reading the whole graph", _whole),
    ):
        sides = [act(store) for store, _ in grown]
        for unit, position in (("bytes", 0), ("operations", 1), ("s", 2)):
            figure = f"{unit} of {name} at {sizes[1]} tasks, file"
            _print(
                figure, unit, [sides[1][position]], peer=f"at {sizes[0]} tasks", peers=[sides[0][position]], bar=None
            )


def _checkpoint(store: Store) -> tuple[float, float, float]:
    """Close runs of as many tasks as it takes; what the commit that writes the checkpoint does beyond its own."""
    graph = log.read_graph(store)
    before, number = graph.checkpoint, 0
    while graph.checkpoint == before:
        recording = RecordingStore(store)
        started = time.perf_counter()
        actions = (closing(f"bench/{number:05d}", RunKey(2, 1), outcome="kept"),)
        graph, _ = log.commit(recording, graph, actions=actions, base=graph.version, author="bench", search=None)
        number += 1
    ended = time.perf_counter()
    parts = [operation for operation in recording.operations if operation.key.startswith("checkpoints/")]
    return sum(part.size for part in parts), len(parts), ended - started


def _find(store: Store) -> tuple[float, float, float]:
    with _measured(store) as (recording, result):
        log.read_task(recording, "bench/00007")
    return result()


def _whole(store: Store) -> tuple[float, float, float]:
    with _measured(store) as (recording, result):
        log.read_graph(recording)
    return result()


@contextmanager
def _measured(store: Store) -> Iterator[tuple[RecordingStore, Callable[[], tuple[float, float, float]]]]:
    recording = RecordingStore(store)
    started = time.perf_counter()
    ended = started

    def result() -> tuple[float, float, float]:
        return sum(operation.size for operation in recording.operations), len(recording.operations), ended - started

    yield recording, result
    ended = time.perf_counter()


def _print(
    figure: str, unit: str, values: Sequence[float], *, peer: str, peers: Sequence[float], bar: float | None = BAR
) -> None:
    value, other = statistics.median(values), statistics.median(peers)
    ratio = 1.0 if value == other else value / max(other, 1e-9)
    line: dict[str, object] = {"figure": figure, "value": round(value, 6), "unit": unit}
    line |= {"peer": peer, "peer_value": round(other, 6), "ratio": round(ratio, 3)}
    if bar is not None:
        line |= {"bar": f"ratio <= {bar:g}", "holds": ratio <= bar}
    line |= {"runs": len(values), "spread": [round(min(values), 6), round(max(values), 6)]}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
