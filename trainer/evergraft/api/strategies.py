"""What each strategy's `parameters` and `hyperparameters` may hold: typed models by strategy name.

The strategies themselves are in ``evergraft.search.strategies``; here stands only what a person may write for them.
Called by ``api.check`` when a document names its strategy, and by ``api.resolve`` when it is settled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from evergraft.api.fields import Part
from evergraft.api.ladders import HYPERPARAMETERS
from evergraft.api.messages import Path, Problem, did_you_mean, validate
from evergraft.api.search import HyperparameterSpec, Search
from evergraft.errors import SpecError


class GraftParameters(Part):
    """One long low-rank child on the chain of all tasks; see docs/concepts.md."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rank of the change to each matrix of an encoder block."""
    wide: bool = False
    """Train every layer whole instead."""
    guard: Annotated[int, Field(ge=0, le=100)] = 25
    """Points of validation quality by which a head on the root must beat one on the parent to start from the root."""
    parent: Annotated[str, Field(min_length=1, max_length=253)] = "newest"
    """`newest`: the route with the most training behind it, this task's own or a public one; `root`; or a task's id."""


class Mu2NetParameters(Part):
    """µ2Net: generations of mutated children."""

    generations: Annotated[int, Field(ge=1, le=10_000)] = 4
    """How often children are planned."""
    candidates: Annotated[int, Field(ge=1, le=1_000)] = 8
    """Children in a generation."""


class BaselineParameters(Part):
    """What every strategy of one child may say of its parent."""

    parent: Annotated[str, Field(min_length=1, max_length=253)] = "newest"
    """`newest`: this task's route, else the public one with the most training behind it; `root`; or a task's id."""


class FinetuneParameters(BaselineParameters):
    """Full fine-tuning of the parent."""


class LoraParameters(BaselineParameters):
    """Low-rank changes of the parent."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    """Rank of each change."""


class LinearParameters(BaselineParameters):
    """A new head on the frozen parent."""


_DATA = ("crop", "cropMinArea", "cropMinAspect", "flip", "brightness", "contrast", "saturation", "hue")
_BASELINE = ("learningRate", "weightDecay", "warmupRatio", "momentum", *_DATA)
_MU2NET = (
    *("learningRate", "warmupRatio", "momentum", "nesterov", "mutationRate", *_DATA, "weightDecay"),
    # Off by default.
    *("schedule", "imageSize", "numLayers", "adapterWidth"),
)


@dataclass(frozen=True)
class StrategyType:
    """What may be written for one strategy; `candidates` is how many share the budget, of checked parameters."""

    name: str
    parameters: type[Part]
    hyperparameters: tuple[str, ...]
    candidates: Callable[[Mapping[str, Any]], int] = lambda _: 1


STRATEGIES: Mapping[str, StrategyType] = {
    entry.name: entry
    for entry in (
        StrategyType("graft", GraftParameters, _BASELINE),
        StrategyType(
            "mu2net", Mu2NetParameters, _MU2NET, lambda given: int(given["generations"] * given["candidates"])
        ),
        StrategyType("finetune", FinetuneParameters, _BASELINE),
        StrategyType("lora", LoraParameters, _BASELINE),
        StrategyType("linear", LinearParameters, _BASELINE),
    )
}
"""Every strategy that a document may name."""

DEFAULT_STRATEGY = "graft"


def check_parameters(strategy: str, parameters: Mapping[str, Any], *, at: str) -> None:
    """Refuse parameters, read from a store at `at`, that do not fit a strategy known here.

    Raises:
        SpecError: an unknown parameter, or one of the wrong type or out of range.
    """
    if strategy in STRATEGIES:
        _, problems = validate(STRATEGIES[strategy].parameters, dict(parameters))
        if problems:
            raise SpecError("\n".join(f"{at}.{problem}" for problem in problems))


def strategy_problems(search: Search, path: Path, strategy: str | None = None) -> tuple[Problem, ...]:
    """What is wrong with a search's strategy, parameters and hyperparameters, its fields at `path`.

    `strategy` is the one that will run; left out, the one that the search names. Where neither is known, only the
    hyperparameters' values are checked.
    """
    name = strategy or search.strategy
    if name is not None and name not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        hint = did_you_mean(name, STRATEGIES)
        meant = f"{hint} " if hint.startswith("did") else ""
        return (Problem((*path, "strategy"), f'"{name}" is not known; {meant}known: {known}'),)
    entry = STRATEGIES[name] if name is not None else None
    found: list[Problem] = []
    if entry is not None:
        found += validate(entry.parameters, search.parameters or {}, (*path, "parameters"))[1]
    for index, item in enumerate(search.hyperparameters or ()):
        found += _hyperparameter_problems(item, (*path, "hyperparameters", index), entry)
    return tuple(found)


def _hyperparameter_problems(item: HyperparameterSpec, path: Path, entry: StrategyType | None) -> Iterator[Problem]:
    allowed = entry.hyperparameters if entry else tuple(HYPERPARAMETERS)
    if item.name not in allowed:
        of = f" of {entry.name}" if entry else ""
        yield Problem((*path, "name"), f'"{item.name}" is no hyperparameter{of}; {did_you_mean(item.name, allowed)}')
        return
    written = [("start",), *(("values", index) for index in range(len(item.values or ())))]
    read = []
    for where, value in zip(written, (item.start, *(item.values or ())), strict=True):
        try:
            read.append(HYPERPARAMETERS[item.name].read(value))
        except ValueError as error:
            yield Problem((*path, *where), str(error))
    if len(read) != len(written):
        return
    start, *values = read
    if values and start not in values:
        yield Problem((*path, "start"), "must be one of values, since the ladder is climbed from it")
    if len(set(values)) != len(values):
        yield Problem((*path, "values"), "a value stands twice")
