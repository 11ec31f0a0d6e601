"""A candidate: the network that a plan makes of its parent, ready to train.

Every layer of the parent is shared, cloned, made new or dropped, as the plan says; deltas are put on shared layers.
New weights are drawn from streams named by (seed, layer), never from torch's global generator. Called by the worker
for each slot.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from evergraft.errors import IntegrityError, SpecError
from evergraft.graph.module import Module
from evergraft.graph.route import Layer
from evergraft.search.values import DeltaPlan, LayerPlan
from evergraft_trainer.nn import codec
from evergraft_trainer.nn.adapter import Adapter
from evergraft_trainer.nn.assemble import RouteModel, lora_network
from evergraft_trainer.nn.deltas import DELTAS, NAMES, target_config
from evergraft_trainer.nn.head import Head
from evergraft_trainer.nn.kind import Config
from evergraft_trainer.nn.kinds import kind_of
from evergraft_trainer.nn.layers import LAYERS
from evergraft_trainer.nn.lora import ALIASES, TARGETS, Lora
from evergraft_trainer.nn.merge import Get, add_adapter, fold_for, load_layer, without_replaced
from evergraft_trainer.nn.noise import Noise, generator
from evergraft_trainer.nn.route_layer import NewDelta, RouteLayer
from evergraft_trainer.nn.vit import resize_positions

HEAD = "head"
"""The kind, and by custom the name, of the last layer of a task's route."""

CONTINUE = "continue"
"""In a delta plan's config: train the layer's newest delta of that kind further instead of adding one."""


@dataclass(frozen=True)
class Making:
    """What the layers of one candidate have in common."""

    get: Get
    labels: tuple[str, ...]
    parent_labels: tuple[str, ...]
    image_size: int | None
    seed: int
    features: int
    frozen: Mapping[Hashable, RouteLayer]


def build_candidate(
    parent: Sequence[Layer],
    get: Get,
    plan: Sequence[LayerPlan],
    *,
    labels: tuple[str, ...],
    parent_labels: tuple[str, ...] = (),
    seed: int,
    image_size: int | None = None,
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
    frozen: Mapping[Hashable, RouteLayer] = MappingProxyType({}),
) -> RouteModel:
    """The candidate that `plan` makes of the `parent` route's layers; `get` fetches modules by checked id.

    `labels` are this task's, `parent_labels` those of the parent's head: rows of labels with the same name are copied
    when the head is cloned. `image_size` in pixels (the preprocessing's); None keeps the parent's. Another size than
    the parent's resizes the position embeddings. `dropout` and `stochastic_depth` are chances in 0…1, the latter
    growing from 0 at the first block to its value at the last. `frozen` are running layers, by the stored layer they
    stand on, to be used where the plan shares those.

    Raises:
        SpecError: the plan does not fit the parent.
        IntegrityError: a stored module does not fit its layer.
    """
    by_name = {layer.name: layer for layer in parent}
    _check_plan(by_name, plan)
    making = Making(get, labels, parent_labels, image_size, seed, features=_features(parent, get), frozen=frozen)
    layers = [_make(by_name.get(item.name), item, making) for item in plan if item.action != "drop"]
    layers = _fit_image(layers, image_size)
    _set_noise(layers, seed=seed, dropout=dropout, stochastic_depth=stochastic_depth)
    return RouteModel(layers, image_size=image_size)


def _check_plan(parent: dict[str, Layer], plan: Sequence[LayerPlan]) -> None:
    names = [item.name for item in plan]
    if len(set(names)) != len(names):
        raise SpecError("the plan names a layer twice")
    if missing := sorted(set(parent) - set(names)):
        raise SpecError(f"the plan says nothing about the parent's layers {', '.join(missing)}")
    for item in plan:
        if item.action != "new" and item.name not in parent:
            raise SpecError(f"the plan would {item.action} {item.name!r}, which the parent does not have")
        if item.action != "share" and item.deltas:
            raise SpecError(f"layer {item.name!r}: deltas go on shared layers; this one is planned as {item.action}")


def _make(layer: Layer | None, item: LayerPlan, making: Making) -> RouteLayer:
    if item.action == "new":
        return _new(layer, item, making)
    assert layer is not None
    if item.action == "clone":
        return _clone(layer, making)
    return _share(layer, item, making)


def _new(layer: Layer | None, item: LayerPlan, making: Making) -> RouteLayer:
    kind = item.kind or (layer.kind if layer is not None else HEAD)
    config = item.config
    if config is None and kind == HEAD:
        config = {"features": making.features, "classes": len(making.labels)}
    if config is None:
        if layer is None:
            raise SpecError(f"layer {item.name!r} is new, but the plan gives no config for kind {kind}")
        config = making.get(layer.module).config
    network = fresh(kind, config, seed=making.seed, name=item.name)
    return RouteLayer(network, name=item.name, kind=kind, config=config, source=None, trained=True)


