"""The layers of a Vision Transformer, giving torchvision's own bits for the same weights.

Attention keeps torchvision's order of rows (tokens outermost) in its matrix products, because a product's bits
depend on it, but skips the bookkeeping of ``nn.MultiheadAttention``. Tensor names are ours; ``decompose`` maps
torchvision's onto them. Kinds: ``patch_embed``, ``class_token``, ``position_embed``, ``encoder_block``, ``norm``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from evergraft.errors import IntegrityError
from evergraft_trainer.nn.adapter import Adapter, initialise_adapter
from evergraft_trainer.nn.kind import Config, Kind, Shape, expect, fields, integer, linear_flops
from evergraft_trainer.nn.lora import Lora
from evergraft_trainer.nn.noise import Noise

MAX_WIDTH = 1 << 14
MAX_MLP = 1 << 16
MAX_TOKENS = 1 << 16
MAX_ADAPTERS = 64
NORM_EPSILON = 1e-6


class PatchEmbed(nn.Module):
    """Cuts an image into patches and projects each to `width`."""

    def __init__(self, *, channels: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:  # noqa: ARG002 - one signature for all layers
        """B×C×S×S to B×patches×width."""
        patches: Tensor = self.projection(x)
        return patches.flatten(2).permute(0, 2, 1)


class ClassToken(nn.Module):
    """Puts one learned token before the patches."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:  # noqa: ARG002 - one signature for all layers
        """B×patches×width to B×(1 + patches)×width."""
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)


class PositionEmbed(nn.Module):
    """Adds a learned vector to each token."""

    def __init__(self, *, tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(1, tokens, width))

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """B×tokens×width, the same shape out."""
        x = x + self.embedding
        return x if noise is None else noise.drop(x)


class EncoderBlock(nn.Module):
    """Attention and MLP, each after a LayerNorm and around a residual; adapters of its ancestors run first."""

    def __init__(self, *, width: int, heads: int, mlp: int, adapters: tuple[int, ...]) -> None:
        super().__init__()
        self.heads = heads
        self.adapters = nn.ModuleList(Adapter(features=width, width=inner) for inner in adapters)
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.qkv = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.fc1 = nn.Linear(width, mlp)
        self.fc2 = nn.Linear(mlp, width)

    def forward(self, x: Tensor, noise: Noise | None = None, lora: Lora | None = None) -> Tensor:
        """B×tokens×width, the same shape out."""
        for adapter in self.adapters:
            x = adapter(x)
        attended = self._attend(self.norm1(x), lora)
        if noise is not None:
            attended = noise.drop_branch(noise.drop(attended))
        x = attended + x
        hidden = functional.gelu(_project(self.fc1, self.norm2(x), lora, "fc1"))
        if noise is not None:
            hidden = noise.drop(hidden)
        hidden = _project(self.fc2, hidden, lora, "fc2")
        if noise is not None:
            hidden = noise.drop_branch(noise.drop(hidden))
        return x + hidden

    def _attend(self, x: Tensor, lora: Lora | None) -> Tensor:
        batch, tokens, width = x.shape
        packed = _project_rows(self.qkv, x.transpose(0, 1), lora, "qkv").view(tokens, batch, 3, width)
        split = packed.permute(2, 0, 1, 3).contiguous().view(3, tokens, batch, self.heads, width // self.heads)
        query, key, value = split.permute(0, 2, 3, 1, 4).unbind()
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION if x.device.type == "cpu" else SDPBackend.MATH):
            mixed = functional.scaled_dot_product_attention(query, key, value)
        rows = mixed.permute(2, 0, 1, 3).reshape(tokens * batch, width)
        return _project(self.out_proj, rows, lora, "out_proj").view(tokens, batch, width).transpose(0, 1)


class FinalNorm(nn.LayerNorm):
    """The LayerNorm after the last block."""

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:  # noqa: ARG002 - one signature for all layers
        """B×tokens×width, the same shape out."""
        return super().forward(x)


