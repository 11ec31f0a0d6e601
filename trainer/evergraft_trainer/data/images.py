"""Decoded images behind one call, kept in memory up to a cap.

Whatever is decoded first stays until the cap is reached, and nothing is dropped: with samples asked for in a new
random order every epoch that hits as often as any other rule, and needs no lock. Past the cap an image is decoded
again each time. Called by ``scan`` and by the splits of a dataset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evergraft.errors import DataError
from evergraft_trainer.data.decode import UnreadableImageError, decode


@dataclass
class DecodeCache:
    """uint8 pixels by position, up to `limit_bytes`; `num_bytes` are held. Safe to share between threads."""

    limit_bytes: int
    num_bytes: int = 0
    _held: dict[int, NDArray[np.uint8]] = field(default_factory=dict, repr=False)

    def get(self, position: int) -> NDArray[np.uint8] | None:
        """The pixels if they are held."""
        return self._held.get(position)

    def offer(self, position: int, pixels: NDArray[np.uint8]) -> None:
        """Keep the pixels if there is room."""
        if self.num_bytes + pixels.nbytes <= self.limit_bytes and position not in self._held:
            self._held[position] = pixels
            self.num_bytes += pixels.nbytes


@dataclass(frozen=True)
class Images:
    """All images of a dataset by position in its listing. `where(position)` names one in messages."""

    fetch: Callable[[int], bytes | NDArray[np.uint8]]
    where: Callable[[int], str]
    cache: DecodeCache

    def load(self, position: int) -> NDArray[np.uint8]:
        """The uint8 H×W×C pixels; shared, not to be written to.

        Raises:
            UnreadableImageError: they cannot be decoded; the message is only the reason.
            DataError: the image is too large, or its bytes are not those pinned.
        """
        held = self.cache.get(position)
        if held is not None:
            return held
        content = self.fetch(position)
        if isinstance(content, np.ndarray):
            return content
        pixels = decode(content, where=self.where(position))
        self.cache.offer(position, pixels)
        return pixels

    def image(self, position: int) -> NDArray[np.uint8]:
        """As `load`, for a sample that could be decoded when the dataset was pinned.

        Raises:
            DataError: it cannot now; the file is named.
        """
        try:
            return self.load(position)
        except UnreadableImageError as error:
            raise DataError(
                f"{self.where(position)}: {error}, although it could be decoded when the dataset was pinned; "
                "check that this machine has the same image codecs"
            ) from None
