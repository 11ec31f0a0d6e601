"""Merging deltas into a layer's weights, and folding the oldest ones of a layer into a new module.

A LoRA's change is added one rank at a time with single multiplications and additions, which round alike on every
machine: merged weights are the same bits everywhere, at any number of threads, whether merged when loading or folded
into a stored module. Called by ``assemble`` and ``candidate``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from evergraft.errors import IntegrityError
from evergraft.graph.module import Module
from evergraft.graph.route import Delta, Layer
from evergraft_trainer.nn import codec
from evergraft_trainer.nn.adapter import Adapter
from evergraft_trainer.nn.deltas import NAMES
from evergraft_trainer.nn.kind import Config
from evergraft_trainer.nn.layers import LAYERS
from evergraft_trainer.nn.lora import Lora
from evergraft_trainer.nn.vit import EncoderBlock

Get = Callable[[str], Module]
"""Fetches a stored module by its id; whoever gives it has checked the id against the contents."""

MAX_DELTAS = 32
"""The most deltas a layer carries; before it would have more, the inherited ones are folded.

More of them make a route longer to read, fewer store a whole layer anew more often: at rank 16 on a layer of width 96,
a folded layer is as large as five deltas."""

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Merged:
    """A layer ready to run: the network with its deltas merged, its config, and the LoRA that runs beside it."""

    network: nn.Module
    config: Config
    lora: Module | None


def newest_lora(deltas: Sequence[Delta]) -> int | None:
    """The place of the one LoRA that runs unmerged: a layer's last."""
    return max((place for place, delta in enumerate(deltas) if delta.kind == "lora"), default=None)


def load_layer(layer: Layer, get: Get, *, merge_all: bool = False) -> Merged:
    """Build a layer of a route: its module with deltas merged oldest first, but for its newest LoRA.

    Which one that is follows from the layer alone, so every route that shares the layer computes the same bits.
    With `merge_all` that one is merged too (a clone, or a new LoRA about to run in its place).

    Raises:
        IntegrityError: a module does not fit its kind, its config or the layer; the message names the layer.
    """
    where = f"layer {layer.name!r}"
    stored = _fetch(get, layer.module, kind=layer.kind, where=where)
    network, config = codec.network(stored, where=where), stored.config
    beside = None if merge_all else newest_lora(layer.deltas)
    for place, delta in enumerate(layer.deltas):
        if place != beside:
            found = _fetch(get, delta.module, kind=delta.kind, where=where)
            config = merge(network, layer.kind, config, found, where=where)
    if beside is None:
        return Merged(network=network, config=config, lora=None)
    lora = _fetch(get, layer.deltas[beside].module, kind="lora", where=where)
    check_lora(layer.kind, config, lora, where=where)
    return Merged(network=network, config=config, lora=lora)


def merge(network: nn.Module, kind: str, config: Config, delta: Module, *, where: str) -> Config:
    """Merge one delta into `network` in place; the config of the result (an adapter changes it).

    Raises:
        IntegrityError: the delta does not fit the layer.
    """
    change = codec.network(delta, where=f"{where}: delta {delta.kind}", delta=True)
    with torch.no_grad():
        if isinstance(change, Lora):
            check_lora(kind, config, delta, where=where)
            _merge_lora(network, change)
        elif isinstance(change, Adapter):
            return add_adapter(network, config, change, where=where)
        else:
            _replace(network, change, where=f"{where}: delta {delta.kind}")
    return config


def add_adapter(network: nn.Module, config: Config, adapter: Adapter, *, where: str) -> Config:
    """Put an adapter before a block, after those already there; the block's new config.

    Raises:
        IntegrityError: the layer is no encoder block of the adapter's features.
    """
    features = adapter.down.in_features
    if not isinstance(network, EncoderBlock) or config["width"] != features:
        raise IntegrityError(f"{where}: an adapter of {features} features fits only an encoder_block of that width")
    network.adapters.append(adapter)
    grown = {**config, "adapters": [*config.get("adapters", []), adapter.down.out_features]}
    LAYERS["encoder_block"].check(grown)
    return grown


def check_lora(kind: str, config: Config, delta: Module, *, where: str) -> None:
    """Check that a LoRA fits a layer.

    Raises:
        IntegrityError: it does not.
    """
    same = kind == "encoder_block" and all(delta.config.get(name) == config[name] for name in ("width", "mlp"))
    if not same:
        raise IntegrityError(f"{where}: a lora of {dict(delta.config)} does not fit {kind} of {dict(config)}")


def fold_oldest(layer: Layer, get: Get, *, keep: int) -> tuple[Layer, Module]:
    """Fold all but the newest `keep` deltas of a layer into a new module: (the layer on it, the module).

    The layer computes the same bits as before, provided that the LoRA which runs unmerged is among those kept, or
    that a newer one is about to join.
    """
    count = len(layer.deltas) - keep
    merged = load_layer(replace(layer, deltas=layer.deltas[:count]), get, merge_all=True)
    module = codec.module(layer.kind, merged.config, merged.network, where=f"layer {layer.name!r}")
    return replace(
        layer,
        module=module.id,
        parameters=sum(parameter.numel() for parameter in merged.network.parameters()),
        deltas=layer.deltas[count:],
    ), module


def without_replaced(layer: Layer, new: Sequence[str]) -> Layer:
    """The layer without inherited deltas whose values new ones of the same kind, started from them, replace whole."""
    gone = {kind for kind in new if kind in NAMES}
    return replace(layer, deltas=tuple(delta for delta in layer.deltas if delta.kind not in gone))


def fold_for(layer: Layer, get: Get, *, new: Sequence[str]) -> tuple[Layer, Module | None]:
    """Fold what a layer inherited if deltas of the kinds `new` would bring it over MAX_DELTAS."""
    if len(without_replaced(layer, new).deltas) + len(new) <= MAX_DELTAS:
        return layer, None
    beside = None if "lora" in new else newest_lora(layer.deltas)
    keep = 0 if beside is None else len(layer.deltas) - beside
    return fold_oldest(layer, get, keep=keep) if keep < len(layer.deltas) else (layer, None)


def _merge_lora(network: nn.Module, change: Lora) -> None:
    for target in sorted(change.targets):
        weight = network.get_parameter(f"{target}.weight")
        inner, outer = change.get_parameter(f"{target}_a"), change.get_parameter(f"{target}_b") * change.scale
        rows = max(1, _CHUNK // weight.shape[1])
        for start in range(0, weight.shape[0], rows):
            part, factors = weight[start : start + rows], outer[start : start + rows]
            for rank in range(inner.shape[0]):
                part.add_(factors[:, rank : rank + 1] * inner[rank])


def _replace(network: nn.Module, change: nn.Module, *, where: str) -> None:
    state = network.state_dict()
    for name, value in change.state_dict().items():
        if name not in state or state[name].shape != value.shape:
            got = list(state[name].shape) if name in state else "no such tensor"
            raise IntegrityError(f"{where}: {name!r} is {list(value.shape)}, the layer has {got}")
        state[name].copy_(value)


def _fetch(get: Get, identity: str, *, kind: str, where: str) -> Module:
    module: Any = get(identity)
    if module.kind != kind:
        raise IntegrityError(f"{where}: the route says {kind}, module {identity[:12]}… is {module.kind}")
    found: Module = module
    return found
