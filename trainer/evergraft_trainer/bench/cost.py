"""Operations of a search, estimated from its recorded plans and results: every candidate counts, not only the winner.

A forward pass costs what the layers' kinds say. A backward pass costs as much again for gradients of activations, from
the lowest trained layer up, and as much again for gradients of weights, for the part that is trained whole; deltas'
own products are small and left out. A frozen prefix is run once per image where images never vary. Layers share the
operations as they share the parameters, which holds for the blocks of a transformer. Called by ``learner``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evergraft.graph.route import Layer
from evergraft.search.folder import Folder
from evergraft.search.values import SlotRef, SlotResult


@dataclass(frozen=True)
class Cost:
    """Of one search: samples trained, samples only run forward, floating-point operations."""

    samples: int
    forward_samples: int
    flops: int


def search_cost(folder: Folder, *, distinct: int) -> Cost:
    """What all candidates of a search took; `distinct` is the number of training images."""
    samples = forward = flops = 0
    for plan, result in _candidates(folder):
        samples += result.samples
        forward += result.forward_samples
        flops += forward_flops(result) + training_flops(plan, result, distinct=distinct)
    return Cost(samples, forward, flops)


def forward_flops(result: SlotResult) -> int:
    """Operations of what was only evaluated."""
    return result.flops * result.forward_samples


def training_flops(plan: Mapping[str, Any], result: SlotResult, *, distinct: int) -> int:
    """Operations of a candidate's training. `plan` is its recorded JSON."""
    if plan["kind"] != "train" or not result.samples or not result.layers:
        return 0
    trained = {item["name"]: item["action"] in ("clone", "new") for item in plan["layers"] if _trains(item)}
    total = sum(_parameters(layer) for layer in result.layers)
    first = next(place for place, layer in enumerate(result.layers) if layer.name in trained)
    below = sum(_parameters(layer) for layer in result.layers[:first]) / total
    whole = sum(_parameters(layer) for layer in result.layers if trained.get(layer.name)) / total
    kept = not any(plan["hyperparameters"].get(name) for name in ("crop", "flip"))
    prefix = below * (min(distinct, result.samples) if kept else result.samples)
    return round(result.flops * (prefix + result.samples * (2 * (1 - below) + whole)))


def _trains(item: Mapping[str, Any]) -> bool:
    return item["action"] in ("clone", "new") or bool(item["deltas"])


def _parameters(layer: Layer) -> int:
    return layer.parameters


def _candidates(folder: Folder) -> Iterator[tuple[Mapping[str, Any], SlotResult]]:
    generation = 0
    while (recorded := folder.plan(generation)) is not None:
        for slot, plan in enumerate(recorded["plan"]["candidates"]):
            result = folder.result(SlotRef(generation, slot))
            if result is not None:
                yield plan, result
        generation += 1
