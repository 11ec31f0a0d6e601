"""The trainer of one search: what the engine asks of torch, candidate by candidate.

Builds each candidate from its parent, trains it with the loop of ``train``, saves a state at every validation, and
measures the winner once. Called by local runs and workers, one instance a search.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evergraft import canonical
from evergraft.api.resolved import ResolvedTask
from evergraft.errors import OutOfMemoryError, SupersededError
from evergraft.graph.module import Module
from evergraft.search.duty import Duty
from evergraft.search.engine import Answers
from evergraft.search.events import Emit
from evergraft.search.folder import Folder
from evergraft.search.groups import Claimed
from evergraft.search.values import CandidatePlan, SlotRef, SlotResult, TaskFacts
from evergraft.store import blobs
from evergraft.store.cache import ModuleCache
from evergraft_trainer import metrics
from evergraft_trainer.data.augment import Augmentation
from evergraft_trainer.data.batches import Batch, train_batches
from evergraft_trainer.data.dataset import Dataset, Split, open_dataset
from evergraft_trainer.data.preprocessing import Preprocessing
from evergraft_trainer.device import Device, is_memory_exhausted
from evergraft_trainer.evaluate import logits_of
from evergraft_trainer.golden import golden_answers
from evergraft_trainer.nn.assemble import RouteModel, load_route
from evergraft_trainer.nn.candidate import build_candidate
from evergraft_trainer.nn.extract import extract
from evergraft_trainer.nn.resume import restore
from evergraft_trainer.optimizer_state import restore_optimizer, save_optimizer
from evergraft_trainer.parents import Parent, read_parent
from evergraft_trainer.profile import current_profile
from evergraft_trainer.progress import Saved, SlotStates, read_weights
from evergraft_trainer.recipe import hyperparameter_flags, make_optimizer, read_recipe
from evergraft_trainer.train import Divergence, train

STEP_EVENTS_S = 0.25
"""Progress is told at most this often."""


@dataclass
class TorchTrainer:
    """Trains the candidates of one search on one device."""

    folder: Folder
    spec: ResolvedTask
    device: Device
    cache: ModuleCache | None
    emit: Emit
    _data: Dataset | None = field(default=None, init=False)

    def open(self, pinned: Mapping[str, Any] | None) -> tuple[TaskFacts, Mapping[str, Any]]:
        """Check the data; raises DataError where it is unfit or not what was pinned."""
        self._data = open_dataset(self.spec.dataset, pinned=pinned)
        facts = TaskFacts(
            labels=self._data.labels,
            train_samples=len(self._data.train),
            validation_samples=len(self._data.validation),
        )
        return facts, self._data.manifest()

    @property
    def data(self) -> Dataset:
        """The opened dataset."""
        if self._data is None:
            self._data = open_dataset(self.spec.dataset, pinned=self.folder.manifest())
        return self._data

    def company(self, first: Claimed, others: Sequence[Claimed]) -> Sequence[SlotRef]:  # noqa: ARG002 - to come
        """Nothing is gained by training candidates side by side yet."""
        return ()

    def train(self, group: Sequence[Claimed]) -> Iterator[SlotResult]:
        """Train candidates, each from its saved state, or its beginning, to its end; yields what came of each.

        Raises:
            StoppedError: a duty asked for it; the state is saved.
            DataError, IntegrityError, SpecError, StoreError, OutOfMemoryError.
        """
        for claimed in group:
            try:
                result = self._train(claimed.ref, claimed.plan, claimed.duty)
            except SupersededError:
                continue
            yield result

    def _train(self, ref: SlotRef, plan: CandidatePlan, duty: Duty | None) -> SlotResult:
        """Train one candidate.

        Raises:
            StoppedError: `duty` asked for it; the state is saved.
            DataError, IntegrityError, SpecError, StoreError, OutOfMemoryError.
        """
        parent = read_parent(self.folder, plan, labels=self.data.labels, cache=self.cache)
        try:
            return Candidate(self, ref, plan, parent, duty).run()
        except (RuntimeError, MemoryError) as error:
            if not is_memory_exhausted(error):
                raise
            self.device.release_memory()
            raise OutOfMemoryError(
                f"{self.spec.task}: the memory of {self.device.name} is exhausted by one candidate at batch size "
                f"{self.spec.search.batch_size}; lower search.batchSize or use a larger device"
            ) from error

    def conclude(self, ref: SlotRef, result: SlotResult) -> Answers:
        """Golden answers of the winner's best state, and its metrics on the test split, first read here."""
        best = Saved.from_json(result.weights["best"])
        modules = dict(read_weights(self.folder, ref, best))
        wanted = [module for layer in best.layers for module, _ in layer.modules() if module not in modules]
        modules |= blobs.get_modules(self.folder.store, wanted, cache=self.cache)
        preprocessing = Preprocessing.from_json(result.preprocessing)
        model = load_route(best.layers, modules.__getitem__, image_size=preprocessing.image_size)
        model.to(self.device.torch_device)
        golden = golden_answers(model, best.layers, preprocessing, device=self.device)
        test = self.data.split("test")
        measured = None if test is None else self.measure(self.logits(model, test, preprocessing), test)
        return Answers(labels=self.data.labels, golden=golden, test=measured)

    def logits(self, model: RouteModel, split: Split, preprocessing: Preprocessing) -> NDArray[np.float64]:
        """Logits of a whole split, float64 N×C."""
        return logits_of(
            model,
            split,
            preprocessing=preprocessing,
            batch_size=self.spec.search.batch_size,
            device=self.device,
            precision=self.spec.search.precision,
        )

    def measure(self, logits: NDArray[np.float64], split: Split) -> dict[str, Any]:
        """Quality (the task's metric, 0…1), logLoss (nats) and confusion of finite logits on a split."""
        return metrics.evaluate(self.spec.metric, logits, split.labels)

    def class_weights(self) -> torch.Tensor | None:
        """Weights of the loss, float32 of the number of classes; None where all count alike."""
        if self.spec.dataset.class_weights != "Balanced":
            return None
        weights = metrics.balanced_class_weights(self.data.train.labels, len(self.data.labels))
        return self.device.put(torch.from_numpy(weights))


