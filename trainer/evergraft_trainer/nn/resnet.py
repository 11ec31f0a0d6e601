"""The layers of a ResNet (basic and bottleneck), giving torchvision's own bits for the same weights.

Tensor names are torchvision's. BatchNorm runs in ``eval()`` in frozen layers; a trained layer updates the statistics
of its own copy. Kinds: ``stem``, ``residual_block``; the head averages over space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from evergraft_trainer.nn.kind import Config, Kind, Shape, choice, expect, fields
from evergraft_trainer.nn.noise import Noise

MAX_WIDTH = 1 << 13
EXPANSION = {"basic": 1, "bottleneck": 4}
"""Output channels of a block ÷ its width."""


class Stem(nn.Module):
    """Convolution, BatchNorm, ReLU and, if `pool`, a 3×3 maximum of stride 2."""

    def __init__(self, *, channels: int, width: int, kernel: int, stride: int, pool: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, kernel_size=kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = pool

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:  # noqa: ARG002 - one signature for all layers
        """B×C×S×S to B×width×H×W."""
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.max_pool2d(x, kernel_size=3, stride=2, padding=1) if self.pool else x


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions (basic) or 1×1, 3×3, 1×1 (bottleneck, stride at the 3×3), around a shortcut."""

    def __init__(self, *, block: str, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * EXPANSION[block]
        if block == "basic":
            self.conv1 = _convolution(inputs, width, kernel=3, stride=stride)
            self.conv2 = _convolution(width, width, kernel=3)
        else:
            self.conv1 = _convolution(inputs, width, kernel=1)
            self.conv2 = _convolution(width, width, kernel=3, stride=stride)
            self.conv3 = _convolution(width, outputs, kernel=1)
            self.bn3 = nn.BatchNorm2d(outputs)
        self.bn1 = nn.BatchNorm2d(width)
        self.bn2 = nn.BatchNorm2d(width)
        self.bottleneck = block == "bottleneck"
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            shortcut = _convolution(inputs, outputs, kernel=1, stride=stride)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """B×inputs×H×W to B×outputs×H/stride×W/stride."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.bottleneck:
            y = self.bn3(self.conv3(functional.relu(y)))
        if noise is not None:
            y = noise.drop_branch(y)
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


def _convolution(inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=kernel, stride=stride, padding=kernel // 2, bias=False)


def _check_stem(config: Config) -> None:
    sizes = {"channels": (1, 16), "width": (1, MAX_WIDTH)}
    fields(config, required=sizes, optional=("kernel", "stride", "pool"))
    choice(config, "kernel", (3, 5, 7))
    choice(config, "stride", (1, 2))
    choice(config, "pool", (True, False))


def _check_block(config: Config) -> None:
    fields(config, required={"input": (1, 4 * MAX_WIDTH), "width": (1, MAX_WIDTH)}, optional=("block", "stride"))
    choice(config, "block", ("basic", "bottleneck"))
    choice(config, "stride", (1, 2))


def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def _trace_stem(config: Config, shape: Shape) -> tuple[Shape, int]:
    expect(shape, (config["channels"], None, None))
    size, flops = _convolve(shape, config["width"], kernel=config["kernel"], stride=config["stride"])
    return (_halve(size) if config["pool"] else size), flops


def _trace_block(config: Config, shape: Shape) -> tuple[Shape, int]:
    expect(shape, (config["input"], None, None))
    width, stride = config["width"], config["stride"]
    outputs = width * EXPANSION[config["block"]]
    steps = [(width, 3, stride), (width, 3, 1)]
    if config["block"] == "bottleneck":
        steps = [(width, 1, 1), (width, 3, stride), (outputs, 1, 1)]
    total, here = 0, shape
    for channels, kernel, step in steps:
        here, flops = _convolve(here, channels, kernel=kernel, stride=step)
        total += flops
    if stride != 1 or config["input"] != outputs:
        total += _convolve(shape, outputs, kernel=1, stride=stride)[1]
    return here, total


def _convolve(shape: Shape, outputs: int, *, kernel: int, stride: int) -> tuple[Shape, int]:
    height, width = ((size - 1) // stride + 1 for size in shape[1:])
    return (outputs, height, width), 2 * height * width * outputs * shape[0] * kernel * kernel


def _halve(shape: Shape) -> Shape:
    return (shape[0], (shape[1] - 1) // 2 + 1, (shape[2] - 1) // 2 + 1)


KINDS: tuple[Kind, ...] = (
    Kind(
        name="stem",
        check=_check_stem,
        build=lambda c: Stem(
            channels=c["channels"], width=c["width"], kernel=c["kernel"], stride=c["stride"], pool=c["pool"]
        ),
        initialise=_initialise,
        trace=_trace_stem,
    ),
    Kind(
        name="residual_block",
        check=_check_block,
        build=lambda c: ResidualBlock(block=c["block"], inputs=c["input"], width=c["width"], stride=c["stride"]),
        initialise=_initialise,
        trace=_trace_block,
    ),
)
