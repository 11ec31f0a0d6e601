"""`mu2net`: evolution by generations of short children, as published (Gesmundo and Dean, arXiv 2205.12755).

``parameters: {generations: 4, candidates: 8}``. Each candidate trains an equal part of the samples. The best of this
task's route and of all kept candidates is committed, ties to the earlier; if that is the present route, it is kept.

Left open by the paper and decided here. "This task's best route", which the data hyperparameters come from, is the
best of the committed route and the candidates kept so far. Inherited values are placed on this search's ladders, on
the nearest rung. Learning rate, warm-up, momentum and schedule are inherited only from a parent trained by the same
optimiser: another's mean nothing here, so they begin at their starts. Its momentum is always carried along, which
takes what there is of the same optimiser, and nothing for layers that are new. Each child has a schedule of its own,
from warm-up to the end. Steps, layers and parents: see `mutate` and `parents`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evergraft.api.ladders import Scalar
from evergraft.errors import SpecError
from evergraft.search.budget import samples_each
from evergraft.search.ladders import BUILT_IN, OPTIONAL, Ladder, ladders_of
from evergraft.search.mutate import describe, mutate_child, mutate_data, mutate_layers
from evergraft.search.parents import Draw, draw_parents
from evergraft.search.starts import Start, decide, family
from evergraft.search.values import CandidatePlan, Finish, Generation, Schedule, View

DEFAULT_GENERATIONS = 4
DEFAULT_CANDIDATES = 8
DEFAULT_OPTIMIZER = "SGD"


@dataclass(frozen=True)
class Mu2Net:
    """The strategy; it has no settings of its own beside the spec's."""

    name: str = "mu2net"
    version: int = 1

    def next(self, view: View) -> Generation | Finish:
        """Plan the next generation, or finish after the last one or a stop.

        Raises:
            SpecError: too few samples, or a parameter that is no positive number.
        """
        generations = _parameter(view, "generations", DEFAULT_GENERATIONS)
        slots = _parameter(view, "candidates", DEFAULT_CANDIDATES)
        if view.stop is not None or len(view.history) >= generations:
            return decide(view)
        samples = samples_each(view.spec.search, candidates=generations * slots)
        return _generation(view, generation=len(view.history), slots=slots, samples=samples)


MU2NET = Mu2Net()


def _parameter(view: View, name: str, default: int) -> int:
    value = view.spec.search.parameters.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SpecError(f"search.parameters.{name}: {value!r} is no whole number from 1 up")
    return value


def _generation(view: View, *, generation: int, slots: int, samples: int) -> Generation:
    ladders = ladders_of(view.spec.search.hyperparameters)
    best = family(view)[:1]
    data = mutate_data(best[0].hyperparameters if best else {}, ladders, view.rng(generation, 0, "data"))
    draws = draw_parents(view, generation=generation, slots=slots)
    candidates = tuple(
        _child(view, draw, ladders, data.values, generation=generation, slot=slot, samples=samples)
        for slot, draw in enumerate(draws)
    )
    sampled = Counter(draw.start.ref for draw in draws if isinstance(draw.start.ref, str))
    return Generation(candidates=candidates, sampled=dict(sorted(sampled.items())))


def _child(
    view: View,
    draw: Draw,
    ladders: Mapping[str, Ladder],
    data: Mapping[str, Scalar],
    *,
    generation: int,
    slot: int,
    samples: int,
) -> CandidatePlan:
    start = draw.start
    optimizer = view.spec.search.optimizer or DEFAULT_OPTIMIZER
    same_optimizer = start.hyperparameters.get("optimizer") == optimizer
    inherited = start.hyperparameters if same_optimizer else _without_optimizer(start)
    child = mutate_child(inherited, ladders, view.rng(generation, slot, "hyperparameters"))
    values: dict[str, Any] = {"optimizer": optimizer, **_fixed(view, inherited), **child.values, **data}
    layers = mutate_layers(view, start, values, view.rng(generation, slot, "layers"))
    return CandidatePlan(
        kind="train",
        start=start.ref,
        layers=layers,
        hyperparameters=values,
        samples=samples,
        validations=view.spec.search.validations,
        schedule=Schedule(span=samples, kind=str(values.get("schedule", "cosine"))),
        optimizer="carry",
        threshold=start.score,
        mutations=(*child.mutations, *describe(layers)),
        reason=draw.reason,
    )


def _without_optimizer(start: Start) -> dict[str, Any]:
    """What a parent trained by another optimiser hands on."""
    tuned = {ladder.name for ladder in (*BUILT_IN.values(), *OPTIONAL.values()) if ladder.group == "optimizer"}
    return {name: value for name, value in start.hyperparameters.items() if name not in tuned}


def _fixed(view: View, inherited: Mapping[str, Any]) -> dict[str, Any]:
    """What a child has of the optional hyperparameters where their ladders are off: its parent's, never stepped."""
    fixed = {name: inherited[name] for name in ("schedule", "weightDecay", "imageSize") if name in inherited}
    return fixed if view.spec.search.image_size is None else {**fixed, "imageSize": view.spec.search.image_size}
