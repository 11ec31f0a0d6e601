"""Candidates side by side: one stream of batches, one shared prefix, one step after another.

The candidates of a cohort take turns, never stacked, so each gets the bits that it would get alone; one that lags
behind (after a resume) catches up first. Where memory is exhausted fewer go side by side, and the others come later.
Called by the trainer.
"""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from evergraft.errors import SupersededError
from evergraft.search.groups import Claimed
from evergraft.search.values import CandidatePlan, SlotResult
from evergraft_trainer.candidate import Candidate
from evergraft_trainer.data.batches import Batch
from evergraft_trainer.device import free_memory, is_memory_exhausted
from evergraft_trainer.nn.assemble import RouteModel
from evergraft_trainer.nn.route_layer import RouteLayer
from evergraft_trainer.parents import Parent, read_parent
from evergraft_trainer.prefix import Prefixes
from evergraft_trainer.stream import Stream

if TYPE_CHECKING:
    from evergraft_trainer.trainer import TorchTrainer


def train_group(trainer: TorchTrainer, group: Sequence[Claimed]) -> Iterator[SlotResult]:
    """Train a group, those that read the same stream side by side; yields each result as soon as it is there.

    Raises:
        StoppedError: a duty asked for it; the states are saved.
        OutOfMemoryError: one candidate alone exhausts the memory.
    """
    waiting = _read(trainer, group)
    while waiting:
        chosen = [other for other in waiting if other.stream == waiting[0].stream][: trainer.width]
        cohort = Cohort(trainer, chosen, [other for other in waiting if other not in chosen])
        yield from cohort.run()
        waiting = cohort.waiting


def _read(trainer: TorchTrainer, group: Sequence[Claimed]) -> list[Candidate]:
    """The candidates, each start read once."""
    parents: dict[Hashable, Parent] = {}

    def parent_of(plan: CandidatePlan) -> Parent:
        sources = tuple((item.name, item.source) for item in plan.layers if item.source is not None)
        key = (plan.start, plan.state, plan.optimizer, sources)
        if key not in parents:
            labels = trainer.data.labels
            parents[key] = read_parent(trainer.folder, plan, labels=labels, cache=trainer.cache)
        return parents[key]

    return [Candidate(trainer, claimed, parent_of(claimed.plan)) for claimed in group]