def matrices(config: Config) -> Mapping[str, tuple[int, int]]:
    """(inputs, outputs) of the four matrices of an encoder block, by name."""
    width, mlp = config["width"], config["mlp"]
    return {"qkv": (width, 3 * width), "out_proj": (width, width), "fc1": (width, mlp), "fc2": (mlp, width)}


def resize_positions(embedding: Tensor, tokens: int) -> Tensor:
    """Bicubic resizing of 1×(1 + n²)×width position embeddings to `tokens` = 1 + m², as torchvision does it.

    Raises:
        IntegrityError: either count of patches is no square.
    """
    old, new = math.isqrt(embedding.shape[1] - 1), math.isqrt(tokens - 1)
    if old * old + 1 != embedding.shape[1] or new * new + 1 != tokens:
        raise IntegrityError(f"position embeddings of {embedding.shape[1]} tokens cannot be resized to {tokens}")
    grid = embedding[:, 1:].permute(0, 2, 1).reshape(1, -1, old, old)
    grid = functional.interpolate(grid, size=new, mode="bicubic", align_corners=True)
    return torch.cat([embedding[:, :1], grid.reshape(1, -1, new * new).permute(0, 2, 1)], dim=1).contiguous()


def _project(linear: nn.Linear, x: Tensor, lora: Lora | None, name: str) -> Tensor:
    y = functional.linear(x, linear.weight, linear.bias)
    return y if lora is None or name not in lora.targets else y + lora.change(name, x).view(y.shape)


def _project_rows(linear: nn.Linear, x: Tensor, lora: Lora | None, name: str) -> Tensor:
    """`_project` of tokens×B×width to (tokens · B)×outputs, spelled out.

    For an input in another order than memory's, torch would choose between products of different bits by whether the
    weights require a gradient. A layer must answer alike frozen and trained, so the choice that it makes for weights
    in training (and so for a plain torchvision model) is written down here.
    """
    rows = x.reshape(-1, x.shape[-1])
    if x.is_contiguous():
        return _project(linear, rows, lora, name)
    y = torch.mm(rows, linear.weight.t())
    y = y + linear.bias.to(y.dtype)
    return y if lora is None or name not in lora.targets else y + lora.change(name, rows)


def _check_patch_embed(config: Config) -> None:
    fields(config, required={"channels": (1, 16), "patchSize": (1, 256), "width": (1, MAX_WIDTH)})


def _check_width(config: Config) -> None:
    fields(config, required={"width": (1, MAX_WIDTH)})


def _check_position_embed(config: Config) -> None:
    fields(config, required={"tokens": (1, MAX_TOKENS), "width": (1, MAX_WIDTH)})


def _check_encoder_block(config: Config) -> None:
    sizes = {"width": (1, MAX_WIDTH), "heads": (1, MAX_WIDTH), "mlp": (1, MAX_MLP)}
    fields(config, required=sizes, optional=("adapters",))
    if config["width"] % config["heads"]:
        raise IntegrityError(
            f"config field 'heads' is {config['heads']}, which does not divide width {config['width']}"
        )
    adapters = config.get("adapters", [])
    if not isinstance(adapters, list) or len(adapters) > MAX_ADAPTERS:
        raise IntegrityError(f"config field 'adapters' is no list of at most {MAX_ADAPTERS} widths")
    for width in adapters:
        integer(width, name="adapters", least=1, most=MAX_WIDTH)


def _build_encoder_block(config: Config) -> nn.Module:
    adapters = tuple(config.get("adapters", ()))
    return EncoderBlock(width=config["width"], heads=config["heads"], mlp=config["mlp"], adapters=adapters)


def _initialise_patch_embed(network: nn.Module, generator: torch.Generator) -> None:
    assert isinstance(network, PatchEmbed)
    convolution = network.projection
    fan_in = convolution.in_channels * convolution.kernel_size[0] * convolution.kernel_size[1]
    nn.init.trunc_normal_(convolution.weight, std=math.sqrt(1 / fan_in), generator=generator)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)


