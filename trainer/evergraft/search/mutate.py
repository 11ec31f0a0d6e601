"""How µ2Net changes a parent into a child: hyperparameters one step on their ladders, layers cloned or shared.

Decisions that the paper leaves open are said at each function; every one draws from its own named stream, so that
none shifts another. Pure; called by `mu2net`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evergraft.api.ladders import Scalar
from evergraft.graph.route import Layer
from evergraft.search.ladders import Group, Ladder, value_of
from evergraft.search.layers import BLOCK, body, final_norm, with_head
from evergraft.search.rng import Rng
from evergraft.search.starts import Start
from evergraft.search.values import DeltaPlan, LayerPlan, View

RATE = "mutationRate"
POSITION = "position_embed"


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of a child, by name, and the mutations that led from the inherited ones to them, in words."""

    values: Mapping[str, Scalar]
    mutations: tuple[str, ...]


def mutate_data(inherited: Mapping[str, Any], ladders: Mapping[str, Ladder], rng: Rng) -> Settings:
    """The data hyperparameters of a generation; each steps with the default µ, the start of its ladder."""
    return _mutate(inherited, ladders, ("data",), rate=float(ladders[RATE].start), rng=rng)


def mutate_child(inherited: Mapping[str, Any], ladders: Mapping[str, Ladder], rng: Rng) -> Settings:
    """µ and the optimiser's and shape's hyperparameters of a child.

    µ steps first, with the probability that the parent's µ gives; every other steps with the child's own.
    """
    first = _mutate(inherited, ladders, ("rate",), rate=float(value_of(ladders[RATE], inherited)), rng=rng)
    rest = _mutate(inherited, ladders, ("optimizer", "shape"), rate=float(first.values[RATE]), rng=rng)
    return Settings(values={**first.values, **rest.values}, mutations=first.mutations + rest.mutations)


def _mutate(
    inherited: Mapping[str, Any], ladders: Mapping[str, Ladder], groups: tuple[Group, ...], *, rate: float, rng: Rng
) -> Settings:
    values: dict[str, Scalar] = {}
    mutations = []
    for ladder in (ladder for group in groups for ladder in ladders.values() if ladder.group == group):
        value = value_of(ladder, inherited)
        values[ladder.name] = ladder.step(value, rng) if rng.chance(rate) else value
        if values[ladder.name] != value:
            mutations.append(f"{ladder.name} {value} → {values[ladder.name]}")
    return Settings(values=values, mutations=tuple(mutations))


def owned(view: View, layer: Layer) -> bool:
    """Whether only this task owns a layer: no other uses its module, or one of the deltas on it."""
    return any(view.users.get(module, 0) == 0 for module, _ in layer.modules())


def mutate_layers(view: View, start: Start, values: Mapping[str, Any], rng: Rng) -> tuple[LayerPlan, ...]:
    """Every layer of the start: cloned and trained, shared frozen, or dropped; then the head.

    A layer that only this task owns is cloned, and so is the final norm; of the rest each is cloned with probability µ,
    one draw each. With the ladder `numLayers` on, blocks beyond that number are dropped, the last first; a parent that
    has fewer keeps those it has, since a block has no weights to start from. A change of `imageSize` clones the
    position embedding. With the ladder `adapterWidth` on, each block that stays frozen gets an adapter with
    probability µ.
    """
    rate = float(values[RATE])
    kept = _kept_blocks(start, values)
    forced = {final_norm(start.layers)} | {layer.name for layer in start.layers if owned(view, layer)}
    if "imageSize" in values and values["imageSize"] != start.hyperparameters.get("imageSize"):
        forced |= {layer.name for layer in start.layers if layer.kind == POSITION}
    plans = []
    for layer in body(start.layers):
        if layer.kind == BLOCK and layer.name not in kept:
            plans.append(LayerPlan(name=layer.name, action="drop"))
        elif layer.name in forced or rng.chance(rate):
            plans.append(LayerPlan(name=layer.name, action="clone"))
        else:
            plans.append(LayerPlan(name=layer.name, action="share", deltas=_adapter(layer, values, rng)))
    return with_head(view, start, plans)


def _kept_blocks(start: Start, values: Mapping[str, Any]) -> frozenset[str]:
    blocks = [layer.name for layer in start.layers if layer.kind == BLOCK]
    return frozenset(blocks[: int(values["numLayers"])] if "numLayers" in values else blocks)


def _adapter(layer: Layer, values: Mapping[str, Any], rng: Rng) -> tuple[DeltaPlan, ...]:
    if "adapterWidth" not in values or layer.kind != BLOCK or not rng.chance(float(values[RATE])):
        return ()
    return (DeltaPlan(kind="adapter", config={"width": int(values["adapterWidth"])}),)


def describe(plans: tuple[LayerPlan, ...]) -> Iterator[str]:
    """What was decided of each layer that is not simply shared, in words."""
    for plan in plans:
        if plan.action != "share":
            yield f"{plan.action} {plan.name}" + (" from an ancestor of this task" if plan.source else "")
        for delta in plan.deltas:
            yield f"{delta.kind} on {plan.name}"
