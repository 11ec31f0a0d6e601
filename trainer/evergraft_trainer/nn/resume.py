"""From stored modules back into a candidate that is being trained: the inverse of ``extract`` for what trains.

Called by the trainer when a candidate goes on from a saved state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from evergraft.errors import IntegrityError
from evergraft.graph.module import Module
from evergraft.graph.route import Layer
from evergraft_trainer.nn.assemble import RouteModel
from evergraft_trainer.nn.codec import to_torch
from evergraft_trainer.nn.route_layer import RouteLayer


def restore(model: RouteModel, layers: Sequence[Layer], modules: Mapping[str, Module]) -> None:
    """Put back what `extract` wrote of this very candidate: every trained tensor, running statistics included.

    Raises:
        IntegrityError: the saved state is of another candidate, or lacks a module.
    """
    saved = {layer.name: layer for layer in layers}
    if set(saved) != set(model.names):
        raise IntegrityError("the saved state has other layers than this candidate")
    state: dict[str, Tensor] = {}
    for layer in model.route_layers():
        if layer.trains:
            for name, tensor in _tensors(layer, saved[layer.name], modules):
                state[f"{layer.name}/{name}"] = tensor
    model.restore(state)


def _tensors(layer: RouteLayer, saved: Layer, modules: Mapping[str, Module]) -> Iterator[tuple[str, Tensor]]:
    where = f"saved state of layer {layer.name!r}"
    if layer.whole:
        for name, value in _module(modules, saved.module, where=where).tensors.items():
            yield name, to_torch(value, where=where)
    newest = {delta.kind: delta.module for delta in saved.deltas}
    for delta in layer.new:
        prefix = {"lora": "lora/", "adapter": f"adapters.{len(layer.config.get('adapters', ())) - 1}."}
        if delta.kind not in newest:
            raise IntegrityError(f"{where}: it has no {delta.kind} delta")
        for name, value in _module(modules, newest[delta.kind], where=where).tensors.items():
            yield prefix.get(delta.kind, "") + name, to_torch(value, where=where)


def _module(modules: Mapping[str, Module], module_id: str, *, where: str) -> Module:
    if module_id not in modules:
        raise IntegrityError(f"{where}: module {module_id[:12]}… is missing")
    return modules[module_id]
