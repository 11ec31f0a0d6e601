"""Counter-based random numbers: a stream is named by its key, and every draw is SHA-256 of key and counter.

Pure, portable and without state shared between streams, so that a plan replays on any machine and any version of
Python. Called by strategies through ``View.rng``.
"""

from __future__ import annotations

import hashlib
from collections.abc import MutableSequence, Sequence
from typing import TypeVar

from evergraft import canonical

T = TypeVar("T")


class Rng:
    """One stream. Equal keys give equal streams."""

    def __init__(self, *key: int | str) -> None:
        self._key = canonical.dumps(list(key))
        self._count = 0

    def bits(self) -> int:
        """The next 64 random bits."""
        data = hashlib.sha256(self._key + self._count.to_bytes(8, "little")).digest()
        self._count += 1
        return int.from_bytes(data[:8], "little")

    def uniform(self) -> float:
        """A float in [0, 1) with 53 random bits."""
        return (self.bits() >> 11) / (1 << 53)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform() < probability

    def below(self, bound: int) -> int:
        """An integer in [0, bound); bound ≥ 1. The bias of the modulo is below 2^-40 for any bound in use."""
        return self.bits() % bound

    def choice(self, items: Sequence[T]) -> T:
        """One of the items, each with equal chance."""
        return items[self.below(len(items))]

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Fisher-Yates, from the last item down."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]
