"""What one commit and one task's read cost in graphs of 10, 1,000 and 10,000 tasks: seconds, operations, bytes.

``make bench-store`` prints one JSON line a figure. Routes are synthetic: 30 layers each, as of a ViT with 24 blocks,
most shared with the parent. Sizes alternate, so that all see the same machine. Checkpoints are written once in 65
commits and counted apart, and so are whole reads. ``--tasks 10 100000`` goes as far as one has patience.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial

from figures import show  # type: ignore[import-not-found]  # beside this program

from evergraft import names
from evergraft.graph.commit import Action, AddModules, PutRoute
from evergraft.graph.state import Graph
from evergraft.names import RunKey
from evergraft.store import checkpoints, log
from evergraft.store.open import open_store
from evergraft.store.recording import Operation, RecordingStore
from evergraft.store.seam import Store
from evergraft.testing.graphs import closing, landing, root_of, route_on, start_graph

BLOCKS = 30
SIZES = (10, 1_000, 10_000)
FLAT = 1.3
COMMITS = 40
READS = 12
AT_ONCE = 1000

Cost = tuple[list[Operation], float]


def main() -> None:
    """Measure all sizes on both backends and print the figures, each beside the smallest graph's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=SIZES, metavar="N")
    sizes = sorted(parser.parse_args().tasks)
    with tempfile.TemporaryDirectory() as folder:
        for backend, url in (("memory", f"memory://{uuid.uuid4().hex}"), ("file", f"{folder}/graph")):
            stores = [open_store(f"{url}-{tasks}") for tasks in sizes]
            graphs = [_grow(store, tasks) for store, tasks in zip(stores, sizes, strict=True)]
            _commits(stores, graphs, sizes, backend)
            _tasks(stores, sizes, backend)
            if backend == "file":
                _apart(stores, sizes)


def _grow(store: Store, tasks: int) -> Graph:
    """A graph of so many tasks, in few large commits, with a checkpoint at its end."""
    graph = start_graph(store, blocks=BLOCKS)
    root = root_of(graph)
    for first in range(0, tasks, AT_ONCE):
        actions: list[Action] = []
        for number in range(first, min(first + AT_ONCE, tasks)):
            task = f"bench/{number:06d}"
            _, summary, new = route_on(root, task, blocks=BLOCKS)
            added = AddModules({module.id: module.num_bytes for module in new})
            actions += [added, PutRoute(summary), closing(task, RunKey(1, 1))]
        graph, _ = log.commit(store, graph, actions=tuple(actions), base=graph.version, author="bench", search=None)
    # Ends with a commit of the usual size, since whoever reads a checkpoint reads the commit that it is a fold of.
    last = landing(store, root, "bench/last")
    graph, _ = log.commit(store, graph, actions=last, base=graph.version, author="bench", search=None)
    store.delete(names.HINT)  # it tells of a version without a checkpoint, as no hint does that is a day old
    return checkpoints.write_checkpoint(store, graph)


def _cost(store: Store, act: Callable[[Store], object]) -> Cost:
    recording = RecordingStore(store)
    started = time.perf_counter()
    act(recording)
    return recording.operations, time.perf_counter() - started


def _commits(stores: Sequence[Store], graphs: list[Graph], sizes: Sequence[int], backend: str) -> None:
    """One task after another lands in each graph; what the odd checkpoint and hint cost is left out."""
    costs: list[list[Cost]] = [[] for _ in sizes]

    def land(side: int, task: str, store: Store) -> None:
        graph = graphs[side]
        actions = landing(store, root_of(graph), task)
        graphs[side], _ = log.commit(store, graph, actions=actions, base=graph.version, author="bench", search=None)

    for number in range(COMMITS):
        for side, store in enumerate(stores):
            cost = _cost(store, partial(land, side, f"new/{number:03d}"))
            if not any(operation.key.startswith(("checkpoints/", "hint")) for operation in cost[0]):
                costs[side].append(cost)
    _show("one commit", costs, sizes, backend, flat=True)


def _tasks(stores: Sequence[Store], sizes: Sequence[int], backend: str) -> None:
    reads = [[_cost(store, lambda seen: log.read_task(seen, "bench/000007")) for store in stores] for _ in range(READS)]
    _show("reading one task", list(zip(*reads, strict=True)), sizes, backend, flat=False)


def _apart(stores: Sequence[Store], sizes: Sequence[int]) -> None:
    """What is not part of a commit: the checkpoint of 65 commits, reading the whole graph."""
    _show("the commit that writes a checkpoint", [[_checkpoint(store)] for store in stores], sizes, "file", flat=False)
    _show("reading the whole graph", [[_cost(store, log.read_graph)] for store in stores], sizes, "file", flat=False)


def _checkpoint(store: Store) -> Cost:
    """Close runs until one writes a checkpoint; what that one cost."""
    graph = log.read_graph(store)
    before, number = graph.checkpoint, 0

    def close(seen: Store) -> None:
        nonlocal graph
        actions = (closing(f"bench/{number % 10:06d}", RunKey(2 + number, 1), outcome="kept"),)
        graph, _ = log.commit(seen, graph, actions=actions, base=graph.version, author="bench", search=None)

    cost: Cost = ([], 0.0)
    while graph.checkpoint == before:
        cost = _cost(store, close)
        number += 1
    return cost


def _show(what: str, costs: Sequence[Sequence[Cost]], sizes: Sequence[int], backend: str, *, flat: bool) -> None:
    """The figures of every size beside those of the smallest; a commit's time and operations have bars."""
    for side in range(1, len(sizes)):
        for unit, bar, measure in (
            ("s", FLAT, lambda cost: cost[1]),
            ("operations", 1.0, lambda cost: float(len(cost[0]))),
            ("objects written", 1.0, lambda cost: float(sum(part.name not in ("get", "list") for part in cost[0]))),
            ("bytes written", None, lambda cost: float(_bytes(cost[0], written=True))),
            ("bytes read", None, lambda cost: float(_bytes(cost[0], written=False))),
        ):
            values, peers = ([measure(cost) for cost in costs[position]] for position in (side, 0))
            show(
                f"{unit} of {what} at {sizes[side]} tasks, {backend}",
                unit,
                values,
                peer=f"at {sizes[0]} tasks",
                peers=peers,
                at_most=bar if flat else None,
            )


def _bytes(operations: Sequence[Operation], *, written: bool) -> int:
    return sum(part.size for part in operations if (part.name not in ("get", "list")) == written)


if __name__ == "__main__":
    main()
