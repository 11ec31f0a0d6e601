"""From a running route back to layers and modules: what a candidate came to, as it is stored and committed.

Shared layers keep their parents' ids; what was trained gets ids by its contents. Called at each validation that is
kept and by the import of roots.
"""

from __future__ import annotations

from dataclasses import replace

from evergraft.graph.module import Module
from evergraft.graph.route import Delta, Layer
from evergraft_trainer.nn import codec
from evergraft_trainer.nn.assemble import RouteModel
from evergraft_trainer.nn.kinds import DELTAS, LAYERS
from evergraft_trainer.nn.route_layer import RouteLayer


def extract(model: RouteModel) -> tuple[tuple[Layer, ...], dict[str, Module]]:
    """The route's layers, and the modules among them that its parent does not have, by id."""
    made: dict[str, Module] = {}
    layers = tuple(_extract(layer, made) for layer in model.route_layers())
    return layers, made


def layer_of(name: str, module: Module) -> Layer:
    """A layer without deltas that stands on `module`."""
    return Layer(
        name=name, kind=module.kind, module=module.id, parameters=LAYERS[module.kind].parameters(module.config)
    )


def _extract(layer: RouteLayer, made: dict[str, Module]) -> Layer:
    where = f"layer {layer.name!r}"
    if layer.source is None:
        module = codec.module(layer.kind, layer.config, layer.network, where=where)
        made[module.id] = module
        return layer_of(layer.name, module)
    if layer.folded is not None:
        made[layer.folded.id] = layer.folded
    new = []
    for delta in layer.new:
        module = codec.module(delta.kind, delta.config, layer.part(delta.kind), where=where, delta=True)
        made[module.id] = module
        new.append(Delta(kind=delta.kind, module=module.id, parameters=DELTAS[delta.kind].parameters(delta.config)))
    return replace(layer.source, deltas=(*layer.source.deltas, *new))
