"""A committed route, read from a graph and put together: what prediction, verification and export start from.

Reads the route's own modules and nothing else of the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

from evergraft.errors import IntegrityError, UserError
from evergraft.graph.module import Module
from evergraft.graph.route import Route, RouteSummary
from evergraft.names import ROOT_TASK
from evergraft.store import blobs, log
from evergraft.store.cache import ModuleCache
from evergraft.store.seam import Store
from evergraft_trainer.data.preprocessing import Preprocessing
from evergraft_trainer.nn.assemble import RouteModel, load_route


@dataclass(frozen=True)
class Served:
    """A route with its network (frozen, eval mode), and where it was read."""

    summary: RouteSummary
    route: Route
    version: int
    modules: dict[str, Module]
    model: RouteModel
    preprocessing: Preprocessing


def serve(store: Store, task: str, *, version: int | None = None, cache: ModuleCache | None = None) -> Served:
    """The serving route of `task` at `version`, the newest by default.

    Raises:
        UserError: the graph has no route of this task then; the message names the tasks that have one.
        IntegrityError: stored bytes are damaged.
        StoreError: the store did not answer.
    """
    state, at = log.read_task(store, task, version=version)
    if state is None or state.route is None:
        tasks = log.read_graph(store, version=at).tasks()
        known = ", ".join(name for name, other in tasks if other.route and name != ROOT_TASK)
        raise UserError(f"{task}: no route at version {at} of {store.url}; it has: {known or 'none'}")
    return assemble(store, state.route, version=at, cache=cache)


def assemble(store: Store, summary: RouteSummary, *, version: int, cache: ModuleCache | None = None) -> Served:
    """The route of a summary, put together.

    Raises:
        IntegrityError: stored bytes are damaged, or the document does not fit its modules.
    """
    route = blobs.get_route(store, summary.id)
    wanted = [module for layer in route.layers for module, _ in layer.modules()]
    modules = blobs.get_modules(store, wanted, cache=cache)
    preprocessing = Preprocessing.from_json(route.preprocessing)
    model = load_route(route.layers, modules.__getitem__, image_size=preprocessing.image_size)
    _check_fits(route, model, preprocessing)
    return Served(summary, route, version, modules, model, preprocessing)


def _check_fits(route: Route, model: RouteModel, preprocessing: Preprocessing) -> None:
    """Refuse a document whose labels or channels are not its network's, before anything is answered with it."""
    classes = model.head.out_features if model.head is not None else 0
    if len(route.labels) != classes:
        raise IntegrityError(f"{route.task}: its route names {len(route.labels)} labels, its head has {classes}")
    if preprocessing.channels != model.channels:
        raise IntegrityError(
            f"{route.task}: its preprocessing gives {preprocessing.channels} channels, "
            f"its network reads {model.channels}"
        )
