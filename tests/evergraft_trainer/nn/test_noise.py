"""Dropout and stochastic depth: exact resume, nothing global, frozen layers untouched."""

from __future__ import annotations

import pytest
import torch

from evergraft_trainer.nn.assemble import RouteModel
from evergraft_trainer.nn.candidate import build_candidate
from evergraft_trainer.nn.extract import extract
from evergraft_trainer.nn.noise import Noise
from evergraft_trainer.testing.routes import Shelf, images, train


def noisy(parent: Shelf, action: str = "clone") -> RouteModel:
    return build_candidate(
        parent.layers,
        parent.get,
        parent.plan("clone" if action == "clone" else "share"),
        labels=tuple("abc"),
        seed=3,
        image_size=8,
        dropout=0.2,
        stochastic_depth=0.5,
    )


@pytest.mark.parametrize("backbone", ["vit", "resnet"])
def test_a_resumed_training_draws_the_same_noise(backbone: str, request: pytest.FixtureRequest) -> None:
    parent: Shelf = request.getfixturevalue(backbone)
    straight = noisy(parent)
    train(straight, steps=4)
    halfway = noisy(parent)
    train(halfway, steps=2)
    resumed = noisy(parent)
    resumed.restore(halfway.trained_state())
    train(resumed, steps=2, start=2)
    assert extract(resumed)[0] == extract(straight)[0]


def test_noise_depends_on_seed_layer_and_position_alone() -> None:
    def draw(layer: str, position: int, seed: int = 0) -> torch.Tensor:
        noise = Noise(seed=seed, layer=layer, dropout=0.5, depth=0.0)
        noise.seek(position)
        return noise.drop(torch.ones(8, 8))

    state = torch.get_rng_state()
    assert torch.equal(draw("a", 32), draw("a", 32))
    assert torch.equal(torch.get_rng_state(), state)
    others = (draw("b", 32), draw("a", 64), draw("a", 32, seed=1))
    assert not any(torch.equal(draw("a", 32), other) for other in others)


def test_noise_keeps_the_mean_and_drops_whole_branches() -> None:
    noise = Noise(seed=0, layer="a", dropout=0.25, depth=0.5)
    dropped = noise.drop(torch.ones(100, 100))
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    branches = noise.drop_branch(torch.ones(200, 3, 2))
    assert set(branches.flatten(1).unique(dim=0).flatten().tolist()) == {0.0, 2.0}


def test_noise_is_only_in_training_layers_and_only_in_training(vit: Shelf) -> None:
    model = noisy(vit)
    model.train()
    model.seek(0)
    one = model(images())
    model.seek(4)
    assert not torch.equal(one, model(images()))
    assert torch.equal(model.eval()(images()), model(images()))
    frozen = noisy(vit, "share").train()
    assert [layer.noise is not None for layer in frozen.route_layers()] == [False] * 7 + [True]
