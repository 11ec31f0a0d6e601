"""Where a route comes from: its parents up to the root, and for each layer how it came and by whom.

Read from route documents, which stay for ever. Called by ``graph lineage`` and by verify's readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evergraft.errors import IntegrityError
from evergraft.graph.route import HEAD, Layer, Route
from evergraft.store import blobs
from evergraft.store.seam import Store

MAX_DEPTH = 10_000


@dataclass(frozen=True)
class LayerOrigin:
    """One layer of one route: `how` is shared, cloned, new or delta; `by` the task that made what it reads."""

    layer: Layer
    how: str
    by: str


@dataclass(frozen=True)
class Step:
    """One route of a lineage, newest first; the last is the root."""

    id: str
    route: Route
    origins: tuple[LayerOrigin, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "task": self.route.task,
            "route": self.id,
            "quality": self.route.metrics.get("quality"),
            "samples": self.route.samples_seen,
            "layers": [{**item.layer.to_json(), "how": item.how, "by": item.by} for item in self.origins],
        }


def read_lineage(store: Store, route_id: str) -> tuple[Step, ...]:
    """The route and its ancestors, newest first.

    Raises:
        IntegrityError: a route document is damaged or missing, or the parents run in a circle.
    """
    chain: list[tuple[str, Route]] = []
    next_id: str | None = route_id
    while next_id is not None:
        if len(chain) > MAX_DEPTH or any(next_id == known for known, _ in chain):
            raise IntegrityError(f"route {route_id[:12]}…: its parents run in a circle at {next_id[:12]}…")
        route = blobs.get_route(store, next_id)
        chain.append((next_id, route))
        next_id = route.parent
    return tuple(trace(chain))


def trace(chain: Sequence[tuple[str, Route]]) -> list[Step]:
    """Say of every layer of every route how it came and by whom; `chain` runs from the newest to the root.

    A head is cloned from the nearest ancestor of its own task only; on other tasks' routes it is new.
    """
    steps: list[Step] = []
    makers: dict[str, str] = {}
    above: dict[str, Layer] = {}
    heads: dict[str, Layer] = {}
    for route_id, route in reversed(chain):
        for layer in route.layers:
            for module, _ in layer.modules():
                makers.setdefault(module, route.task)
        origins = []
        for layer in route.layers:
            parent = heads.get(route.task) if layer.kind == HEAD else above.get(layer.name)
            origins.append(LayerOrigin(layer=layer, how=_how(layer, parent), by=makers[_newest(layer)]))
        steps.append(Step(id=route_id, route=route, origins=tuple(origins)))
        above = {layer.name: layer for layer in route.layers}
        heads.update((route.task, layer) for layer in route.layers if layer.kind == HEAD)
    return steps[::-1]


def _newest(layer: Layer) -> str:
    return layer.deltas[-1].module if layer.deltas else layer.module


def _how(layer: Layer, parent: Layer | None) -> str:
    if parent is None:
        return "new"
    if layer == parent:
        return "shared"
    return "delta" if layer.module == parent.module or len(layer.deltas) > 0 else "cloned"
