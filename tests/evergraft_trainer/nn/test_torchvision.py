"""Torchvision's models as our layers, recomposed: the same bits for the same weights, forward and backward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from evergraft.search.values import LayerPlan
from evergraft_trainer.nn.assemble import RouteModel, load_route
from evergraft_trainer.nn.backbones import NAMED, root_plan
from evergraft_trainer.nn.candidate import build_candidate
from evergraft_trainer.nn.decompose import from_torchvision, head_from_torchvision
from evergraft_trainer.nn.extract import layer_of
from evergraft_trainer.nn.layers import LAYERS
from evergraft_trainer.nn.vit import resize_positions


def recomposed(model: nn.Module, backbone: str, config: Mapping[str, Any], *, trained: bool = False) -> RouteModel:
    named = [*from_torchvision(model, root_plan(backbone, config)), ("head", head_from_torchvision(model))]
    layers = [layer_of(name, module) for name, module in named]
    get = {module.id: module for _, module in named}.__getitem__
    size = config.get("imageSize", 224)
    if not trained:
        return load_route(layers, get, image_size=size)
    plan = [LayerPlan(name=layer.name, action="clone") for layer in layers]
    labels = tuple(str(label) for label in range(10))
    return build_candidate(layers, get, plan, labels=labels, parent_labels=labels, seed=0, image_size=size)


def shake(model: nn.Module) -> nn.Module:
    """Random values everywhere: torchvision's zero head and unit norms would hide mistakes."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                module.running_mean.normal_(generator=generator)
    return model


def draw(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(3))


def tiny_vit() -> nn.Module:
    torch.manual_seed(0)
    return shake(
        VisionTransformer(
            image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=48, mlp_dim=96, num_classes=10
        )
    )


TINY_VIT = {"imageSize": 32, "patchSize": 8, "width": 48, "depth": 2, "heads": 4, "mlpDim": 96, "channels": 3}
RESNETS = {
    "basic": (BasicBlock, [1, 2, 1, 1]),
    "bottleneck": (Bottleneck, [1, 1, 2, 1]),
}


def tiny_resnet(block: str) -> tuple[nn.Module, dict[str, Any]]:
    torch.manual_seed(0)
    kind, depths = RESNETS[block]
    model = ResNet(kind, depths, num_classes=10)
    sizes = {"block": block, "depths": depths, "widths": [64, 128, 256, 512], "stem": "large"}
    return shake(model), {**sizes, "imageSize": 32, "channels": 3}


@pytest.mark.parametrize("count", [1, 3])
def test_a_small_vit_gives_torchvisions_bits(count: int) -> None:
    model = tiny_vit().eval()
    ours = recomposed(model, "vit", TINY_VIT)
    with torch.no_grad():
        assert torch.equal(ours(draw(count, 32)), model(draw(count, 32)))


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_small_resnet_gives_torchvisions_bits(block: str) -> None:
    model, config = tiny_resnet(block)
    model.eval()
    with torch.no_grad():
        assert torch.equal(recomposed(model, "resnet", config)(draw(2, 32)), model(draw(2, 32)))


def test_a_training_step_of_a_vit_gives_torchvisions_gradients() -> None:
    model = tiny_vit().train()
    ours = recomposed(model, "vit", TINY_VIT, trained=True).train()
    _same_gradients(ours, model, draw(3, 32))


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_training_step_of_a_resnet_gives_torchvisions_gradients_and_statistics(block: str) -> None:
    model, config = tiny_resnet(block)
    ours = recomposed(model, "resnet", config, trained=True)
    _same_gradients(ours.train(), model.train(), draw(3, 32))
    model.eval()
    ours.eval()
    assert torch.equal(ours(draw(2, 32)), model(draw(2, 32)))  # running statistics moved alike


def _same_gradients(ours: RouteModel, model: nn.Module, batch: torch.Tensor) -> None:
    labels = torch.tensor([1, 7, 4])
    expected, got = model(batch), ours(batch)
    assert torch.equal(expected, got)
    for logits in (expected, got):
        nn.functional.cross_entropy(logits, labels).backward()

    def gradients(of: nn.Module) -> list[tuple[float, ...]]:
        found = [p.grad for p in of.parameters() if p.grad is not None]
        return sorted(tuple(grad.flatten().tolist()) for grad in found)

    assert len(gradients(ours)) == len(list(model.parameters()))
    assert gradients(ours) == gradients(model)


@pytest.mark.parametrize("backbone", ["vit_b_16", "resnet18"])
def test_real_shapes_give_torchvisions_bits(backbone: str) -> None:
    torch.manual_seed(0)
    model = shake(getattr(models, backbone)(weights=None, num_classes=10)).eval()
    ours = recomposed(model, backbone, {})
    with torch.no_grad():
        assert torch.equal(ours(draw(1, 224)), model(draw(1, 224)))


@pytest.mark.parametrize("backbone", sorted(NAMED))
def test_named_backbones_have_torchvisions_parameters(backbone: str) -> None:
    with torch.device("meta"):
        model = getattr(models, backbone)(weights=None)
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    expected = sum(p.numel() for p in model.parameters()) - last.weight.numel() - last.bias.numel()
    assert sum(LAYERS[kind].parameters(config) for _, kind, config in root_plan(backbone, {})) == expected


def test_positions_resize_as_torchvisions_do() -> None:
    old = torch.randn(1, 17, 12, generator=torch.Generator().manual_seed(0))
    expected = interpolate_embeddings(36, 4, {"encoder.pos_embedding": old})["encoder.pos_embedding"]
    assert torch.equal(resize_positions(old, 82), expected)
