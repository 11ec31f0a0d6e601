"""The order in which a split's samples are seen: a keyed permutation per (seed, epoch).

Any process can name the samples at any position of the stream without having walked there, so resuming costs
nothing and changes nothing. Called by ``batches``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Slice:
    """One batch's worth of the stream: the sample indices and, for each, the epoch it belongs to."""

    indices: NDArray[np.int64]
    epochs: NDArray[np.int64]


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The numbers 0…count−1 in the order of `epoch`: sorted by the raw words of a Philox keyed with seed and epoch.

    Raw words, not ``Generator.permutation``: numpy promises to keep the former for ever and not the latter.
    """
    digest = hashlib.sha256(f"evergraft/order/{seed}/{epoch}".encode()).digest()
    words = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)
    order = np.argsort(np.asarray(words, dtype=np.uint64), kind="stable").astype(np.int64)
    order.setflags(write=False)
    return order


def epoch_samples(count: int, batch_size: int) -> int:
    """Samples of one epoch: whole batches of a split of `count`, or all of a split smaller than the batch."""
    return count // batch_size * batch_size or count


def slices(*, seed: int, count: int, batch_size: int, start: int, stop: int) -> Iterator[Slice]:
    """The batches from position `start` up to `stop` (both in samples seen), each of exactly `batch_size`.

    Each epoch drops its last partial batch; a split smaller than the batch wraps around into the next epoch.

    Raises:
        ValueError: the split is empty, or `start` is not a whole number of batches.
    """
    if count < 1 or batch_size < 1 or start < 0 or start % batch_size:
        raise ValueError(f"cannot cut batches of {batch_size} from {count} samples starting at {start}")
    return _cut(seed, count, batch_size, range(start, stop - batch_size + 1, batch_size))


def _cut(seed: int, count: int, batch_size: int, begins: range) -> Iterator[Slice]:
    length = epoch_samples(count, batch_size)
    for begin in begins:
        positions = np.arange(begin, begin + batch_size, dtype=np.int64)
        epochs = positions // length
        indices = np.empty(batch_size, dtype=np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = epochs == epoch
            indices[here] = permutation(seed, epoch, count)[positions[here] - epoch * length]
        yield Slice(indices=indices, epochs=epochs)
