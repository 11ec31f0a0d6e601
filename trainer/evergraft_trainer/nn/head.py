"""The head: pooling, then one linear layer from features to logits; the same kind for every family.

A ViT's activation (tokens × width) is pooled by taking the class token, a ResNet's (channels × height × width) by
averaging over space, as torchvision does. Called through the registry and by ``assemble`` for features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from evergraft_trainer.nn.kind import Config, Kind, Shape, expect, fields, linear_flops
from evergraft_trainer.nn.noise import Noise

MAX_FEATURES = 1 << 16
MAX_CLASSES = 1 << 20
INITIAL_STD = 0.01
"""Standard deviation of a new head's weights: logits start near zero, so every class starts equal."""


def pool(x: Tensor) -> Tensor:
    """B×tokens×width or B×C×H×W to B×features."""
    if x.dim() == 3:
        return x[:, 0]
    return torch.flatten(functional.adaptive_avg_pool2d(x, (1, 1)), 1)


class Head(nn.Linear):
    """Logits of pooled features."""

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:  # noqa: ARG002 - one signature for all layers
        """B×…activation to B×classes."""
        return self.logits(pool(x))

    def logits(self, features: Tensor) -> Tensor:
        """B×features to B×classes."""
        return functional.linear(features, self.weight, self.bias)


def _check(config: Config) -> None:
    fields(config, required={"features": (1, MAX_FEATURES), "classes": (1, MAX_CLASSES)})


def _build(config: Config) -> nn.Module:
    return Head(config["features"], config["classes"])


def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    assert isinstance(network, Head)
    nn.init.normal_(network.weight, std=INITIAL_STD, generator=generator)
    nn.init.zeros_(network.bias)


def _trace(config: Config, shape: Shape) -> tuple[Shape, int]:
    expect(shape, (None, config["features"]) if len(shape) == 2 else (config["features"], None, None))
    return (config["classes"],), linear_flops(1, (config["features"], config["classes"]))


HEAD = Kind(name="head", check=_check, build=_build, initialise=_initialise, trace=_trace)
