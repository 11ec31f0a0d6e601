"""Hyperparameter ladders: the values each hyperparameter may take, where it starts, and one step up or down.

The built-in ladders are those of µ2Net (arXiv 2205.12755, table of hyperparameters). A spec replaces any of them by
name with ``{name, start, values}``, and switches on the optional ones by naming them. Pure. Called by `mu2net`, which
steps on ladders, and by the baselines, which only take their starts.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from evergraft.api.ladders import Scalar
from evergraft.api.resolved import Hyperparameter
from evergraft.errors import SpecError
from evergraft.search.rng import Rng

Group = Literal["rate", "optimizer", "shape", "data", "fixed"]
"""When a hyperparameter mutates: the mutation rate first, then the optimiser's and the shape's, each in a child;
those of the data once a generation; fixed ones never."""


@dataclass(frozen=True)
class Ladder:
    """The rungs of one hyperparameter, in order, and the rung it starts on."""

    name: str
    group: Group
    start: Scalar
    values: tuple[Scalar, ...]

    def place(self, value: object) -> Scalar:
        """The rung for an inherited value: itself, else the nearest (the lower of two), else the start."""
        for rung in self.values:
            if rung == value and isinstance(rung, bool) == isinstance(value, bool):
                return rung
        numbers = [rung for rung in self.values if _is_number(rung)]
        if not _is_number(value) or not numbers:
            return self.start
        return min(numbers, key=lambda rung: (abs(float(rung) - float(value)), float(rung)))  # type: ignore[arg-type]

    def step(self, value: object, rng: Rng) -> Scalar:
        """One rung up or down from `value` with equal chance (the draw says up), clamped at the ends."""
        position = self.values.index(self.place(value)) + (1 if rng.chance(0.5) else -1)
        return self.values[min(max(position, 0), len(self.values) - 1)]


_TOO_LARGE = 1e300
"""Inherited values are read from a store; beyond this (or NaN) they are taken for no number."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _TOO_LARGE


def _built_in(group: Group, start: Scalar, *values: Scalar) -> tuple[Group, Scalar, tuple[Scalar, ...]]:
    return group, start, values


_RATES = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_JITTER = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
_MUTATION = (0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.22, 0.24, 0.26, 0.28, 0.3)

BUILT_IN: Mapping[str, Ladder] = MappingProxyType(
    {
        name: Ladder(name=name, group=group, start=start, values=values)
        for name, (group, start, values) in {
            "mutationRate": _built_in("rate", 0.2, *_MUTATION),
            "learningRate": _built_in("optimizer", 0.01, *_RATES),
            "warmupRatio": _built_in("optimizer", 0.05, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4),
            "momentum": _built_in("optimizer", 0.9, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99),
            "nesterov": _built_in("optimizer", False, False, True),
            "crop": _built_in("data", True, False, True),
            "cropMinArea": _built_in("data", 0.05, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
            "cropMinAspect": _built_in("data", 0.75, 0.25, 0.5, 0.75, 1.0),
            "flip": _built_in("data", True, False, True),
            "brightness": _built_in("data", 0.0, *_JITTER),
            "contrast": _built_in("data", 0.0, *_JITTER),
            "saturation": _built_in("data", 0.0, *_JITTER),
            "hue": _built_in("data", 0.0, *_JITTER),
        }.items()
    }
)
"""Ladders that are on by default, in the order in which they are mutated."""

OPTIONAL: Mapping[str, Ladder] = MappingProxyType(
    {
        "schedule": Ladder("schedule", "optimizer", "cosine", ("constant", "cosine", "restarts")),
        "numLayers": Ladder("numLayers", "shape", 0, ()),
        "adapterWidth": Ladder("adapterWidth", "shape", 32, (8, 16, 32, 64, 128)),
        "imageSize": Ladder("imageSize", "data", 0, ()),
        "weightDecay": Ladder("weightDecay", "optimizer", 0.0, ()),
    }
)
"""Ladders that are off unless the spec names them; those without values have none that fit every model."""

NAMES: tuple[str, ...] = (*BUILT_IN, *OPTIONAL)
"""Every hyperparameter that a spec may name."""


def ladders_of(given: Iterable[Hyperparameter]) -> Mapping[str, Ladder]:
    """The ladders of a search, in the order in which they are mutated: the built-in ones, with the spec's on top.

    A start without values keeps the built-in rungs if it is one of them, else the hyperparameter is fixed there.

    Raises:
        SpecError: a name that is unknown or stands twice, or a start that is none of the values.
    """
    ladders = dict(BUILT_IN)
    seen: set[str] = set()
    for index, item in enumerate(given):
        where = f"search.hyperparameters[{index}]"
        if item.name in seen:
            raise SpecError(f"{where}.name: {item.name} stands twice; keep one")
        seen.add(item.name)
        ladders[item.name] = _ladder(item, where=where)
    return MappingProxyType({name: ladders[name] for name in NAMES if name in ladders})


def starts_of(given: Iterable[Hyperparameter]) -> dict[str, Scalar]:
    """The starting values that the spec names, for strategies that mutate nothing.

    Raises:
        SpecError: as `ladders_of`.
    """
    items = tuple(given)
    ladders_of(items)
    return {item.name: item.start for item in items}


def _ladder(item: Hyperparameter, *, where: str) -> Ladder:
    known = BUILT_IN.get(item.name) or OPTIONAL.get(item.name)
    if known is None:
        close = difflib.get_close_matches(item.name, NAMES, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; allowed: {', '.join(NAMES)}"
        raise SpecError(f"{where}.name: unknown hyperparameter {item.name!r}{hint}")
    if item.values and item.start not in item.values:
        allowed = ", ".join(str(value) for value in item.values)
        raise SpecError(f"{where}.start: {item.start!r} is none of its values ({allowed})")
    values = item.values or (known.values if item.start in known.values else (item.start,))
    return Ladder(name=item.name, group=known.group, start=item.start, values=tuple(values))


def value_of(ladder: Ladder, inherited: Mapping[str, Any]) -> Scalar:
    """The inherited value on the ladder, its start where nothing is inherited."""
    return ladder.place(inherited[ladder.name]) if ladder.name in inherited else ladder.start