class Candidate:
    """One candidate in training: model, optimiser, progress."""

    def __init__(
        self, trainer: TorchTrainer, ref: SlotRef, plan: CandidatePlan, parent: Parent, duty: Duty | None
    ) -> None:
        self.trainer, self.ref, self.plan, self.parent, self.duty = trainer, ref, plan, parent, duty
        search = trainer.spec.search
        self.preprocessing = _preprocessing(parent.preprocessing, plan, search.image_size)
        self.recipe = read_recipe(plan, search)
        self.origin = ref if parent.origin is None or plan.schedule.offset == 0 else parent.origin
        self.profile = current_profile(trainer.device, dtype=search.precision, batch_size=search.batch_size)
        self.states = SlotStates(folder=trainer.folder, ref=ref, claim=duty.claim if duty else 1)
        self.progress = self.states.load(str(self.profile["digest"]))
        self.model = build_candidate(
            parent.layers,
            parent.get,
            plan.layers,
            labels=trainer.data.labels,
            parent_labels=parent.head_labels,
            seed=stream_seed(trainer.spec, f"init/{self.origin.generation}/{self.origin.slot}"),
            image_size=self.preprocessing.image_size,
            dropout=search.dropout,
            stochastic_depth=search.stochastic_depth,
        )
        saved = self.states.modules(self.progress.last) if self.progress.last else {}
        if self.progress.last:
            restore(self.model, self.progress.last.layers, saved)
        self.model.to(trainer.device.torch_device)
        trained = self.model.trained_parameters().values()
        self.optimizer = make_optimizer(self.recipe, trained, fused=trainer.device.kind != "xla")
        if self.progress.last:
            restore_optimizer(self.optimizer, self.model, saved.values())
        elif plan.optimizer == "carry":
            kept = {item.name for item in plan.layers if item.action != "new"}
            carried = (state for state in parent.optimizer if state.config.get("layer") in kept)
            restore_optimizer(self.optimizer, self.model, carried)
        self.began = time.monotonic() - self.progress.seconds

    def run(self) -> SlotResult:
        """Train to the end; the result names the best and the last state."""
        if self.plan.kind == "probe":
            return self.result(None if self.validate(0) else Divergence(sample=0))
        divergence = train(
            self.model,
            self.optimizer,
            self.batches(),
            recipe=self.recipe,
            device=self.trainer.device,
            class_weights=self.trainer.class_weights(),
            start=self.progress.samples,
            validate=self.validate,
        )
        return self.result(divergence)

    def batches(self) -> Iterator[Batch]:
        """The training batches from where the candidate stands; tells progress on the way."""
        offset = self.plan.schedule.offset
        told = 0.0
        seen = self.progress.samples
        for batch in train_batches(
            self.trainer.data.train,
            seed=stream_seed(self.trainer.spec, f"data/{self.origin.generation}"),
            batch_size=self.recipe.batch_size,
            start=offset + seen,
            stop=offset + self.recipe.samples,
            augmentation=Augmentation(**hyperparameter_flags(self.plan.hyperparameters)),
            preprocessing=self.preprocessing,
        ):
            if self.duty is not None:
                self.duty.tell(seen)
                if self.duty.should_stop:
                    self.pause(seen)
                    raise self.duty.stopped()
            self.model.seek(offset + seen)
            seen += self.recipe.batch_size
            if time.monotonic() - told > STEP_EVENTS_S:
                told = time.monotonic()
                self.tell("step", samples=seen)
            yield batch

    def validate(self, seen: int) -> bool:
        """Score the present state, write its weights, then the progress that names them; False if it diverged."""
        split = self.trainer.data.validation
        logits = self.trainer.logits(self.model, split, self.preprocessing)
        if not np.isfinite(logits).all():
            return False
        measured = self.trainer.measure(logits, split)
        saved = self.write(measured)
        seconds = time.monotonic() - self.began
        self.progress = self.progress.after(saved, samples=seen, forward_samples=len(split), seconds=seconds)
        self.states.save(self.progress)
        self.tell("validation", samples=seen, quality=saved.quality)
        return True

    def pause(self, seen: int) -> None:
        """Save the present state between validations, so that nothing is trained twice."""
        if seen > self.progress.samples:
            saved = self.write({})
            seconds = time.monotonic() - self.began
            self.progress = self.progress.paused(saved, samples=seen, seconds=seconds)
            self.states.save(self.progress)

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
            preprocessing=self.preprocessing.to_json(),
            weights={"best": best.to_json(), "last": last.to_json()} if best and last and usable else {},
            diverged=divergence.sample if divergence else None,
        )

    def tell(self, event: str, **fields: Any) -> None:
        """Emit an event of this slot."""
        where = {"task": self.trainer.spec.task, "generation": self.ref.generation, "slot": self.ref.slot}
        self.trainer.emit(event, {**where, **fields})

    def _travelling(self, made: Mapping[str, Module]) -> dict[str, Module]:
        """New modules, and those of earlier candidates that this one shares: no committed route has them yet."""
        shared = {layer.source for layer in self.model.route_layers() if layer.source is not None}
        ids = {module for layer in shared for module, _ in layer.modules()}
        return {**made, **{module: self.parent.get(module) for module in sorted(ids & self.parent.fresh)}}


def stream_seed(spec: ResolvedTask, purpose: str) -> int:
    """A 63-bit seed named by the search's seed, the task and a purpose."""
    return int(canonical.digest([spec.search.seed, spec.task, purpose])[:16], 16) >> 1


def _preprocessing(parent: Preprocessing, plan: CandidatePlan, image_size: int | None) -> Preprocessing:
    size = plan.hyperparameters.get("imageSize", image_size)
    return parent if size is None else replace(parent, image_size=int(size))