def fresh(kind: str, config: Config, *, seed: int, name: str, delta: bool = False) -> nn.Module:
    """A newly initialised network of a layer or delta, a pure function of its kind, config, `seed` and `name`."""
    network = _empty(kind, config, name=name, delta=delta)
    with torch.no_grad():
        kind_of(kind, where=name, delta=delta).initialise(network, generator("init", seed, name))
    return network


def _clone(layer: Layer, making: Making) -> RouteLayer:
    merged = load_layer(layer, making.get, merge_all=True)
    network, config = merged.network, merged.config
    if isinstance(network, Head) and making.labels != making.parent_labels:
        network, config = _match_labels(network, layer.name, making)
    return RouteLayer(network, name=layer.name, kind=layer.kind, config=config, source=None, trained=True)


def _match_labels(old: Head, name: str, making: Making) -> tuple[Head, Config]:
    if len(making.parent_labels) != old.out_features:
        raise SpecError(f"layer {name!r} has {old.out_features} classes, its route {len(making.parent_labels)} labels")
    rows = {label: row for row, label in enumerate(making.parent_labels)}
    config = {"features": old.in_features, "classes": len(making.labels)}
    head = _empty(HEAD, config, name=name)
    assert isinstance(head, Head)
    with torch.no_grad():
        for row, label in enumerate(making.labels):
            if label in rows:
                head.weight[row], head.bias[row] = old.weight[rows[label]], old.bias[rows[label]]
                continue
            one = {"features": old.in_features, "classes": 1}
            made = fresh(HEAD, one, seed=making.seed, name=f"{name}/{label}")
            head.weight[row], head.bias[row] = made.get_parameter("weight")[0], made.get_parameter("bias")[0]
    return head, config


def _empty(kind: str, config: Config, *, name: str, delta: bool = False) -> nn.Module:
    """A network whose values are still to be written."""
    where = f"layer {name!r}"
    return kind_of(kind, where=where, delta=delta).skeleton(config, where=where).to_empty(device="cpu")


def _share(layer: Layer, item: LayerPlan, making: Making) -> RouteLayer:
    if layer.kind == HEAD and making.labels != making.parent_labels:
        raise SpecError(f"layer {layer.name!r} cannot be shared: this task's labels differ from the parent's")
    if not item.deltas and layer in making.frozen:
        return making.frozen[layer]
    layer, taken = _take_back(layer, item.deltas, making.get)
    kinds = [delta.kind for delta in item.deltas]
    layer, folded = fold_for(layer, making.get, new=kinds)
    get = _with(making.get, folded)
    merged = load_layer(layer, get, merge_all=any(delta.kind == "lora" for delta in item.deltas))
    lora = lora_network(merged.lora, where=f"layer {layer.name!r}")
    made = _Shared(merged.network, merged.config, lora, None if merged.lora is None else merged.lora.config)
    new = tuple(_put_delta(made, layer, delta, taken.get(delta.kind), making) for delta in item.deltas)
    return RouteLayer(
        made.network,
        name=layer.name,
        kind=layer.kind,
        config=made.config,
        source=without_replaced(layer, kinds),
        lora=made.lora,
        lora_config=made.lora_config,
        new=new,
        folded=folded,
    )


@dataclass
class _Shared:
    """A shared layer while deltas are put on it."""

    network: nn.Module
    config: Config
    lora: Lora | None
    lora_config: Config | None


def _take_back(layer: Layer, plans: Sequence[DeltaPlan], get: Get) -> tuple[Layer, dict[str, Module]]:
    """Split off the newest delta of each kind that the plan continues to train."""
    taken: dict[str, Module] = {}
    deltas = list(layer.deltas)
    for plan in plans:
        if not plan.config.get(CONTINUE):
            continue
        place = max((place for place, delta in enumerate(deltas) if delta.kind == plan.kind), default=None)
        if place is None:
            raise SpecError(f"layer {layer.name!r} has no {plan.kind} delta to continue")
        taken[plan.kind] = get(deltas.pop(place).module)
    return replace(layer, deltas=tuple(deltas)), taken


