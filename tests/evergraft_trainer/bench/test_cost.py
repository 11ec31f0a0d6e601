"""Operations of a candidate, by hand: three forward passes for full training, one prefix an image for a head alone."""

from __future__ import annotations

from typing import Any

import pytest

from evergraft.graph.route import Layer
from evergraft.search.values import SlotResult
from evergraft_trainer.bench.cost import training_flops

LAYERS = tuple(Layer(name=name, kind="k", module=name, parameters=100) for name in ("low", "mid", "top", "head"))
RESULT = SlotResult(
    generation=0,
    slot=0,
    claim="1",
    layers=LAYERS,
    quality=0.5,
    metrics={},
    parameters=400,
    flops=4000,
    samples=64,
    forward_samples=10,
    seconds=1.0,
    profile={},
)


def plan(actions: dict[str, str], *, crop: bool = False, kind: str = "train", deltas: bool = False) -> dict[str, Any]:
    layers = [
        {"name": layer.name, "action": actions.get(layer.name, "share"), "deltas": [{"kind": "lora"}] if deltas else []}
        for layer in LAYERS
    ]
    return {"kind": kind, "layers": layers, "hyperparameters": {"crop": crop}}


@pytest.mark.parametrize(
    ("made", "passes"),
    [
        (plan({layer.name: "clone" for layer in LAYERS}), 3 * 64),
        (plan({}, deltas=True), 2 * 64),
        # Three quarters of the route are frozen below: run once for each of 16 images, or for each sample if they vary.
        (plan({"head": "new"}), 0.75 * 16 + 0.25 * 3 * 64),
        (plan({"head": "new"}, crop=True), 0.75 * 64 + 0.25 * 3 * 64),
        (plan({}, kind="probe"), 0),
    ],
)
def test_training_is_counted_in_forward_passes(made: dict[str, Any], passes: float) -> None:
    assert training_flops(made, RESULT, distinct=16) == passes * 4000
