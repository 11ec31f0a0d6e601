"""mu2net against a transcript worked by hand from the published rules: 2 generations of 3, two public routes, a root.

The graph: the root has patch (10 parameters), block.00 and block.01 (100 each), norm (4) and no head. a/one clones the
root's block.01 and norm; a/two is a child of a/one and clones its block.00 and norm. This task tried once before,
without success, and then drew the root once. The draws of each stream are written here as read from the generator; what
follows from them is worked out in the comments, by the rules, and stands in the tables as literals.
"""

from __future__ import annotations

import math

import pytest

from evergraft.search.rng import Rng
from evergraft.search.score import accounted_parameters, result_score
from evergraft.search.strategies import get
from evergraft.search.values import CandidatePlan, Finish, Generation, SlotRef, View
from evergraft.testing.views import advance, made_child, made_root, made_view

SEED = 1147
ROOT = made_root()
ONE = made_child("a/one", ROOT, clones=["block.01", "norm"])
TWO = made_child("a/two", ONE, clones=["block.00", "norm"])
VIEW = made_view(
    [ROOT, ONE, TWO],
    sampled={ROOT.id: 1},
    seed=SEED,
    samples=200,
    batch_size=8,
    validations=2,
    size_decay=0.9,
    parameters={"generations": 2, "candidates": 3},
)

QUALITIES = {(0, 0): None, (0, 1): 0.7, (0, 2): 0.6, (1, 0): 0.65, (1, 1): 0.72, (1, 2): 0.71}
"""What training gives; 0-0 diverges."""

# The shuffle of [a/one, a/two, root]: below(3) = 0 swaps the last with the first: [root, a/two, a/one]; below(2) = 0
# swaps the second with the first: [a/two, root, a/one].
ORDER_DRAWS = [0, 0]

DRAWS = {
    # Generation 0. Nothing of this task stands, so (a) is empty and the order of (b) is a/two, root, a/one.
    # a/two: never sampled, accepted with certainty.
    (0, 0, "parent"): [0.946],
    # Begins behind a/two: root was sampled once, 0.662 ≥ 0.5, passed over; a/one: never, accepted.
    (0, 1, "parent"): [0.662, 0.692],
    # Begins behind a/one: a/two once, 0.549; root once, 0.877; a/one once, 0.781: all passed over. (c): below(3) = 0
    # of [a/two, root, a/one], see CHOICE.
    (0, 2, "parent"): [0.549, 0.877, 0.781],
    # Generation 1. Kept: 0-1 (0.648), 0-2 (0.570). The order begins behind a/two: root, a/one, a/two.
    # 0-1: never sampled, accepted.
    (1, 0, "parent"): [0.097],
    # 0-1 once, 0.950 ≥ 0.5; 0-2 never: accepted.
    (1, 1, "parent"): [0.95, 0.718],
    # 0-1 once, 0.985; 0-2 once, 0.630; root once, in the earlier search only: 0.074 < 0.5, accepted.
    (1, 2, "parent"): [0.985, 0.63, 0.074],
    # µ = 0.2 everywhere, from the defaults. Crop and minimum area stay; aspect: 0.079 < 0.2 steps, 0.640 ≥ 0.5 down to
    # 0.5; flip: 0.015 steps, 0.753 down to off; brightness stays; contrast: 0.056 steps, 0.311 up to 0.01; saturation
    # stays; hue: 0.118 steps, 0.970 down, clamped at 0.
    (0, 0, "data"): [0.463, 0.555, 0.079, 0.64, 0.015, 0.753, 0.866, 0.056, 0.311, 0.642, 0.118, 0.97],
    # From 0-1, the best. Crop stays; area: 0.091 steps, 0.291 up to 0.1; aspect stays; flip: 0.183 steps, 0.138 up to
    # on; brightness stays; contrast: 0.113 steps, 0.614 down to 0; saturation: 0.077 steps, 0.388 up to .01; hue stays.
    (1, 0, "data"): [0.475, 0.091, 0.291, 0.57, 0.183, 0.138, 0.802, 0.113, 0.614, 0.077, 0.388, 0.21],
    # µ, rate, warm-up, momentum stay; Nesterov: 0.097 < 0.2 steps, 0.608 down, clamped at off.
    (0, 0, "hyperparameters"): [0.373, 0.565, 0.553, 0.242, 0.097, 0.608],
    # All stay: the last is 0.207 ≥ 0.2.
    (0, 1, "hyperparameters"): [0.88, 0.47, 0.663, 0.649, 0.207],
    # µ: 0.176 < 0.2 steps, 0.786 down to 0.18; then with 0.18: three stay; Nesterov: 0.030 steps, 0.086 up to on.
    (0, 2, "hyperparameters"): [0.176, 0.786, 0.827, 0.442, 0.867, 0.03, 0.086],
    # From 0-1, µ 0.2 stays; rate: 0.116 steps, 0.566 down to 0.005; the others stay.
    (1, 0, "hyperparameters"): [0.478, 0.116, 0.566, 0.415, 0.253, 0.637],
    # From 0-2, µ 0.18 stays, rate stays; warm-up: 0.033 steps, 0.535 down to 0.02; momentum and Nesterov (on) stay.
    (1, 1, "hyperparameters"): [0.598, 0.861, 0.033, 0.535, 0.359, 0.303],
    # From the root: defaults. Momentum: 0.049 steps, 0.107 up to 0.95; the others stay.
    (1, 2, "hyperparameters"): [0.728, 0.723, 0.688, 0.049, 0.107, 0.825],
    # patch, block.00, block.01 against µ; the norm draws nothing. None under 0.2.
    (0, 0, "layers"): [0.262, 0.35, 0.283],
    # block.00: 0.036 < 0.2 is cloned.
    (0, 1, "layers"): [0.747, 0.036, 0.305],
    # None under 0.18.
    (0, 2, "layers"): [0.599, 0.711, 0.694],
    # patch, then block.01: block.00 is this task's own since 0-1 and draws nothing. Neither under 0.2.
    (1, 0, "layers"): [0.714, 0.277],
    # patch: 0.078 < 0.18 is cloned; the blocks are others' modules still, and stay.
    (1, 1, "layers"): [0.078, 0.503, 0.802],
    # block.00: 0.079 < 0.2 is cloned.
    (1, 2, "layers"): [0.981, 0.079, 0.608],
}

