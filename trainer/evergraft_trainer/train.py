"""The training loop, top to bottom: one candidate, one device, plain PyTorch.

A step depends on the recipe, the batch and the state alone, so a candidate that resumes from a saved state ends with
the same bits as one that never stopped. The loop pauses before each step and each validation, so that several
candidates can take turns. Called by ``candidate``; measured against a hand-written loop in ``tests/bench/training``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from evergraft_trainer.data.batches import Batch
from evergraft_trainer.device import Device
from evergraft_trainer.recipe import CLIP_NORM, Recipe, learning_rate


@dataclass(frozen=True)
class Divergence:
    """The loss stopped being finite in the batch that begins at `sample`."""

    sample: int


@dataclass(frozen=True)
class Pause:
    """Where the loop stands: `seen` samples are trained, and next comes a validation or another step."""

    seen: int
    validates: bool = False


Loop = Generator[Pause, None, Divergence | None]
Forward = Callable[[Batch], torch.Tensor]
"""From a batch to logits B×classes on the device."""


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Batch],
    *,
    recipe: Recipe,
    device: Device,
    class_weights: torch.Tensor | None,
    start: int,
    validate: Callable[[int], bool],
    forward: Forward | None = None,
    ends_early: Callable[[], bool] = lambda: False,
) -> Loop:
    """Train from sample `start` to the recipe's end, calling `validate(samples seen)` at each validation.

    `batches` yields float32 images B×C×S×S and int64 labels B from `start` on. `class_weights` is float32 of the
    number of classes. `validate` answers whether the model's outputs are finite. `forward` runs the model on a batch,
    by default all of it. Where `ends_early` says so, a last validation ends it. Returns where outputs or loss stopped
    being finite, None if they never did.
    """
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    stops = frozenset(recipe.validation_batches())
    first = start // recipe.batch_size
    losses: list[torch.Tensor] = []
    forward = forward or (lambda batch: _tensor(model(device.put(batch.images))))
    model.train()
    for number in range(first, recipe.num_batches):
        yield Pause(seen=number * recipe.batch_size)
        batch = next(batches)
        labels = device.put(batch.labels)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, number * recipe.batch_size)
        with device.autocast(recipe.precision):
            logits = forward(batch)
            loss = functional.cross_entropy(logits.float(), labels, weight=class_weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, CLIP_NORM)
        device.step(optimizer)
        losses.append(loss.detach())
        early = ends_early()
        if number + 1 in stops or early:
            bad = _first_not_finite(losses)
            if bad is not None:
                return Divergence(sample=(number + 1 - len(losses) + bad) * recipe.batch_size)
            losses.clear()
            yield Pause(seen=(number + 1) * recipe.batch_size, validates=True)
            if not validate((number + 1) * recipe.batch_size):
                return Divergence(sample=(number + 1) * recipe.batch_size)
            model.train()
        if early:
            break
    return None


def finish(loop: Loop) -> Divergence | None:
    """Run a loop to its end without a pause."""
    while True:
        try:
            next(loop)
        except StopIteration as end:
            return end.value if isinstance(end.value, Divergence) else None


def _tensor(value: object) -> torch.Tensor:
    assert isinstance(value, torch.Tensor)
    return value


def _first_not_finite(losses: list[torch.Tensor]) -> int | None:
    """The index of the first loss that is not finite; read once a validation, so that no step waits for the device."""
    finite = torch.isfinite(torch.stack(losses)).tolist()
    return finite.index(False) if False in finite else None
