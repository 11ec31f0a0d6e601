"""How a candidate is trained, as values: the recipe read from its plan, the learning rate at a sample, the optimiser.

Called by the training loop. Everything here is a pure function of the plan, but for building the optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from evergraft.api.resolved import ResolvedSearch
from evergraft.errors import SpecError
from evergraft.search.values import CandidatePlan, Schedule

CLIP_NORM = 1.0
"""Gradients are clipped at this global norm (arXiv 2205.12755, appendix)."""

WARMUP_START = 0.01
"""Warm-up begins at this fraction of the rate."""


@dataclass(frozen=True)
class Recipe:
    """One candidate's optimisation. `samples` are trained in whole batches, with `validations` spread evenly."""

    optimizer: str
    learning_rate: float
    momentum: float
    nesterov: bool
    weight_decay: float
    warmup_ratio: float
    schedule: Schedule
    batch_size: int
    samples: int
    validations: int
    precision: str

    @property
    def num_batches(self) -> int:
        """Batches in all."""
        return self.samples // self.batch_size

    def validation_batches(self) -> tuple[int, ...]:
        """After how many batches each validation comes; the last one after all."""
        return tuple(self.num_batches * k // self.validations for k in range(1, self.validations + 1))


def read_recipe(plan: CandidatePlan, search: ResolvedSearch) -> Recipe:
    """The recipe of a planned candidate.

    Raises:
        SpecError: a hyperparameter that the loop needs is missing or out of range.
    """
    values = plan.hyperparameters
    optimizer = str(values.get("optimizer", search.optimizer or "AdamW"))
    if optimizer not in ("SGD", "AdamW"):
        raise SpecError(f"search.optimizer: {optimizer!r} is unknown; allowed: SGD, AdamW")
    rate = float(values["learningRate"])
    if not 0 < rate < 100:
        raise SpecError(f"search.hyperparameters: learningRate {rate} is not between 0 and 100")
    return Recipe(
        optimizer=optimizer,
        learning_rate=rate,
        momentum=float(values.get("momentum", 0.9)),
        nesterov=bool(values.get("nesterov", False)),
        weight_decay=float(values.get("weightDecay", 0.0)),
        warmup_ratio=float(values.get("warmupRatio", 0.05)),
        schedule=plan.schedule,
        batch_size=search.batch_size,
        samples=plan.samples,
        validations=max(1, plan.validations),
        precision=search.precision,
    )


def learning_rate(recipe: Recipe, seen: int) -> float:
    """The rate of the batch that begins after `seen` samples of this candidate.

    Linear warm-up from a hundredth of the rate over `warmup_ratio` of the span, then cosine to 0 (Loshchilov and
    Hutter, arXiv 1608.03983), or half the rate throughout (constant), or four cosine cycles (restarts).
    """
    span = max(1, recipe.schedule.span)
    position = min(1.0, (recipe.schedule.offset + seen) / span)
    peak = recipe.learning_rate * (0.5 if recipe.schedule.kind == "constant" else 1.0)
    if position < recipe.warmup_ratio:
        return peak * (WARMUP_START + (1 - WARMUP_START) * position / recipe.warmup_ratio)
    after = (position - recipe.warmup_ratio) / max(1e-12, 1 - recipe.warmup_ratio)
    if recipe.schedule.kind == "constant":
        return peak
    if recipe.schedule.kind == "restarts":
        after = after * 4 % 1.0
    return peak * 0.5 * (1 + math.cos(math.pi * after))


def make_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter], *, fused: bool) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over the trained parameters; the rate is set anew before each step."""
    trained = list(parameters)
    if recipe.optimizer == "SGD":
        return torch.optim.SGD(
            trained,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=fused,
        )
    return torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=fused)


def hyperparameter_flags(values: Mapping[str, Any]) -> dict[str, Any]:
    """The augmentation's hyperparameters, by the names of the spec, with the method's defaults where absent."""
    return {
        "crop": bool(values.get("crop", False)),
        "crop_min_area": float(values.get("cropMinArea", 0.05)),
        "crop_min_aspect": float(values.get("cropMinAspect", 0.75)),
        "flip": bool(values.get("flip", False)),
        "brightness": float(values.get("brightness", 0.0)),
        "contrast": float(values.get("contrast", 0.0)),
        "saturation": float(values.get("saturation", 0.0)),
        "hue": float(values.get("hue", 0.0)),
    }