CHOICE = 0

PARENTS = {
    (0, 0): TWO.id,
    (0, 1): ONE.id,
    (0, 2): TWO.id,
    (1, 0): SlotRef(0, 1),
    (1, 1): SlotRef(0, 2),
    (1, 2): ROOT.id,
}

CLONED = {
    (0, 0): {"norm"},
    (0, 1): {"norm", "block.00"},
    (0, 2): {"norm"},
    (1, 0): {"norm", "block.00", "head"},
    (1, 1): {"norm", "patch", "head"},
    (1, 2): {"norm", "block.00"},
}

DEFAULTS = {
    "optimizer": "SGD",
    "mutationRate": 0.2,
    "learningRate": 0.01,
    "warmupRatio": 0.05,
    "momentum": 0.9,
    "nesterov": False,
}

CHANGED = {
    (0, 0): {},
    (0, 1): {},
    (0, 2): {"mutationRate": 0.18, "nesterov": True},
    (1, 0): {"learningRate": 0.005},
    (1, 1): {"mutationRate": 0.18, "nesterov": True, "warmupRatio": 0.02},
    (1, 2): {"momentum": 0.95},
}

DATA = {
    0: {
        "crop": True,
        "cropMinArea": 0.05,
        "cropMinAspect": 0.5,
        "flip": False,
        "brightness": 0.0,
        "contrast": 0.01,
        "saturation": 0.0,
        "hue": 0.0,
    },
    1: {
        "crop": True,
        "cropMinArea": 0.1,
        "cropMinAspect": 0.5,
        "flip": True,
        "brightness": 0.0,
        "contrast": 0.0,
        "saturation": 0.01,
        "hue": 0.0,
    },
}

# Accounted: a module's parameters over the tasks that use it, this one included; the root is no task. The root's patch
# is used by a/one and a/two, a/one's block.01 by both, a/two's block.00 by it alone, the root's block.01 by no other.
ACCOUNTED = {
    (0, 1): 10 / 3 + 100 + 100 / 3 + 4 + 6,  # own block.00, norm, head
    (0, 2): 10 / 3 + 100 / 2 + 100 / 3 + 4 + 6,  # a/two's block.00 shared with it
    (1, 0): 10 / 3 + 100 + 100 / 3 + 4 + 6,  # as its parent 0-1, block.00 cloned again
    (1, 1): 10 + 100 / 2 + 100 / 3 + 4 + 6,  # patch is its own now
    (1, 2): 10 / 3 + 100 + 100 + 4 + 6,  # the root's block.01 counts in full
}

# Score = quality × 0.9^(accounted ÷ 200): 0.7 × 0.9^0.7333 …
SCORES = {(0, 1): 0.64795, (0, 2): 0.57021, (1, 0): 0.60167, (1, 1): 0.68185, (1, 2): 0.63453}

