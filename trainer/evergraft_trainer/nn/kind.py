"""What a kind of layer or delta is: a frozen entry that turns a checked JSON config into a network.

A config comes from a store or a file, so it is untrusted: every field has a type and limits, and no module may hold
more than ``MAX_PARAMETERS``. Networks are built on the meta device, where they take no memory. The families
(``vit``, ``resnet``, ``head``, ``deltas``) declare entries; ``kinds`` gathers them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from evergraft.errors import IntegrityError

Config = Mapping[str, Any]
Shape = tuple[int, ...]
"""The shape of one image's activation, without the batch: (channels, height, width) or (tokens, width)."""

MAX_PARAMETERS = 1 << 30
"""The most elements one module may hold: 4 GiB of fp32, ten times the largest layer in use."""


@dataclass(frozen=True)
class Kind:
    """One kind of layer.

    `check` raises IntegrityError on a bad config. `build` makes the network on the current default device.
    `initialise` fills it from a generator. `trace` maps (config, input shape) to (output shape, FLOPs of one image:
    multiply-adds × 2 of matrices and convolutions; norms and activations count nothing).
    """

    name: str
    check: Callable[[Config], None]
    build: Callable[[Config], nn.Module]
    initialise: Callable[[nn.Module, torch.Generator], None]
    trace: Callable[[Config, Shape], tuple[Shape, int]]

    def skeleton(self, config: Config, *, where: str) -> nn.Module:
        """The network on the meta device: names and shapes without memory.

        Raises:
            IntegrityError: the config is wrong, or describes too large a module; `where` begins the message.
        """
        try:
            self.check(config)
        except IntegrityError as error:
            raise IntegrityError(f"{where}: {self.name}: {error}") from None
        with torch.device("meta"):
            network = self.build(config)
        if sum(tensor.numel() for tensor in network.state_dict().values()) > MAX_PARAMETERS:
            raise IntegrityError(f"{where}: {self.name}: the config describes more than {MAX_PARAMETERS} elements")
        return network

    def shapes(self, config: Config) -> dict[str, Shape]:
        """Expected tensor names (parameters and buffers) and their shapes."""
        return {name: tuple(value.shape) for name, value in self.skeleton(config, where="config").state_dict().items()}

    def parameters(self, config: Config) -> int:
        """The number of learnable elements; buffers do not count."""
        return sum(parameter.numel() for parameter in self.skeleton(config, where="config").parameters())

    def flops(self, config: Config, shape: Shape) -> int:
        """Operations of one image whose activation has `shape` before this layer."""
        return self.trace(config, shape)[1]


def fields(config: Config, *, required: Mapping[str, tuple[int, int]], optional: tuple[str, ...] = ()) -> None:
    """Check that `config` has exactly the `required` whole numbers, within (least, most), and nothing unknown.

    Raises:
        IntegrityError: a field is missing, unknown, of the wrong type or out of its limits.
    """
    unknown = sorted(set(config) - set(required) - set(optional))
    if unknown:
        raise IntegrityError(f"unknown config field {unknown[0]!r}; known: {', '.join(sorted([*required, *optional]))}")
    for name, (least, most) in required.items():
        integer(config.get(name), name=name, least=least, most=most)


def integer(value: object, *, name: str, least: int, most: int) -> int:
    """`value` as a whole number within limits.

    Raises:
        IntegrityError: it is none, or out of its limits.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise IntegrityError(f"config field {name!r} is {value!r}; expected a whole number from {least} to {most}")
    return value


def choice(config: Config, name: str, allowed: tuple[Any, ...]) -> None:
    """Check that a field holds one of the allowed values, of the same type.

    Raises:
        IntegrityError: it does not.
    """
    value = config.get(name)
    if not any(type(value) is type(one) and value == one for one in allowed):
        raise IntegrityError(f"config field {name!r} is {value!r}; allowed: {', '.join(map(str, allowed))}")


def expect(shape: Shape, expected: tuple[int | None, ...]) -> None:
    """Check that an activation's shape fits a layer; None allows any size.

    Raises:
        IntegrityError: it does not.
    """
    if len(shape) != len(expected) or any(e is not None and s != e for s, e in zip(shape, expected, strict=True)):
        wanted = " × ".join("any" if size is None else str(size) for size in expected)
        raise IntegrityError(f"expects an input of {wanted}, got {' × '.join(map(str, shape))}")


def linear_flops(rows: int, *matrices: tuple[int, int]) -> int:
    """FLOPs of applying matrices (inputs, outputs) to `rows` rows each."""
    return sum(2 * rows * math.prod(matrix) for matrix in matrices)