def _put_delta(made: _Shared, layer: Layer, plan: DeltaPlan, taken: Module | None, making: Making) -> NewDelta:
    where = f"layer {layer.name!r}: delta {plan.kind}"
    config = taken.config if taken is not None else delta_config(plan, layer.kind, made.config, where=where)
    if plan.kind in NAMES:
        if taken is not None:
            _copy_into(made.network, codec.network(taken, where=where, delta=True))
        if not NAMES[plan.kind](made.network):
            raise SpecError(f"{where}: a {layer.kind} has nothing that it would change")
        return NewDelta(kind=plan.kind, config=config)
    network = (
        fresh(plan.kind, config, seed=making.seed, name=f"{layer.name}/{plan.kind}", delta=True)
        if taken is None
        else codec.network(taken, where=where, delta=True)
    )
    if isinstance(network, Lora):
        made.lora, made.lora_config = network, config
    else:
        assert isinstance(network, Adapter)
        made.config = add_adapter(made.network, made.config, network, where=where)
    return NewDelta(kind=plan.kind, config=config)


def delta_config(plan: DeltaPlan, kind: str, config: Config, *, where: str) -> Config:
    """The full config of a planned delta on a layer of `kind` and `config`: what the plan gives, and what fits.

    Raises:
        SpecError: the layer cannot carry it, or the plan's config is wrong.
    """
    if plan.kind not in DELTAS:
        raise SpecError(f"{where}: unknown; allowed: {', '.join(sorted(DELTAS))}")
    if plan.kind in NAMES:
        full: dict[str, Any] = target_config(kind, config)
    elif kind != "encoder_block":
        raise SpecError(f"{where}: fits only an encoder_block, this is a {kind}")
    elif plan.kind == "lora":
        asked = {ALIASES.get(name, name) for name in plan.config.get("targets", TARGETS)}
        if unknown := sorted(asked - set(TARGETS)):
            raise SpecError(f"{where}: unknown target {unknown[0]!r}; allowed: {', '.join(TARGETS)}")
        targets = [name for name in TARGETS if name in asked]
        full = {"rank": plan.config.get("rank"), "targets": targets, "width": config["width"], "mlp": config["mlp"]}
    else:
        full = {"width": plan.config.get("width"), "features": config["width"]}
    try:
        DELTAS[plan.kind].check(full)
    except IntegrityError as error:
        raise SpecError(f"{where}: {error}") from None
    return full


def _copy_into(network: nn.Module, values: nn.Module) -> None:
    state = network.state_dict()
    with torch.no_grad():
        for name, value in values.state_dict().items():
            state[name].copy_(value)


def _with(get: Get, extra: Module | None) -> Get:
    return get if extra is None else lambda identity: extra if identity == extra.id else get(identity)


def _features(parent: Sequence[Layer], get: Get) -> int:
    """How many features a head on this parent reads, from the last layer that says so."""
    for layer in reversed(parent):
        config = get(layer.module).config
        if layer.kind == HEAD:
            return int(config["features"])
        if layer.kind == "residual_block":
            return int(config["width"]) * (4 if config["block"] == "bottleneck" else 1)
        if layer.kind in LAYERS:
            return int(config["width"])
    raise SpecError("the parent has no layers")


def _fit_image(layers: list[RouteLayer], image_size: int | None) -> list[RouteLayer]:
    """Resize position embeddings where the images have another size than the parent's; they become new weights."""
    patch = next((layer.config["patchSize"] for layer in layers if layer.kind == "patch_embed"), None)
    if image_size is None or patch is None:
        return layers
    if image_size % patch:
        raise SpecError(f"search.imageSize: {image_size} is no multiple of the patch size {patch}")
    tokens = (image_size // patch) ** 2 + 1
    return [
        _resized(layer, tokens) if layer.kind == "position_embed" and layer.config["tokens"] != tokens else layer
        for layer in layers
    ]


def _resized(layer: RouteLayer, tokens: int) -> RouteLayer:
    if layer.new:
        raise SpecError(f"layer {layer.name!r}: a delta on it and another image size do not go together")
    config = {**layer.config, "tokens": tokens}
    network = _empty(layer.kind, config, name=layer.name)
    with torch.no_grad():
        network.get_parameter("embedding").copy_(resize_positions(layer.network.get_parameter("embedding"), tokens))
    return RouteLayer(network, name=layer.name, kind=layer.kind, config=config, source=None, trained=layer.whole)


def _set_noise(layers: Sequence[RouteLayer], *, seed: int, dropout: float, stochastic_depth: float) -> None:
    if dropout == 0 and stochastic_depth == 0:
        return
    blocks = [layer for layer in layers if layer.kind in ("encoder_block", "residual_block")]
    for layer in layers:
        if layer.trains:
            depth = blocks.index(layer) / max(1, len(blocks) - 1) if layer in blocks else 0.0
            layer.noise = Noise(seed=seed, layer=layer.name, dropout=dropout, depth=stochastic_depth * depth)
