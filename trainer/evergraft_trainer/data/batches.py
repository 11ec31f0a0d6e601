"""From a split to tensors: training batches in keyed order, evaluation batches in the split's own.

The bytes of a batch depend on split, seed, position, augmentation and preprocessing, and on nothing else: not on
where reading began, nor on how many threads make batches ahead of need. Threads, not processes: decoding and
torch's kernels release the interpreter, the decode cache is shared, and nothing has to be pickled. Called by the
training loop and by evaluation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from evergraft_trainer.data import augment
from evergraft_trainer.data.augment import Augmentation
from evergraft_trainer.data.order import Slice, slices
from evergraft_trainer.data.preprocessing import Preprocessing, normalise, stack

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Images(Protocol):
    """What batches need of a split: labels (int64, N) and the i-th image as uint8 H×W×C."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class index of each sample."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """The decoded pixels, not to be written to."""
        ...


@dataclass(frozen=True)
class Batch:
    """`images` float32 B×C×S×S, `labels` int64 B, `indices` int64 B (positions in the split)."""

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor


@dataclass(frozen=True)
class EvalBatch:
    """As Batch, in the split's order; only the first `count` rows are real, the rest are zeros."""

    images: torch.Tensor
    labels: torch.Tensor
    count: int


def train_batches(
    split: Images,
    *,
    seed: int,
    batch_size: int,
    start: int,
    stop: int,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    workers: int = 0,
    pixels: bool = True,
) -> Iterator[Batch]:
    """Full batches from `start` (samples already seen) up to `stop`.

    `workers` threads make batches ahead of need; 0 makes each when it is asked for. The bytes are the same. Without
    `pixels` the images are left empty and nothing is decoded.

    Raises:
        ValueError: the split is empty, or `start` is not a whole number of batches.
        DataError: a sample's bytes are not those that were pinned.
    """
    cuts = slices(seed=seed, count=len(split), batch_size=batch_size, start=start, stop=stop)

    def make(cut: Slice) -> Batch:
        return Batch(
            images=_train_images(split, cut, seed, augmentation, preprocessing) if pixels else torch.empty(0),
            labels=torch.from_numpy(split.labels[cut.indices]),
            indices=torch.from_numpy(cut.indices),
        )

    return _ahead(make, cuts, workers)


def eval_batches(
    split: Images, *, batch_size: int, preprocessing: Preprocessing, workers: int = 0
) -> Iterator[EvalBatch]:
    """The whole split once, in its own order, every batch of full shape."""

    def make(begin: int) -> EvalBatch:
        rows = range(begin, min(begin + batch_size, len(split)))
        size, channels = preprocessing.image_size, preprocessing.channels
        images = torch.zeros((batch_size, channels, size, size), dtype=torch.float32)
        labels = torch.zeros(batch_size, dtype=torch.int64)
        images[: len(rows)] = normalise(stack(map(split.image, rows), preprocessing), preprocessing)
        labels[: len(rows)] = torch.from_numpy(split.labels[rows.start : rows.stop])
        return EvalBatch(images=images, labels=labels, count=len(rows))

    return _ahead(make, iter(range(0, len(split), batch_size)), workers)


def _train_images(
    split: Images, cut: Slice, seed: int, augmentation: Augmentation, preprocessing: Preprocessing
) -> torch.Tensor:
    size, epochs, indices = preprocessing.image_size, cut.epochs.tolist(), cut.indices.tolist()
    if not augmentation.moves_pixels:
        pixels = stack(map(split.image, indices), preprocessing)
        if augmentation.flip:
            # Whether an image is mirrored does not depend on its size, which is gone by now.
            drawn = [
                augment.draw(augmentation, seed, epoch, index, size, size)
                for epoch, index in zip(epochs, indices, strict=True)
            ]
            pixels = _flip(pixels, torch.tensor([params.flip for params in drawn]))
        return normalise(pixels, preprocessing)
    pixels = torch.empty((len(indices), preprocessing.channels, size, size), dtype=torch.uint8)
    for row, epoch, index in zip(pixels, epochs, indices, strict=True):
        image = split.image(index)
        params = augment.draw(augmentation, seed, epoch, index, image.shape[0], image.shape[1])
        row.copy_(augment.transform(image, params, preprocessing))
    return normalise(pixels, preprocessing)


def _flip(pixels: torch.Tensor, flips: torch.Tensor) -> torch.Tensor:
    if flips.any():
        pixels[flips] = pixels[flips].flip(-1)
    return pixels


def _ahead(make: Callable[[_In], _Out], items: Iterator[_In], workers: int) -> Iterator[_Out]:
    """`make` of each item, in order; with workers, up to two per thread are made before they are asked for."""
    if workers < 1:
        yield from map(make, items)
        return
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="batches")
    waiting: deque[Future[_Out]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
