"""One candidate in training: its model, its optimiser, its saved states, and the loop that it steps through.

A candidate is light until it is built. It never decides when it runs: whoever trains it, alone or beside others,
calls `advance` for each step and each validation. Called by ``side_by_side``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from evergraft.graph.module import Module
from evergraft.search.groups import Claimed
from evergraft.search.values import SlotResult
from evergraft_trainer.closed_form import Looking, fit_head
from evergraft_trainer.data.batches import Batch
from evergraft_trainer.nn.assemble import RouteModel
from evergraft_trainer.nn.candidate import build_candidate
from evergraft_trainer.nn.extract import extract
from evergraft_trainer.nn.resume import restore
from evergraft_trainer.nn.route_layer import RouteLayer
from evergraft_trainer.optimizer_state import restore_optimizer, save_optimizer
from evergraft_trainer.parents import Parent
from evergraft_trainer.prefix import share_frozen
from evergraft_trainer.profile import current_profile
from evergraft_trainer.progress import Saved, SlotStates
from evergraft_trainer.recipe import make_optimizer, read_recipe
from evergraft_trainer.stream import stream_key, stream_seed
from evergraft_trainer.train import Divergence, Pause, train

if TYPE_CHECKING:
    from evergraft_trainer.trainer import TorchTrainer

STEP_EVENTS_S = 0.25
"""Progress is told at most this often."""


class Candidate:
    """One candidate. `outputs` are its logits on the validation split, set before each validation."""

    outputs: NDArray[np.float64]

    def __init__(self, trainer: TorchTrainer, claimed: Claimed, parent: Parent) -> None:
        self.trainer, self.parent = trainer, parent
        self.ref, self.plan, self.duty = claimed.ref, claimed.plan, claimed.duty
        search = trainer.spec.search
        self.recipe = read_recipe(self.plan, search)
        self.origin = self.ref if parent.origin is None or self.plan.schedule.offset == 0 else parent.origin
        self.stream = stream_key(trainer.spec, self.plan, self.origin, parent.preprocessing)
        self.profile = current_profile(trainer.device, dtype=search.precision, batch_size=search.batch_size)
        self.states = SlotStates(folder=trainer.folder, ref=self.ref, claim=self.duty.claim if self.duty else 1)
        self.pause = Pause(seen=0)

    def build(self, shared: MutableMapping[Hashable, RouteLayer]) -> None:
        """Make model and optimiser as of the newest saved state; frozen layers are taken from `shared`, or join it."""
        spec, device = self.trainer.spec, self.trainer.device
        self.progress = self.states.load(str(self.profile["digest"]))
        self.model = build_candidate(
            self.parent.layers,
            self.parent.get,
            self.plan.layers,
            labels=self.trainer.data.labels,
            parent_labels=self.parent.head_labels,
            seed=stream_seed(spec, f"init/{self.origin.generation}/{self.origin.slot}"),
            image_size=self.stream.preprocessing.image_size,
            dropout=spec.search.dropout,
            stochastic_depth=spec.search.stochastic_depth,
            frozen=shared,
        )
        saved = self.states.modules(self.progress.last) if self.progress.last else {}
        if self.progress.last:
            restore(self.model, self.progress.last.layers, saved)
        share_frozen(self.model, shared)
        self.model.to(device.torch_device)
        trained = self.model.trained_parameters().values()
        self.optimizer = make_optimizer(self.recipe, trained, fused=device.kind != "xla")
        if self.progress.last:
            restore_optimizer(self.optimizer, self.model, saved.values())
        elif self.plan.optimizer == "carry":
            kept = {item.name for item in self.plan.layers if item.action != "new"}
            carried = (state for state in self.parent.optimizer if state.config.get("layer") in kept)
            restore_optimizer(self.optimizer, self.model, carried)
        self.pause = Pause(seen=self.progress.samples)
        self.timings: dict[str, list[float]] = {}
        self._seconds, self._since = self.progress.seconds, time.monotonic()
        self._looked = 0
        if not self.progress.last and any(item.init == "lda" for item in self.plan.layers):
            self._looked = self._fit_head()

    def begin(
        self, batch_at: Callable[[int], Batch], forward: Callable[[RouteModel, Batch], torch.Tensor]
    ) -> SlotResult | None:
        """Go to the first pause. `batch_at` gives the batch at a position of the stream."""
        self._loop = self._run(batch_at, forward)
        return self.advance()

    def advance(self) -> SlotResult | None:
        """Take the step or the validation that is next; the result if that was the last one."""
        self._since = time.monotonic()
        phase = "validate" if self.pause.validates else "train"
        try:
            self.pause = next(self._loop)
        except StopIteration as end:
            result: SlotResult = end.value
            return result
        finally:
            spent = time.monotonic() - self._since
            self.timings.setdefault(phase, []).append(spent)
            self.charge(spent)
        return None

    def release(self) -> None:
        """Give model and optimiser back, to be built again."""
        for name in ("model", "optimizer", "_loop"):
            self.__dict__.pop(name, None)

    @property
    def is_built(self) -> bool:
        """Whether it has a model now."""
        return "model" in self.__dict__

    @property
    def to_come(self) -> int:
        """Samples still to be trained."""
        return self.recipe.samples - self.pause.seen if self.plan.kind == "train" else 0

    @property
    def position(self) -> int:
        """Where the next batch begins in the stream."""
        return self.plan.schedule.offset + self.pause.seen

    @property
    def stop(self) -> int:
        """Where the candidate's part of the stream ends."""
        return self.plan.schedule.offset + self.recipe.samples

    def charge(self, seconds: float) -> None:
        """Count time that was spent for this candidate."""
        self._seconds += seconds
        self._since = time.monotonic()

    def tell(self) -> None:
        """Tell the duty where the candidate stands; raises SupersededError where another worker took it over."""
        if self.duty is not None:
            self.duty.tell(self.pause.seen)

    @property
    def should_stop(self) -> bool:
        """Whether to save the state and stop."""
        return self.duty is not None and self.duty.should_stop

    def _fit_head(self) -> int:
        """Put a head in closed form in place; returns the images that were run forward."""
        data, search = self.trainer.data, self.trainer.spec.search
        looking = Looking(
            preprocessing=self.stream.preprocessing,
            batch_size=search.batch_size,
            device=self.trainer.device,
            precision=search.precision,
            pulse=self.tell,
        )
        fitted = fit_head(self.model, data.train, data.validation, most=self.plan.samples, looking=looking)
        return fitted.forward_samples

    def _run(
        self, batch_at: Callable[[int], Batch], forward: Callable[[RouteModel, Batch], torch.Tensor]
    ) -> Generator[Pause, None, SlotResult]:
        """Train to the end; the result names the best and the last state."""
        if self.plan.kind == "probe":
            yield Pause(seen=0, validates=True)
            return self.result(None if self.validate(0) else Divergence(sample=0))
        divergence = yield from train(
            self.model,
            self.optimizer,
            self._batches(batch_at),
            recipe=self.recipe,
            device=self.trainer.device,
            class_weights=self.trainer.class_weights(),
            start=self.progress.samples,
            validate=self.validate,
            forward=lambda batch: forward(self.model, batch),
            ends_early=lambda: self.duty is not None and self.duty.time_is_up,
        )
        return self.result(divergence)

    def _batches(self, batch_at: Callable[[int], Batch]) -> Iterator[Batch]:
        """The training batches from where the candidate stands; tells progress on the way."""
        told = 0.0
        offset = self.plan.schedule.offset
        for seen in range(self.progress.samples, self.recipe.samples, self.recipe.batch_size):
            self.model.seek(offset + seen)
            if time.monotonic() - told > STEP_EVENTS_S:
                told = time.monotonic()
                self.tell_event("step", samples=seen + self.recipe.batch_size)
                self.tell_event("timings", timings=self.timings)
                self.timings = {}
            began = time.monotonic()
            batch = batch_at(offset + seen)
            self.timings.setdefault("data", []).append(time.monotonic() - began)
            yield batch

    def validate(self, seen: int) -> bool:
        """Score the present state, write its weights, then the progress that names them; False if it diverged."""
        split = self.trainer.data.validation
        if not np.isfinite(self.outputs).all():
            return False
        measured = self.trainer.measure(self.outputs, split)
        saved = self.write(measured)
        evaluated, self._looked = self._looked + len(split), 0
        self.progress = self.progress.after(saved, samples=seen, forward_samples=evaluated, seconds=self.seconds)
        self.states.save(self.progress)
        self.tell_event("validation", samples=seen, quality=saved.quality)
        return True

    def save(self) -> None:
        """Save the present state between validations, so that nothing is trained twice."""
        if self.pause.seen > self.progress.samples and not self.pause.validates:
            saved = self.write({})
            self.progress = self.progress.paused(saved, samples=self.pause.seen, seconds=self.seconds)
            self.states.save(self.progress)

    @property
    def seconds(self) -> float:
        """Time spent for this candidate, by all its claims together."""
        return self._seconds + time.monotonic() - self._since

    def write(self, measured: Mapping[str, Any]) -> Saved:
        """Write the present weights and optimiser state under a free name."""
        layers, made = extract(self.model)
        modules = self._travelling(made) | {m.id: m for m in save_optimizer(self.optimizer, self.model)}
        name = self.progress.free_name(self.states.claim)
        return Saved(
            object=name,
            sha256=self.states.write(self.progress, modules, name=name),
            validation=len(self.progress.qualities),
            layers=layers,
            metrics=measured,
        )

    def result(self, divergence: Divergence | None) -> SlotResult:
        """What came of the candidate."""
        best, last = self.progress.best, self.progress.last
        usable = divergence is None and best is not None
        return SlotResult(
            generation=self.ref.generation,
            slot=self.ref.slot,
            claim=str(self.states.claim),
            layers=best.layers if best is not None and usable else (),
            quality=best.quality if best is not None and usable else 0.0,
            metrics={
                **(best.metrics if best is not None and usable else {}),
                "qualities": list(self.progress.qualities),
                "origin": [self.origin.generation, self.origin.slot],
            },
            parameters=self.model.num_parameters(),
            flops=self.model.flops,
            samples=self.progress.samples,
            forward_samples=self.progress.forward_samples,
            seconds=round(self.progress.seconds, 3),
            profile=self.profile,
            preprocessing=self.stream.preprocessing.to_json(),
            weights={"best": best.to_json(), "last": last.to_json()} if best and last and usable else {},
            diverged=divergence.sample if divergence else None,
        )

    def tell_event(self, event: str, **fields: Any) -> None:
        """Emit an event of this slot."""
        where = {"task": self.trainer.spec.task, "generation": self.ref.generation, "slot": self.ref.slot}
        self.trainer.emit(event, {**where, **fields})

    def _travelling(self, made: Mapping[str, Module]) -> dict[str, Module]:
        """New modules, and those of earlier candidates that this one shares: no committed route has them yet."""
        shared = {layer.source for layer in self.model.route_layers() if layer.source is not None}
        ids = {module for layer in shared for module, _ in layer.modules()}
        return {**made, **{module: self.parent.get(module) for module in sorted(ids & self.parent.fresh)}}
