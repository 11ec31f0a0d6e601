"""The stream of training batches that several candidates read: each batch is decoded and augmented once for all.

Called by ``side_by_side``; what makes two candidates read the same stream is its `StreamKey`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from evergraft import canonical
from evergraft.api.resolved import ResolvedTask
from evergraft.search.values import CandidatePlan, SlotRef
from evergraft_trainer.data.augment import NONE, Augmentation
from evergraft_trainer.data.batches import Batch, Images, train_batches
from evergraft_trainer.data.preprocessing import Preprocessing
from evergraft_trainer.recipe import hyperparameter_flags


@dataclass(frozen=True)
class StreamKey:
    """All that decides the bytes of a batch, but for the split and the batch size, which a search has in common."""

    seed: int
    augmentation: Augmentation
    preprocessing: Preprocessing

    @property
    def varies(self) -> bool:
        """Whether an image may look different from one epoch to the next."""
        return self.augmentation != NONE


def stream_key(spec: ResolvedTask, plan: CandidatePlan, origin: SlotRef, parent: Preprocessing) -> StreamKey:
    """The stream of a candidate; `origin` is the slot that it continues in the end, `parent` its start's."""
    size = plan.hyperparameters.get("imageSize", spec.search.image_size)
    return StreamKey(
        seed=stream_seed(spec, f"data/{origin.generation}"),
        augmentation=Augmentation(**hyperparameter_flags(plan.hyperparameters)),
        preprocessing=parent if size is None else replace(parent, image_size=int(size)),
    )


def stream_seed(spec: ResolvedTask, purpose: str) -> int:
    """A 63-bit seed named by the search's seed, the task and a purpose."""
    return int(canonical.digest([spec.search.seed, spec.task, purpose])[:16], 16) >> 1


class Stream:
    """Batches by their position, in samples from the stream's beginning; the newest is kept for the next reader.

    With pixels turned off images are left empty, for readers that have their activations.
    """

    def __init__(self, split: Images, key: StreamKey, *, batch_size: int, stop: int, workers: int) -> None:
        self._split, self.key, self._stop, self._workers = split, key, stop, workers
        self._batch_size = batch_size
        self._pixels = True
        self._next = -1
        self._batches: Iterator[Batch] = iter(())
        self._batch: Batch | None = None

    def batch(self, position: int) -> Batch:
        """The batch that begins at `position`. Cheap when read in order, or again."""
        if self._batch is not None and position == self._next - self._batch_size:
            return self._batch
        if position != self._next:
            self._open(position)
        self._batch = next(self._batches)
        self._next = position + self._batch_size
        return self._batch

    def set_pixels(self, *, wanted: bool) -> None:
        """Say whether batches are to hold images."""
        if wanted != self._pixels:
            self._pixels = wanted
            self.close()

    def close(self) -> None:
        """Stop making batches ahead."""
        close: Any = getattr(self._batches, "close", None)
        if close is not None:
            close()
        self._batches, self._batch, self._next = iter(()), None, -1

    def _open(self, position: int) -> None:
        self.close()
        self._batches = train_batches(
            self._split,
            seed=self.key.seed,
            batch_size=self._batch_size,
            start=position,
            stop=self._stop,
            augmentation=self.key.augmentation,
            preprocessing=self.key.preprocessing,
            workers=self._workers,
            pixels=self._pixels,
        )
