"""Dropout and stochastic depth that draw from a counter, so that a resumed training repeats them exactly.

Every layer has its own stream, named by (seed, layer), and every training step its own place in it: the number of
samples seen before the step. Nothing touches torch's global generator. Only trained layers are given a `Noise`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from evergraft import canonical


def seed_of(*key: int | str) -> int:
    """63 bits that name a stream: the SHA-256 of the key."""
    return int(canonical.digest(list(key))[:16], 16) >> 1


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own, at the start of the stream that `key` names."""
    return torch.Generator(device=device).manual_seed(seed_of(*key))


@dataclass
class Noise:
    """One layer's noise: `dropout` drops elements, `depth` drops a residual branch per image; both in 0…1."""

    seed: int
    layer: str
    dropout: float
    depth: float
    _generator: torch.Generator | None = field(default=None, repr=False)
    _position: int = 0

    def seek(self, position: int) -> None:
        """Go to the step that begins after `position` training samples."""
        self._position = position
        self._generator = None

    def drop(self, x: Tensor) -> Tensor:
        """Zero each element with chance `dropout`, scaling the rest up."""
        if self.dropout == 0:
            return x
        return x * self._keep(x, tuple(x.shape), rate=self.dropout)

    def drop_branch(self, branch: Tensor) -> Tensor:
        """Zero a residual branch for each image with chance `depth`, scaling the others up."""
        if self.depth == 0:
            return branch
        return branch * self._keep(branch, (branch.shape[0],) + (1,) * (branch.dim() - 1), rate=self.depth)

    def _keep(self, like: Tensor, shape: tuple[int, ...], *, rate: float) -> Tensor:
        if self._generator is None or self._generator.device.type != like.device.type:
            self._generator = generator("noise", self.seed, self.layer, self._position, device=like.device)
        mask = torch.empty(shape, dtype=like.dtype, device=like.device)
        return mask.bernoulli_(1 - rate, generator=self._generator).div_(1 - rate)
