"""Batches: full shapes, and bytes that depend on neither threads, nor the start, nor the neighbours in a batch."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evergraft.errors import DataError
from evergraft_trainer.data.augment import NONE, Augmentation, apply, draw
from evergraft_trainer.data.batches import Batch, eval_batches, train_batches
from evergraft_trainer.data.preprocessing import Preprocessing, prepare


@dataclass(frozen=True)
class Memory:
    """A split of pictures in memory."""

    pictures: list[NDArray[np.uint8]]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pictures)

    def image(self, index: int) -> NDArray[np.uint8]:
        return self.pictures[index]


@dataclass(frozen=True)
class Counted(Memory):
    """Pictures that are made anew each time; `most` is how many of them were there at once."""

    alive: list[int] = field(default_factory=lambda: [0])
    most: list[int] = field(default_factory=lambda: [0])

    def image(self, index: int) -> NDArray[np.uint8]:
        picture = self.pictures[index].copy()
        weakref.finalize(picture, self._add, -1)
        self._add(1)
        return picture

    def _add(self, change: int) -> None:
        self.alive[0] += change
        self.most[0] = max(self.most[0], self.alive[0])


def _split(count: int, *, size: int = 10, mixed: bool = False) -> Memory:
    rng = np.random.default_rng(count)
    sizes = rng.integers(6, 16, (count, 2)) if mixed else np.full((count, 2), size)
    channels = rng.choice([1, 3], count) if mixed else np.ones(count, dtype=int)
    pictures = [rng.integers(0, 256, (h, w, c), dtype=np.uint8) for (h, w), c in zip(sizes, channels, strict=True)]
    return Memory(pictures, np.arange(count, dtype=np.int64) % 3)


_GRAY = Preprocessing(image_size=10, channels=1, mean=(0.3,), std=(0.4,))
_RGB = Preprocessing(image_size=10, channels=3, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
_FLIP = Augmentation(flip=True)
_CROP = Augmentation(crop=True, flip=True)
_FULL = Augmentation(crop=True, flip=True, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.2)
_AUGMENTATIONS = (NONE, _FLIP, _CROP, _FULL)


def _train(
    split: Memory, augmentation: Augmentation, preprocessing: Preprocessing, *,
    start: int = 0, stop: int = 64, batch_size: int = 8, workers: int = 0,
) -> list[Batch]:  # fmt: skip
    return list(
        train_batches(
            split, seed=7, batch_size=batch_size, start=start, stop=stop, augmentation=augmentation,
            preprocessing=preprocessing, workers=workers,
        )
    )  # fmt: skip


def _same(left: list[Batch], right: list[Batch]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) and torch.equal(a.indices, b.indices)
        for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("augmentation", _AUGMENTATIONS)
@pytest.mark.parametrize("preprocessing", [_GRAY, _RGB])
@pytest.mark.parametrize("mixed", [False, True])
def test_every_row_is_its_sample_alone(augmentation: Augmentation, preprocessing: Preprocessing, mixed: bool) -> None:
    split = _split(19, mixed=mixed)
    seen = 0
    for batch in _train(split, augmentation, preprocessing):
        assert batch.images.shape == (8, preprocessing.channels, 10, 10)
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous()
        for row, label, index in zip(batch.images, batch.labels, batch.indices.tolist(), strict=True):
            image = split.image(index)
            params = draw(augmentation, 7, seen // 16, index, image.shape[0], image.shape[1])
            assert torch.equal(row, apply(image, params, preprocessing))
            assert label == split.labels[index]
            seen += 1


@pytest.mark.parametrize("augmentation", _AUGMENTATIONS)
@pytest.mark.parametrize("mixed", [False, True])
def test_threads_change_no_byte(augmentation: Augmentation, mixed: bool) -> None:
    split = _split(40, mixed=mixed)
    alone = _train(split, augmentation, _RGB, stop=160)
    assert _same(alone, _train(split, augmentation, _RGB, stop=160, workers=2))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(1, 9), st.integers(0, 6), st.sampled_from(_AUGMENTATIONS))
def test_resuming_changes_no_byte(count: int, batch_size: int, skipped: int, augmentation: Augmentation) -> None:
    split = _split(count, mixed=True)
    stop = 8 * batch_size
    whole = _train(split, augmentation, _GRAY, stop=stop, batch_size=batch_size)
    rest = _train(split, augmentation, _GRAY, start=skipped * batch_size, stop=stop, batch_size=batch_size)
    assert _same(whole[skipped:], rest)


def test_a_sample_looks_different_in_the_next_epoch() -> None:
    split = _split(8)
    first, second = _train(split, _CROP, _GRAY, stop=16)
    one, two = first.images[first.indices.argsort()], second.images[second.indices.argsort()]
    assert not any(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("augmentation", _AUGMENTATIONS)
@pytest.mark.parametrize("mixed", [False, True])
def test_no_more_than_two_images_are_held_at_full_size(augmentation: Augmentation, mixed: bool) -> None:
    plain = _split(24, size=30) if not mixed else _split(24, mixed=True)
    pictures = [picture for picture in plain.pictures if picture.shape[:2] != (10, 10)]
    split = Counted(pictures, plain.labels[: len(pictures)])
    assert _same(_train(split, augmentation, _GRAY), _train(Memory(pictures, split.labels), augmentation, _GRAY))
    assert 1 <= split.most[0] <= 2
    list(eval_batches(split, batch_size=8, preprocessing=_RGB))
    assert split.most[0] <= 2


def test_training_leaves_the_pictures_as_they_were() -> None:
    split = _split(12)
    before = [picture.copy() for picture in split.pictures]
    for augmentation in _AUGMENTATIONS:
        _train(split, augmentation, _GRAY)
    assert all(np.array_equal(a, b) for a, b in zip(before, split.pictures, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_keeps_the_order_and_pads_with_zeros(workers: int) -> None:
    split = _split(19, mixed=True)
    batches = list(eval_batches(split, batch_size=8, preprocessing=_RGB, workers=workers))
    assert [batch.count for batch in batches] == [8, 8, 3]
    assert all(batch.images.shape == (8, 3, 10, 10) for batch in batches)
    rows = torch.cat([batch.images[: batch.count] for batch in batches])
    assert torch.equal(rows, torch.stack([prepare(picture, _RGB) for picture in split.pictures]))
    assert torch.cat([batch.labels for batch in batches])[:19].tolist() == split.labels.tolist()
    assert not batches[-1].images[3:].any()
    assert not batches[-1].labels[3:].any()


@pytest.mark.parametrize("workers", [0, 3])
def test_an_error_reaches_the_reader_and_leaves_no_thread(workers: int) -> None:
    class Broken(Memory):
        def image(self, index: int) -> NDArray[np.uint8]:
            if index == 5:
                raise DataError("images/5.png: changed")
            return super().image(index)

    before = threading.active_count()
    split = _split(9)
    with pytest.raises(DataError, match="changed"):
        _train(Broken(split.pictures, split.labels), NONE, _GRAY, batch_size=3, workers=workers)
    assert threading.active_count() == before


def test_leaving_early_leaves_no_thread() -> None:
    before = threading.active_count()
    batches = train_batches(
        _split(30), seed=0, batch_size=2, start=0, stop=10**6, augmentation=_CROP, preprocessing=_GRAY, workers=2
    )
    next(batches)
    assert threading.active_count() > before
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