def _initialise_class_token(network: nn.Module, generator: torch.Generator) -> None:
    assert isinstance(network, ClassToken)
    nn.init.normal_(network.token, std=0.02, generator=generator)


def _initialise_position_embed(network: nn.Module, generator: torch.Generator) -> None:
    assert isinstance(network, PositionEmbed)
    nn.init.normal_(network.embedding, std=0.02, generator=generator)


def _initialise_norm(network: nn.Module, generator: torch.Generator) -> None:  # noqa: ARG001 - nothing to draw
    assert isinstance(network, nn.LayerNorm)
    nn.init.ones_(network.weight)
    nn.init.zeros_(network.bias)


def _initialise_encoder_block(network: nn.Module, generator: torch.Generator) -> None:
    assert isinstance(network, EncoderBlock)
    for linear in (network.qkv, network.out_proj, network.fc1, network.fc2):
        nn.init.xavier_uniform_(linear.weight, generator=generator)
        nn.init.zeros_(linear.bias)
    for norm in (network.norm1, network.norm2):
        _initialise_norm(norm, generator)
    for adapter in network.adapters:
        initialise_adapter(adapter, generator)


def _trace_patch_embed(config: Config, shape: Shape) -> tuple[Shape, int]:
    patch = config["patchSize"]
    expect(shape, (config["channels"], None, None))
    if shape[1] % patch or shape[2] % patch or shape[1] < patch:
        raise IntegrityError(f"patches of {patch} px do not divide an image of {shape[1]} × {shape[2]} px")
    patches = (shape[1] // patch) * (shape[2] // patch)
    return (patches, config["width"]), linear_flops(patches, (config["channels"] * patch * patch, config["width"]))


def _trace_class_token(config: Config, shape: Shape) -> tuple[Shape, int]:
    expect(shape, (None, config["width"]))
    return (shape[0] + 1, shape[1]), 0


def _trace_position_embed(config: Config, shape: Shape) -> tuple[Shape, int]:
    expect(shape, (config["tokens"], config["width"]))
    return shape, 0


def _trace_norm(config: Config, shape: Shape) -> tuple[Shape, int]:
    expect(shape, (None, config["width"]))
    return shape, 0


def _trace_encoder_block(config: Config, shape: Shape) -> tuple[Shape, int]:
    width = config["width"]
    expect(shape, (None, width))
    tokens = shape[0]
    flops = linear_flops(tokens, *matrices(config).values()) + 2 * linear_flops(tokens, (tokens, width))
    return shape, flops + sum(2 * linear_flops(tokens, (width, inner)) for inner in config.get("adapters", ()))


KINDS: tuple[Kind, ...] = (
    Kind(
        name="patch_embed",
        check=_check_patch_embed,
        build=lambda c: PatchEmbed(channels=c["channels"], patch_size=c["patchSize"], width=c["width"]),
        initialise=_initialise_patch_embed,
        trace=_trace_patch_embed,
    ),
    Kind(
        name="class_token",
        check=_check_width,
        build=lambda c: ClassToken(width=c["width"]),
        initialise=_initialise_class_token,
        trace=_trace_class_token,
    ),
    Kind(
        name="position_embed",
        check=_check_position_embed,
        build=lambda c: PositionEmbed(tokens=c["tokens"], width=c["width"]),
        initialise=_initialise_position_embed,
        trace=_trace_position_embed,
    ),
    Kind(
        name="encoder_block",
        check=_check_encoder_block,
        build=_build_encoder_block,
        initialise=_initialise_encoder_block,
        trace=_trace_encoder_block,
    ),
    Kind(
        name="norm",
        check=_check_width,
        build=lambda c: FinalNorm(c["width"], eps=NORM_EPSILON),
        initialise=_initialise_norm,
        trace=_trace_norm,
    ),
)
