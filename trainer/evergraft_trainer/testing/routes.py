"""A test kit: tiny routes in memory, to grow candidates on.

Shipped, as those who add a strategy or a backbone need it too; used by our own tests of routes as networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

from evergraft.graph.module import Module
from evergraft.graph.route import Layer
from evergraft.search.values import DeltaPlan, LayerAction, LayerPlan
from evergraft_trainer.nn.assemble import RouteModel, load_route
from evergraft_trainer.nn.backbones import root_modules
from evergraft_trainer.nn.candidate import build_candidate
from evergraft_trainer.nn.extract import extract, layer_of

VIT: Mapping[str, Any] = {"imageSize": 8, "patchSize": 4, "width": 12, "depth": 3, "heads": 3}
RESNET: Mapping[str, Any] = {"imageSize": 8, "depths": [1, 2], "widths": [4, 8]}


@dataclass
class Shelf:
    """Modules by id, and a route on them."""

    layers: tuple[Layer, ...]
    modules: dict[str, Module] = field(default_factory=dict)

    def get(self, module_id: str) -> Module:
        """A module by its id."""
        return self.modules[module_id]

    def load(self) -> RouteModel:
        """The route as a network, frozen."""
        return load_route(self.layers, self.get, image_size=8)

    def plan(
        self, action: LayerAction = "share", *, deltas: Sequence[DeltaPlan] = (), head: LayerAction = "new"
    ) -> list[LayerPlan]:
        """The same for every layer, deltas on blocks; a head, if asked."""
        plan = [
            LayerPlan(
                name=layer.name,
                action=action,
                deltas=tuple(deltas) if layer.name.startswith("block.") else (),
            )
            for layer in self.layers
            if layer.kind != "head"
        ]
        return [*plan, LayerPlan(name="head", action=head)]

    def candidate(
        self, plan: Sequence[LayerPlan], *, labels: str = "abc", parent: str = "", seed: int = 1
    ) -> RouteModel:
        """The candidate that `plan` makes; each character of `labels` and `parent` (its labels) is a label."""
        return build_candidate(
            self.layers, self.get, plan, labels=tuple(labels), parent_labels=tuple(parent), seed=seed, image_size=8
        )

    def grow(self, model: RouteModel) -> Shelf:
        """The shelf after a commit of `model`."""
        layers, made = extract(model)
        return Shelf(layers=layers, modules={**self.modules, **made})


def shelf(backbone: str, config: Mapping[str, Any], *, seed: int = 0) -> Shelf:
    """A shelf with a seeded root."""
    named = root_modules(backbone, config, seed=seed)
    layers = tuple(layer_of(name, module) for name, module in named)
    return Shelf(layers=layers, modules={module.id: module for _, module in named})


def images(count: int = 4, *, channels: int = 1, size: int = 8, seed: int = 5) -> torch.Tensor:
    """Random images, a pure function of the arguments."""
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def train(model: RouteModel, *, steps: int = 3, rate: float = 0.1, start: int = 0) -> None:
    """A few steps of SGD on random labels."""
    optimizer = torch.optim.SGD(model.trained_parameters().values(), lr=rate)
    model.train()
    for step in range(start, start + steps):
        model.seek(4 * step)
        optimizer.zero_grad()
        labels = torch.randint(0, 3, (4,), generator=torch.Generator().manual_seed(step))
        functional.cross_entropy(model(images(seed=step)), labels).backward()
        optimizer.step()
    model.eval()