# A child of this task is discarded below its parent: 1-0 needs 0-1's 0.64795 and has 0.60167.
THRESHOLDS = {(0, 0): None, (0, 1): None, (0, 2): None, (1, 0): 0.64795, (1, 1): 0.57021, (1, 2): None}


def generations() -> tuple[View, list[Generation], Finish]:
    strategy, view, plans = get("mu2net"), VIEW, []
    while not isinstance(plan := strategy.next(view), Finish):
        plans.append(plan)
        view = advance(view, plan, lambda ref, _: QUALITIES[ref.generation, ref.slot])
    return view, plans, plan


VIEW_AT_END, PLANS, FINISH = generations()
SLOTS = sorted(PARENTS)


def planned(slot: tuple[int, int]) -> CandidatePlan:
    return PLANS[slot[0]].candidates[slot[1]]


@pytest.mark.parametrize("stream", DRAWS, ids=str)
def test_the_draws_are_those_of_the_generator(stream: tuple[int, int, str]) -> None:
    rng = Rng(SEED, "t/new", *stream)
    assert [rng.uniform() for _ in DRAWS[stream]] == pytest.approx(DRAWS[stream], abs=0.0005)


def test_the_whole_numbers_are_those_of_the_generator() -> None:
    rng = Rng(SEED, "t/new", 0, 0, "order")
    assert [rng.below(3), rng.below(2)] == ORDER_DRAWS
    rng = Rng(SEED, "t/new", 0, 2, "parent")
    for _ in DRAWS[0, 2, "parent"]:
        rng.uniform()
    assert rng.below(3) == CHOICE


def test_there_are_two_generations_of_three() -> None:
    assert [len(plan.candidates) for plan in PLANS] == [3, 3]


@pytest.mark.parametrize("slot", SLOTS, ids=str)
def test_parent(slot: tuple[int, int]) -> None:
    assert planned(slot).start == PARENTS[slot]


def test_only_committed_routes_are_counted_as_sampled() -> None:
    assert [dict(plan.sampled) for plan in PLANS] == [{TWO.id: 2, ONE.id: 1}, {ROOT.id: 1}]


@pytest.mark.parametrize("slot", SLOTS, ids=str)
def test_layers(slot: tuple[int, int]) -> None:
    layers = planned(slot).layers
    assert [layer.name for layer in layers] == ["patch", "block.00", "block.01", "norm", "head"]
    assert {layer.name for layer in layers if layer.action == "clone"} == CLONED[slot]
    assert {layer.name for layer in layers if layer.action == "new"} == {"head"} - CLONED[slot]
    assert not any(layer.deltas or layer.source for layer in layers)


@pytest.mark.parametrize("slot", SLOTS, ids=str)
def test_hyperparameters(slot: tuple[int, int]) -> None:
    assert planned(slot).hyperparameters == {**DEFAULTS, **CHANGED[slot], **DATA[slot[0]]}


@pytest.mark.parametrize("slot", SLOTS, ids=str)
def test_training(slot: tuple[int, int]) -> None:
    plan = planned(slot)
    # 200 samples ÷ 6 candidates = 33, rounded down to whole batches of 8 = 32.
    assert (plan.samples, plan.validations) == (32, 2)
    assert (plan.schedule.span, plan.schedule.offset, plan.schedule.kind) == (32, 0, "cosine")
    # Momentum is copied with every clone.
    assert plan.optimizer == "carry"
    assert plan.threshold == (None if THRESHOLDS[slot] is None else pytest.approx(THRESHOLDS[slot], abs=5e-6))


@pytest.mark.parametrize("slot", SCORES, ids=str)
def test_score(slot: tuple[int, int]) -> None:
    result = VIEW_AT_END.result(SlotRef(*slot))
    assert result is not None
    assert accounted_parameters(VIEW_AT_END, result.layers) == pytest.approx(ACCOUNTED[slot])
    quality = QUALITIES[slot]
    assert quality is not None
    assert SCORES[slot] == pytest.approx(quality * math.exp(math.log(0.9) * ACCOUNTED[slot] / 200), abs=5e-6)
    assert result_score(VIEW_AT_END, result) == pytest.approx(SCORES[slot], abs=5e-6)


def test_the_end() -> None:
    # Kept: 0-1 0.64795, 0-2 0.57021, 1-1 0.68185, 1-2 0.63453. The task has no route, so the best is committed.
    assert (FINISH.outcome, FINISH.winner) == ("commit", SlotRef(1, 1))
