"""Roots: the backbones a graph can start from, seeded or taken from torchvision's models.

A root has no head; each task makes its own. ``vit`` and ``resnet`` are general; the named ones are torchvision's
shapes. Called by ``graph init``, ``import-root`` and tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from evergraft.errors import IntegrityError, SpecError
from evergraft.graph.module import Module
from evergraft_trainer.nn import codec
from evergraft_trainer.nn.candidate import fresh
from evergraft_trainer.nn.kind import Config, integer
from evergraft_trainer.nn.resnet import EXPANSION

Plan = list[tuple[str, str, dict[str, Any]]]
"""Layers of a root in order: (name, kind, config)."""

MAX_DEPTH = 256
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}

_IMAGENET_VIT = {"imageSize": 224, "channels": 3}
_IMAGENET_RESNET = {"imageSize": 224, "channels": 3, "widths": [64, 128, 256, 512], "stem": "large"}

NAMED: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "vit_b_16": ("vit", {**_IMAGENET_VIT, "patchSize": 16, "width": 768, "depth": 12, "heads": 12}),
        "vit_b_32": ("vit", {**_IMAGENET_VIT, "patchSize": 32, "width": 768, "depth": 12, "heads": 12}),
        "vit_l_16": ("vit", {**_IMAGENET_VIT, "patchSize": 16, "width": 1024, "depth": 24, "heads": 16}),
        "resnet18": ("resnet", {**_IMAGENET_RESNET, "block": "basic", "depths": [2, 2, 2, 2]}),
        "resnet34": ("resnet", {**_IMAGENET_RESNET, "block": "basic", "depths": [3, 4, 6, 3]}),
        "resnet50": ("resnet", {**_IMAGENET_RESNET, "block": "bottleneck", "depths": [3, 4, 6, 3]}),
        "resnet101": ("resnet", {**_IMAGENET_RESNET, "block": "bottleneck", "depths": [3, 4, 23, 3]}),
    }
)
"""Named backbones: the general one, and torchvision's sizes."""

_VIT_FIELDS = ("imageSize", "patchSize", "width", "depth", "heads", "mlpRatio", "mlpDim", "channels")
_RESNET_FIELDS = ("imageSize", "channels", "block", "depths", "widths", "stem")


def root_plan(backbone: str, config: Config) -> Plan:
    """The layers of a root. `config` overrides a named backbone's sizes.

    Config of ``vit``: imageSize, patchSize, width, depth, heads; optional mlpDim or mlpRatio (4), channels (1).
    Of ``resnet``: imageSize, depths and widths (one number a stage); optional block (basic | bottleneck), channels
    (1), stem (small: 3×3 of stride 1 | large: 7×7 of stride 2 and a maximum).

    Raises:
        SpecError: an unknown backbone, or a field that is wrong.
    """
    family, sizes = _resolve(backbone, config)
    try:
        return _vit(sizes) if family == "vit" else _resnet(sizes)
    except IntegrityError as error:
        raise SpecError(f"root.config: {error}") from None


def root_modules(backbone: str, config: Config, *, seed: int) -> list[tuple[str, Module]]:
    """The named modules of a root with random weights, a pure function of its arguments.

    Raises:
        SpecError: an unknown backbone, or a field that is wrong.
    """
    try:
        return [
            (name, codec.module(kind, sizes, fresh(kind, sizes, seed=seed, name=name), where=f"layer {name!r}"))
            for name, kind, sizes in root_plan(backbone, config)
        ]
    except IntegrityError as error:
        raise SpecError(f"root.config: {error}") from None


