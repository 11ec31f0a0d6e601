"""Small graphs in a store, from a few words: a root, and tasks that build on each other with real blobs.

Weights are a few bytes made from names, so a graph of thousands of tasks takes seconds. Called by tests and
benchmarks of the store, ours and anyone's.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from evergraft import canonical, names
from evergraft.graph.commit import Action, AddModules, CloseSearch, PutRoute
from evergraft.graph.module import Module, Tensor
from evergraft.graph.route import Layer, Route, RouteSummary
from evergraft.graph.state import Graph
from evergraft.names import RunKey
from evergraft.store import blobs, log
from evergraft.store.seam import Store

FLOPS = 1000


def tiny_module(*words: object, kind: str = "norm", elements: int = 4) -> Module:
    """A module of one float32 vector of `elements`, its bytes a function of `words`."""
    seed = canonical.digest([str(word) for word in words])
    data = b"".join(hashlib.sha256(f"{seed} {block}".encode()).digest() for block in range(elements // 8 + 1))
    return Module(
        kind=kind, config={"width": elements}, tensors={"weight": Tensor("F32", (elements,), data[: 4 * elements])}
    )


def route_on(
    parent: RouteSummary | None, task: str, *words: object, blocks: int = 3, visibility: str = "Public"
) -> tuple[Route, RouteSummary, tuple[Module, ...]]:
    """A route of `task` on `parent`: all its layers shared but a new last one; a root if there is no parent.

    Returns the document, its summary, and the new modules.
    """
    new = tuple(tiny_module(task, n, *words) for n in range(blocks if parent is None else 1))
    own = tuple(Layer(f"block.{blocks - len(new) + n:02d}", "norm", module.id, 4) for n, module in enumerate(new))
    shared = parent.layers[:-1] if parent else ()
    layers = (*shared, *(replace(layer, name=parent.layers[-1].name) if parent else layer for layer in own))
    route = Route(
        task=task,
        search="",
        parent=parent.id if parent else None,
        generation=0,
        slot=0,
        layers=layers,
        labels=("a", "b"),
        preprocessing={},
    )
    samples = 0 if parent is None else 100
    summary = RouteSummary(
        id=canonical.sha256(route.encode()),
        task=task,
        parent=route.parent,
        parent_task=parent.task if parent else None,
        layers=layers,
        parameters=4 * len(layers),
        added=4 * len(new),
        flops=FLOPS,
        quality=None if parent is None else 0.5,
        samples=samples,
        lineage_samples=samples + (parent.lineage_samples if parent else 0),
        depth=parent.depth + 1 if parent else 0,
        hyperparameters={"learningRate": 0.01},
        visibility=visibility,
    )
    return route, summary, new


def start_graph(store: Store, *, blocks: int = 3) -> Graph:
    """Start a graph in `store` from a root of `blocks` tiny layers."""
    route, summary, modules = route_on(None, names.ROOT_TASK, blocks=blocks)
    sizes = blobs.put_modules(store, modules)
    blobs.put_route(store, route)
    return log.init_graph(store, root=summary, modules=sizes, reference=(summary.parameters, FLOPS), author="test")


def root_of(graph: Graph) -> RouteSummary:
    """The root's route."""
    state = graph.task(names.ROOT_TASK)
    assert state is not None
    assert state.route is not None
    return state.route


def closing(
    task: str, run: RunKey, *, outcome: str = "committed", visibility: str = "Public", task_hash: str = "hash"
) -> CloseSearch:
    """The action that closes one run of `task`."""
    search = names.search_id(task, run)
    return CloseSearch(task=task, run=run, search=search, task_hash=task_hash, outcome=outcome, visibility=visibility)


def landing(
    store: Store, parent: RouteSummary, task: str, *, run: RunKey | None = None, visibility: str = "Public"
) -> tuple[Action, ...]:
    """Put the blobs of a new route of `task` on `parent`; the actions that land it."""
    run = run or RunKey(1, 1)
    route, summary, modules = route_on(parent, task, str(run), blocks=len(parent.layers), visibility=visibility)
    sizes = blobs.put_modules(store, modules)
    blobs.put_route(store, route)
    return (AddModules(sizes), PutRoute(summary), closing(task, run, visibility=visibility))


def land(
    store: Store,
    graph: Graph,
    task: str,
    *,
    parent: str = names.ROOT_TASK,
    run: RunKey | None = None,
    visibility: str = "Public",
) -> Graph:
    """Commit a new route of `task` on the route of `parent`."""
    state = graph.task(parent)
    assert state is not None
    assert state.route is not None
    actions = landing(store, state.route, task, run=run, visibility=visibility)
    after, _ = log.commit(store, graph, actions=actions, base=graph.version, author="test", search=None)
    return after
