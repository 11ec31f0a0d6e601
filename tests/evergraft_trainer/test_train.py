"""The loop and its recipe as such: where a loss stops being finite, when validations come, what the rate is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evergraft.search.values import Schedule
from evergraft_trainer.data.batches import Batch
from evergraft_trainer.device import open_device
from evergraft_trainer.recipe import Recipe, learning_rate, make_optimizer
from evergraft_trainer.train import Divergence, finish, train

RECIPE = Recipe(
    optimizer="SGD",
    learning_rate=0.1,
    momentum=0.9,
    nesterov=False,
    weight_decay=0.0,
    warmup_ratio=0.1,
    schedule=Schedule(span=80),
    batch_size=8,
    samples=80,
    validations=4,
    precision="Float32",
)


def batches(*, bad: int | None = None, start: int = 0) -> Iterator[Batch]:
    for number in range(start, 10):
        images = torch.ones(8, 4) * (float("inf") if number == bad else 1.0)
        yield Batch(images=images, labels=torch.arange(8) % 2, indices=torch.arange(8))


def run(*, bad: int | None = None, finite: bool = True) -> tuple[Divergence | None, list[int]]:
    model = nn.Linear(4, 2)
    seen: list[int] = []

    def validate(samples: int) -> bool:
        seen.append(samples)
        return finite

    optimizer = make_optimizer(RECIPE, model.parameters(), fused=True)
    device = open_device("cpu")
    loop = train(
        model, optimizer, batches(bad=bad), recipe=RECIPE, device=device, class_weights=None, start=0, validate=validate
    )
    return finish(loop), seen


def test_validations_come_after_whole_batches_and_the_last_at_the_end() -> None:
    assert run() == (None, [16, 40, 56, 80])


def test_a_loss_that_is_not_finite_is_told_by_its_sample_and_validates_no_more() -> None:
    assert run(bad=6) == (Divergence(sample=48), [16, 40])


def test_outputs_that_are_not_finite_end_it_too() -> None:
    assert run(finite=False) == (Divergence(sample=16), [16])


@given(st.integers(1, 20), st.integers(1, 400))
def test_there_are_as_many_validations_as_asked_where_the_batches_suffice(validations: int, num_batches: int) -> None:
    recipe = replace(RECIPE, samples=num_batches * 8, validations=validations)
    points = recipe.validation_batches()
    assert points[-1] == num_batches
    if num_batches >= validations:
        assert len(set(points)) == validations
        assert points[0] >= 1


def test_the_rate_warms_up_from_a_hundredth_and_ends_near_zero() -> None:
    assert learning_rate(RECIPE, 0) == pytest.approx(0.001)
    assert learning_rate(RECIPE, 8) == pytest.approx(0.1)
    assert learning_rate(RECIPE, 44) == pytest.approx(0.05)
    assert learning_rate(RECIPE, 79) < 0.001


@given(st.integers(0, 10_000), st.sampled_from(["cosine", "constant", "restarts"]), st.floats(0, 0.9))
def test_the_rate_stays_between_zero_and_its_peak(seen: int, kind: str, warmup: float) -> None:
    recipe = replace(RECIPE, schedule=Schedule(span=8000, kind=kind), warmup_ratio=warmup)
    assert 0 <= learning_rate(recipe, seen) <= 0.1


def test_a_continued_schedule_goes_on_where_the_first_part_ended() -> None:
    whole = replace(RECIPE, schedule=Schedule(span=80))
    part = replace(RECIPE, schedule=Schedule(span=80, offset=40))
    assert learning_rate(part, 8) == learning_rate(whole, 48)


def test_ending_early_validates_what_there_is_and_stops() -> None:
    model = nn.Linear(4, 2)
    seen: list[int] = []
    steps = iter([False, False, False, True])

    def validate(samples: int) -> bool:
        seen.append(samples)
        return True

    loop = train(
        model,
        make_optimizer(RECIPE, model.parameters(), fused=True),
        batches(),
        recipe=RECIPE,
        device=open_device("cpu"),
        class_weights=None,
        start=0,
        validate=validate,
        ends_early=lambda: next(steps),
    )
    assert finish(loop) is None
    assert seen == [16, 32]
