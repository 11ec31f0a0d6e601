"""Where a candidate starts: a committed route or an earlier candidate, with its modules, labels and optimiser state.

Only the start's own modules are read. Called by the trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from evergraft import names
from evergraft.errors import IntegrityError, NotFoundError
from evergraft.graph.bundle import decode_bundle
from evergraft.graph.module import Module
from evergraft.graph.route import Layer, Route, count, reading
from evergraft.search.folder import Folder
from evergraft.search.values import CandidatePlan, SlotRef
from evergraft.store import blobs
from evergraft.store.cache import ModuleCache
from evergraft_trainer.data.preprocessing import Preprocessing
from evergraft_trainer.progress import Saved, read_weights


@dataclass(frozen=True)
class Parent:
    """A candidate's start.

    `head_labels` are those of the head that a clone of it copies. `fresh` are modules that no committed route has:
    they travel on with the candidate. `origin` is the slot whose random streams a continued candidate follows.
    """

    layers: tuple[Layer, ...]
    modules: Mapping[str, Module]
    fresh: frozenset[str]
    head_labels: tuple[str, ...]
    preprocessing: Preprocessing
    optimizer: tuple[Module, ...]
    origin: SlotRef | None

    def get(self, module_id: str) -> Module:
        """A module by id, for assembling; raises IntegrityError if the start does not have it."""
        if module_id not in self.modules:
            raise IntegrityError(f"module {module_id[:12]}… is not among those of the parent")
        return self.modules[module_id]


def read_parent(folder: Folder, plan: CandidatePlan, *, labels: tuple[str, ...], cache: ModuleCache | None) -> Parent:
    """The start of `plan`; `labels` are this task's.

    Raises:
        IntegrityError: stored bytes are damaged.
        StoreError: the store did not answer.
    """
    if isinstance(plan.start, SlotRef):
        parent = _candidate(folder, plan.start, plan.state, labels=labels, cache=cache)
    else:
        parent = _committed(folder, plan.start, cache=cache, carry=plan.optimizer == "carry")
    for item in plan.layers:
        if item.source is not None:
            parent = _with_source(folder, parent, name=item.name, route_id=item.source, cache=cache)
    return parent


def _committed(folder: Folder, route_id: str, *, cache: ModuleCache | None, carry: bool) -> Parent:
    route = blobs.get_route(folder.store, route_id)
    return Parent(
        layers=route.layers,
        modules=_modules(folder, route.layers, cache=cache),
        fresh=frozenset(),
        head_labels=route.labels,
        preprocessing=Preprocessing.from_json(route.preprocessing),
        optimizer=_optimizer(folder, route_id) if carry else (),
        origin=None,
    )


def _candidate(
    folder: Folder, ref: SlotRef, state: str, *, labels: tuple[str, ...], cache: ModuleCache | None
) -> Parent:
    result = folder.result(ref)
    if result is None:
        raise IntegrityError(f"searches/{folder.search}: candidate {ref.generation}-{ref.slot} has no result")
    with reading(folder.result_key(ref)):
        saved = Saved.from_json(result.weights[state])
        preprocessing = Preprocessing.from_json(result.preprocessing)
        origin = SlotRef(*map(count, result.metrics["origin"]))
    found = read_weights(folder, ref, saved)
    fresh = {key: module for key, module in found.items() if module.kind != "optimizer"}
    return Parent(
        layers=saved.layers,
        modules=fresh | _modules(folder, saved.layers, cache=cache, have=frozenset(fresh)),
        fresh=frozenset(fresh),
        head_labels=labels,
        preprocessing=preprocessing,
        optimizer=tuple(module for module in found.values() if module.kind == "optimizer"),
        origin=origin,
    )


def _with_source(folder: Folder, parent: Parent, *, name: str, route_id: str, cache: ModuleCache | None) -> Parent:
    """`parent` with the layer `name` taken from another route of this task, for a clone to copy."""
    route: Route = blobs.get_route(folder.store, route_id)
    layer = next(layer for layer in route.layers if layer.name == name)
    return replace(
        parent,
        layers=tuple(layer if other.name == name else other for other in parent.layers),
        modules={**parent.modules, **_modules(folder, (layer,), cache=cache)},
        head_labels=route.labels if layer.kind == "head" else parent.head_labels,
    )


def _modules(
    folder: Folder, layers: tuple[Layer, ...], *, cache: ModuleCache | None, have: frozenset[str] = frozenset()
) -> dict[str, Module]:
    wanted = [module for layer in layers for module, _ in layer.modules() if module not in have]
    return blobs.get_modules(folder.store, wanted, cache=cache)


def _optimizer(folder: Folder, route_id: str) -> tuple[Module, ...]:
    """The optimiser state kept with a route; it may have expired."""
    try:
        data = folder.store.get(names.optimizer_key(route_id))
    except NotFoundError:
        return ()
    return tuple(decode_bundle(data, where=f"optimiser state of route {route_id[:12]}…").values())