def root_preprocessing(backbone: str, config: Config) -> dict[str, Any]:
    """The preprocessing a root asks for: imageSize (px), channels, mean and std of pixels in 0…1, interpolation."""
    family, sizes = _resolve(backbone, config)
    channels = sizes.get("channels", 1)
    size = sizes.get("imageSize")
    try:
        integer(size, name="imageSize", least=1, most=4096)
        integer(channels, name="channels", least=1, most=3)
    except IntegrityError as error:
        raise SpecError(f"root.config: {error}") from None
    named = backbone != family and channels == 3
    mean, std = (IMAGENET["mean"], IMAGENET["std"]) if named else ([0.5] * channels, [0.5] * channels)
    return {"imageSize": size, "channels": channels, "mean": mean, "std": std, "interpolation": "bilinear"}


def _resolve(backbone: str, config: Config) -> tuple[str, dict[str, Any]]:
    if backbone not in NAMED and backbone not in ("vit", "resnet"):
        raise SpecError(f"root.backbone: {backbone!r} is unknown; allowed: vit, resnet, {', '.join(NAMED)}")
    family, sizes = NAMED.get(backbone, (backbone, {}))
    allowed = _VIT_FIELDS if family == "vit" else _RESNET_FIELDS
    if unknown := sorted(set(config) - set(allowed)):
        raise SpecError(f"root.config.{unknown[0]}: unknown field; allowed: {', '.join(allowed)}")
    return family, {**sizes, **config}


def _vit(sizes: Mapping[str, Any]) -> Plan:
    width = integer(sizes.get("width"), name="width", least=1, most=1 << 14)
    patch = integer(sizes.get("patchSize"), name="patchSize", least=1, most=256)
    image = integer(sizes.get("imageSize"), name="imageSize", least=1, most=4096)
    depth = integer(sizes.get("depth"), name="depth", least=1, most=MAX_DEPTH)
    ratio = integer(sizes.get("mlpRatio", 4), name="mlpRatio", least=1, most=64)
    if image % patch:
        raise IntegrityError(f"config field 'imageSize' is {image}, which is no multiple of patchSize {patch}")
    block = {"width": width, "heads": sizes.get("heads"), "mlp": sizes.get("mlpDim", ratio * width)}
    return [
        ("patch_embed", "patch_embed", {"channels": sizes.get("channels", 1), "patchSize": patch, "width": width}),
        ("class_token", "class_token", {"width": width}),
        ("position_embed", "position_embed", {"tokens": (image // patch) ** 2 + 1, "width": width}),
        *((f"block.{place:02d}", "encoder_block", dict(block)) for place in range(depth)),
        ("norm", "norm", {"width": width}),
    ]


def _resnet(sizes: Mapping[str, Any]) -> Plan:
    depths, widths = sizes.get("depths"), sizes.get("widths")
    if not isinstance(depths, list) or not isinstance(widths, list) or not 1 <= len(depths) == len(widths) <= 8:
        raise IntegrityError("config fields 'depths' and 'widths' are lists of the same length, one number a stage")
    block, large = sizes.get("block", "basic"), _is_large(sizes.get("stem", "small"))
    if block not in EXPANSION:
        raise IntegrityError(f"config field 'block' is {block!r}; allowed: basic, bottleneck")
    stem = {"channels": sizes.get("channels", 1), "width": widths[0]}
    stem |= {"kernel": 7, "stride": 2, "pool": True} if large else {"kernel": 3, "stride": 1, "pool": False}
    plan: Plan = [("stem", "stem", stem)]
    inputs = integer(widths[0], name="widths", least=1, most=1 << 13)
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        integer(width, name="widths", least=1, most=1 << 13)
        for place in range(integer(depth, name="depths", least=1, most=MAX_DEPTH)):
            stride = 2 if place == 0 and stage > 0 else 1
            config = {"block": block, "input": inputs, "width": width, "stride": stride}
            plan.append((f"block.{len(plan) - 1:02d}", "residual_block", config))
            inputs = width * EXPANSION[block]
    return plan


def _is_large(stem: object) -> bool:
    if stem not in ("small", "large"):
        raise IntegrityError(f"config field 'stem' is {stem!r}; allowed: small, large")
    return stem == "large"
