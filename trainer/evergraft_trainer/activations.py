"""Activations of many images kept in memory, given back as the very tensors that were computed.

A layer's bits depend on the strides and the alignment of its input, not only on its values, so a batch is put
together again in the strides that it had. Called by ``prefix``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Rows:
    """One row an image, N×…, compact, in the computer's own memory, in the dtype they were computed in.

    `like` is a batch as computed, B×…, whose strides and device the batches given back have.
    """

    def __init__(self, count: int, like: Tensor) -> None:
        self._values = torch.empty((count, *like.shape[1:]), dtype=like.dtype)
        self._shape, self._stride, self._device = like.shape, like.stride(), like.device

    def put(self, start: int, batch: Tensor) -> None:
        """Keep a batch as the rows from `start` on; what goes beyond the last row is left out."""
        rows = self._values[start : start + batch.shape[0]]
        rows.copy_(batch[: rows.shape[0]])

    def get(self, indices: Tensor) -> Tensor:
        """The batch of the rows `indices` (int64, B), in the strides and on the device it was computed with."""
        batch = torch.empty_strided(self._shape, self._stride, dtype=self._values.dtype, device=self._device)
        return batch.copy_(self._values[indices])


def size_of(count: int, like: Tensor) -> int:
    """Bytes that `count` rows of a batch take."""
    return count * math.prod(like.shape[1:]) * like.element_size()


def may_be_kept(like: Tensor) -> bool:
    """Whether every element of a batch has a place of its own in memory, so that it can be put together again."""
    return all(size == 1 or stride > 0 for size, stride in zip(like.shape, like.stride(), strict=True))


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same bits, signs of zero included."""
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    kind = integers[a.element_size()]
    return a.shape == b.shape and torch.equal(a.contiguous().view(kind), b.contiguous().view(kind))
