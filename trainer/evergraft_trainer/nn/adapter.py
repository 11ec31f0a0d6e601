"""The adapter: a small bottleneck with a residual, before an encoder block (arXiv 1902.00751).

It has no weights to be merged into, so an inherited adapter becomes part of the block (its config then lists
``adapters``). Called by the encoder block and through the registry.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from evergraft_trainer.nn.kind import Config, fields


class Adapter(nn.Module):
    """x + up(GELU(down(LayerNorm(x)))); `up` starts at zero, so it starts as the identity."""

    def __init__(self, *, features: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features, eps=1e-6)
        self.down = nn.Linear(features, width)
        self.up = nn.Linear(width, features)

    def forward(self, x: Tensor) -> Tensor:
        """B×tokens×features, the same shape out."""
        change: Tensor = self.up(functional.gelu(self.down(self.norm(x))))
        return x + change


def check(config: Config) -> None:
    """Check `width` (of the bottleneck) and `features` (of the block).

    Raises:
        IntegrityError: a field is wrong.
    """
    fields(config, required={"width": (1, 1 << 14), "features": (1, 1 << 14)})


def initialise_adapter(network: nn.Module, generator: torch.Generator) -> None:
    """Xavier for `down`, zero for `up`."""
    assert isinstance(network, Adapter)
    nn.init.ones_(network.norm.weight)
    nn.init.zeros_(network.norm.bias)
    nn.init.xavier_uniform_(network.down.weight, generator=generator)
    nn.init.zeros_(network.down.bias)
    nn.init.zeros_(network.up.weight)
    nn.init.zeros_(network.up.bias)
