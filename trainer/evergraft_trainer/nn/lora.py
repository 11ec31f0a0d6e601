"""Low-rank change of an encoder block's matrices (LoRA, arXiv 2106.09685), with the scale 16 ÷ rank.

The newest LoRA of a layer runs beside the matrices, in training and in serving alike; older ones are merged by
``merge``. Called by the encoder block and through the registry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from evergraft.errors import IntegrityError
from evergraft_trainer.nn.kind import Config, fields

MAX_RANK = 1 << 12
SCALE = 16
TARGETS = ("qkv", "out_proj", "fc1", "fc2")
"""The matrices of an encoder block, in their order of use."""

ALIASES = {"in_proj": "qkv", "out": "out_proj", "mlp.0": "fc1", "mlp.3": "fc2"}
"""Other names of the same matrices, as torchvision calls them; accepted in plans, never stored."""


class Lora(nn.Module):
    """For each target matrix of shape out×in: A of rank×in, B of out×rank; the change is scale · B · A."""

    def __init__(self, *, rank: int, sizes: Mapping[str, tuple[int, int]]) -> None:
        super().__init__()
        self.scale = SCALE / rank
        self.targets = frozenset(sizes)
        for name, (inputs, outputs) in sizes.items():
            self.register_parameter(f"{name}_a", nn.Parameter(torch.empty(rank, inputs)))
            self.register_parameter(f"{name}_b", nn.Parameter(torch.empty(outputs, rank)))

    def change(self, target: str, x: Tensor) -> Tensor:
        """What the change adds to the output of `target`, as rows×out, for input `x` of …×in.

        Products of plain matrices: for other shapes torch's choice of kernel depends on what requires a gradient.
        """
        inner = torch.mm(x.reshape(-1, x.shape[-1]), self.get_parameter(f"{target}_a").t())
        return torch.mm(inner, self.get_parameter(f"{target}_b").t()) * self.scale


def check(config: Config) -> None:
    """Check `rank`, `targets`, and the `width` and `mlp` of the block it changes.

    Raises:
        IntegrityError: a field is wrong.
    """
    sizes = {"rank": (1, MAX_RANK), "width": (1, 1 << 14), "mlp": (1, 1 << 16)}
    fields(config, required=sizes, optional=("targets",))
    targets = config.get("targets")
    if not isinstance(targets, list) or not targets or [name for name in TARGETS if name in targets] != targets:
        raise IntegrityError(
            f"config field 'targets' is {targets!r}; expected some of {', '.join(TARGETS)}, in that order"
        )


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """A normal with standard deviation 1/√in, B zero: the change starts as nothing."""
    for name, parameter in sorted(network.named_parameters()):
        if name.endswith("_a"):
            nn.init.normal_(parameter, std=1 / math.sqrt(parameter.shape[1]), generator=generator)
        else:
            nn.init.zeros_(parameter)