class Cohort:
    """Candidates in training on one stream; `waiting` are those of the group that come later."""

    def __init__(self, trainer: TorchTrainer, chosen: Sequence[Candidate], waiting: Sequence[Candidate]) -> None:
        self.trainer, self.waiting = trainer, list(waiting)
        self.active: list[Candidate] = list(chosen)
        search = trainer.spec.search
        self.stream = Stream(
            trainer.data.train,
            chosen[0].stream,
            batch_size=search.batch_size,
            stop=max(candidate.stop for candidate in chosen),
            workers=trainer.loaders,
        )
        self.prefixes: Prefixes | None = None

    def run(self) -> Iterator[SlotResult]:
        """Train to the end; yields results."""
        try:
            self._build()
            cap_bytes = self._cap()
            self._share(cap_bytes)
            if cap_bytes:
                self._keep_training()
            for candidate in list(self.active):
                yield from self._turn(candidate, begin=True)
            while self.active:
                for candidate in self._next():
                    yield from self._turn(candidate)
        finally:
            self.stream.close()

    def _build(self) -> None:
        shared: dict[Hashable, RouteLayer] = {}
        for candidate in list(self.active):
            self._tell()
            if candidate in self.active:
                with self._memory(candidate):
                    candidate.build(shared)

    def _cap(self) -> int:
        free = free_memory()
        return self.trainer.prefix_bytes if free is None else min(self.trainer.prefix_bytes, free // 4)

    def _share(self, cap_bytes: int) -> None:
        self.prefixes = Prefixes(
            [candidate.model for candidate in self.active],
            device=self.trainer.device,
            precision=self.trainer.spec.search.precision,
            cap_bytes=cap_bytes,
        )
        self.stream.set_pixels(wanted=True)

    def _keep_training(self) -> None:
        """Keep the prefixes' outputs for every training image, if images never vary and each is seen again."""
        trainer, split = self.trainer, self.trainer.data.train
        assert self.prefixes is not None
        key = self.stream.key
        if key.varies or max((candidate.to_come for candidate in self.active), default=0) <= len(split):
            return
        try:
            self.prefixes.keep_training(
                split,
                batch_size=trainer.spec.search.batch_size,
                preprocessing=key.preprocessing,
                workers=trainer.loaders,
                pulse=self._pulse,
            )
            self.stream.set_pixels(wanted=self.prefixes.needs_pixels)
        except (RuntimeError, MemoryError) as error:
            if not is_memory_exhausted(error):
                raise
            self._share(0)

    def _next(self) -> list[Candidate]:
        """Who goes next: all that are to be validated, with their outputs computed together, else those behind."""
        validating = [candidate for candidate in self.active if candidate.pause.validates]
        if validating:
            evaluated = False
            with self._memory(None):
                self._evaluate(validating)
                evaluated = True
            return [candidate for candidate in validating if evaluated and candidate in self.active]
        self._pulse()
        behind = min((candidate.position for candidate in self.active), default=0)
        return [candidate for candidate in self.active if candidate.position == behind]

    def _evaluate(self, candidates: Sequence[Candidate]) -> None:
        trainer, began = self.trainer, time.monotonic()
        assert self.prefixes is not None
        outputs = self.prefixes.logits(
            [candidate.model for candidate in candidates],
            trainer.data.validation,
            batch_size=trainer.spec.search.batch_size,
            preprocessing=candidates[0].stream.preprocessing,
            workers=trainer.loaders,
            keep=any(candidate.to_come for candidate in self.active),
            pulse=self._tell,
        )
        for candidate, logits in zip(candidates, outputs, strict=True):
            candidate.outputs = logits
            candidate.charge((time.monotonic() - began) / len(candidates))

    def _turn(self, candidate: Candidate, *, begin: bool = False) -> Iterator[SlotResult]:
        """One turn of one candidate; yields its result if that was its last."""
        self._tell()
        if candidate not in self.active:
            return
        result: SlotResult | None = None
        with self._memory(candidate):
            result = candidate.begin(self.stream.batch, self._forward) if begin else candidate.advance()
        if result is not None:
            self.active.remove(candidate)
            candidate.release()
            yield result

    def _forward(self, model: RouteModel, batch: Batch) -> torch.Tensor:
        assert self.prefixes is not None
        return self.prefixes.forward(model, batch)

    def _tell(self) -> None:
        """Tell all duties that training goes on; a candidate that another worker took over leaves."""
        for group in (self.active, self.waiting):
            for candidate in list(group):
                try:
                    candidate.tell()
                except SupersededError:
                    group.remove(candidate)
                    candidate.release()

    def _pulse(self) -> None:
        """Between rounds: tell all duties, and where one asks to stop, save every candidate and stop."""
        self._tell()
        asked = next((candidate for candidate in self.active if candidate.should_stop), None)
        if asked is None:
            return
        for candidate in self.active:
            candidate.save()
        assert asked.duty is not None
        raise asked.duty.stopped()

    @contextmanager
    def _memory(self, suspect: Candidate | None) -> Iterator[None]:
        """Where the block exhausts the memory, go on with fewer candidates: half of them, the suspect not among them.

        Raises:
            OutOfMemoryError: there was only one.
        """
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_memory_exhausted(error):
                raise
            traceback.clear_frames(error.__traceback__)
            if len(self.active) < 2:
                self.trainer.device.release_memory()
                raise self.trainer.out_of_memory() from error
        else:
            return
        self._make_room(suspect)

    def _make_room(self, suspect: Candidate | None) -> None:
        """Let half of the candidates wait; the suspect, which may be in mid-step, goes back to its last saved state."""
        innocent = [candidate for candidate in self.active if candidate is not suspect]
        num_left = max(1, len(self.active) // 2)
        leaving = innocent[num_left:]
        for candidate in leaving:
            if candidate.is_built:
                candidate.save()
        leaving += [suspect] if suspect is not None else []
        for candidate in leaving:
            candidate.release()
        self.active, self.trainer.width = innocent[:num_left], num_left
        self.waiting.extend(leaving)
        if self.prefixes is not None:
            self._share(0)
        gc.collect()
        self.trainer.device.release_memory()
