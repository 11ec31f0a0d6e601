"""The `search` of a Task, also found in a ModuleGraph's taskDefaults.

No field has a schema default: each resolves from Task, ModuleGraph, operator and built-in values, in that order
(``api.resolve``). What a strategy's own `parameters` may hold stands in ``api.strategies``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from evergraft.api.fields import IDENTIFIER, STRATEGY, Decay, Duration, Items, Part, Probability, ScalarText, problem


class Scoring(Part):
    """How size and compute weigh in a candidate's score."""

    size_decay: Decay | None = None
    """Factor on the score for each reference model's worth of parameters. Built-in default: "1"."""
    compute_decay: Decay | None = None
    """Factor on the score for each reference model's worth of operations. Built-in default: "1"."""


class HyperparameterSpec(Part):
    """One hyperparameter: where it starts and the ladder it moves on."""

    name: Annotated[str, Field(pattern=IDENTIFIER, max_length=64)]
    """Its name, such as learningRate; the strategy says which there are."""
    start: ScalarText
    """The first value. Decimals are quoted."""
    values: Annotated[Items[ScalarText], Field(min_length=1, max_length=64)] | None = None
    """The ladder, in order; must hold `start`. Left out: the strategy's own."""


def _unique_names(items: tuple[HyperparameterSpec, ...]) -> tuple[HyperparameterSpec, ...]:
    seen: set[str] = set()
    for item in items:
        if item.name in seen:
            raise problem(f"{item.name} stands twice; name each hyperparameter once")
        seen.add(item.name)
    return items


class Search(Part):
    """How a task is searched."""

    strategy: Annotated[str, Field(pattern=STRATEGY, max_length=63)] | None = None
    """Who plans the candidates. Built-in default: graft."""
    samples: Annotated[int, Field(ge=1, le=10**12)] | None = None
    """Samples trained, in all. Built-in default: 20480."""
    forward_samples: Annotated[int, Field(ge=0, le=10**12)] | None = None
    """Samples that may be evaluated without training. Built-in default: `samples`."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Samples in a step. Built-in default: 32."""
    validations: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How often a candidate is validated while it trains. Built-in default: 4."""
    optimizer: Literal["SGD", "AdamW"] | None = None
    """The optimiser; left out, the strategy's own choice."""
    precision: Literal["Float32", "BFloat16"] | None = None
    """The number format of training. Built-in default: Float32."""
    image_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Side of the square images in pixels; left out, the parent's: a chain keeps what a task sets."""
    dropout: Probability | None = None
    """Dropout while training. Built-in default: "0"."""
    stochastic_depth: Probability | None = None
    """Chance to skip a block while training. Built-in default: "0"."""
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    """What all random choices follow from. Built-in default: 0."""
    cycles: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Searches in a row, each from the newest graph. Built-in default: 1."""
    scoring: Scoring | None = None
    """How size and compute weigh in a candidate's score."""
    parameters: Annotated[dict[str, Any], Field(max_length=64)] | None = None
    """The strategy's own settings."""
    hyperparameters: (
        Annotated[Items[HyperparameterSpec], Field(max_length=64), AfterValidator(_unique_names)] | None
    ) = None
    """Hyperparameters to set other than the strategy does."""
    failed_candidates: Literal["Fail", "Discard"] | None = None
    """What a candidate that crashes again and again does to the search. Built-in default: Fail."""
    hang_after: Duration | None = None
    """A worker without progress for this long ends itself. Built-in default: 10m."""
