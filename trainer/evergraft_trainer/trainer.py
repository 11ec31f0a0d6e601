"""The trainer of one search: what the engine asks of torch.

Says which candidates go well side by side, has them trained, and measures the winner once. Called by local runs and
workers, one instance a search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evergraft import names
from evergraft.api.resolved import ResolvedTask
from evergraft.errors import OutOfMemoryError, UserError
from evergraft.graph.route import reading
from evergraft.search.engine import Answers
from evergraft.search.events import Emit
from evergraft.search.folder import Folder
from evergraft.search.groups import Claimed
from evergraft.search.ledger import Looked
from evergraft.search.values import CandidatePlan, SlotRef, SlotResult, TaskFacts
from evergraft.store import blobs
from evergraft.store.access import Access
from evergraft.store.cache import ModuleCache
from evergraft_trainer import metrics
from evergraft_trainer.company import Start, choose, read_start
from evergraft_trainer.data.dataset import Dataset, Split, open_dataset
from evergraft_trainer.data.preprocessing import Preprocessing
from evergraft_trainer.device import Device
from evergraft_trainer.evaluate import logits_of
from evergraft_trainer.golden import golden_answers
from evergraft_trainer.nn.assemble import RouteModel, load_route
from evergraft_trainer.probe import look
from evergraft_trainer.progress import Saved, read_weights
from evergraft_trainer.rehearsal import rehearse
from evergraft_trainer.side_by_side import train_group

WIDTH = 16
"""At most so many candidates side by side."""

PREFIX_BYTES = 1 << 30
"""At most so much of the computer's memory for kept activations, and never more than a quarter of what is free."""


@dataclass
class TorchTrainer:
    """Trains the candidates of one search on one device.

    `loaders` threads make batches ahead of need. `width` candidates at most go side by side; it falls where memory is
    exhausted. `prefix_bytes` caps what is kept of frozen prefixes' outputs. `access` is how the data is reached; None
    for what this machine finds by itself.
    """

    folder: Folder
    spec: ResolvedTask
    device: Device
    cache: ModuleCache | None
    emit: Emit
    loaders: int = 0
    width: int = WIDTH
    prefix_bytes: int = PREFIX_BYTES
    access: Access | None = None
    _data: Dataset | None = field(default=None, init=False)
    _starts: dict[str | SlotRef, Start] = field(default_factory=dict, init=False)

    def open(self, pinned: Mapping[str, Any] | None) -> tuple[TaskFacts, Mapping[str, Any]]:
        """Check the data; raises DataError where it is unfit or not what was pinned."""
        self._data = self._open(pinned)
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
            self._data = self._open(self.folder.manifest())
        return self._data

    def rehearse(self, plans: Sequence[CandidatePlan]) -> None:
        """Build each of these first candidates once, on the CPU; raises SpecError where one cannot be built."""
        rehearse(self.folder, self.spec, plans, labels=self.data.labels, cache=self.cache)

    def company(self, first: Claimed, others: Sequence[Claimed]) -> Sequence[SlotRef]:
        """Which of the `others` share enough with `first` to be trained side by side, as far as memory allows."""
        if not others or self.width < 2:
            return ()
        free = self.device.free_memory()
        return choose(self.spec, first, others, start_of=self._start, width=self.width, free=free)

    def train(self, group: Sequence[Claimed]) -> Iterator[SlotResult]:
        """Train candidates side by side, each from its saved state, or its beginning, to its end.

        Yields what came of each; nothing of one whose claim was taken over.

        Raises:
            StoppedError: a duty asked for it; the states are saved.
            DataError, IntegrityError, SpecError, StoreError, OutOfMemoryError.
        """
        return train_group(self, group)

    def conclude(self, ref: SlotRef, result: SlotResult) -> Answers:
        """Golden answers of the winner's best state, and its metrics on the test split, first read here."""
        with reading(self.folder.result_key(ref)):
            best = Saved.from_json(result.weights["best"])
            preprocessing = Preprocessing.from_json(result.preprocessing)
        modules = dict(read_weights(self.folder, ref, best))
        wanted = [module for layer in best.layers for module, _ in layer.modules() if module not in modules]
        modules |= blobs.get_modules(self.folder.store, wanted, cache=self.cache)
        model = load_route(best.layers, modules.__getitem__, image_size=preprocessing.image_size)
        model.to(self.device.torch_device)
        golden = golden_answers(model, best.layers, preprocessing, device=self.device)
        test = self.data.split("test")
        measured = None if test is None else self.measure(self.logits(model, test, preprocessing), test)
        return Answers(labels=self.data.labels, golden=golden, test=measured)

    def look(self, plan: CandidatePlan, pulse: Callable[[], None]) -> Looked | None:
        """The quality of a head in closed form, for the transfer ledger; None where it cannot be measured.

        Raises:
            StoreError: the store or the data's source does not answer; the closing is tried again.
            StoppedError, SupersededError: from `pulse`.
        """
        return look(self, plan, pulse)

    def out_of_memory(self) -> OutOfMemoryError:
        """The error of one candidate that alone exhausts the memory."""
        return OutOfMemoryError(
            f"{self.spec.task}: the memory of {self.device.name} is exhausted by one candidate at batch size "
            f"{self.spec.search.batch_size}; lower search.batchSize or use a larger device"
        )

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
        """Quality (the task's metric, 0…1), logLoss (nats) and confusion (see ``metrics``) of finite logits."""
        return metrics.evaluate(self.spec.metric, logits, split.labels)

    def class_weights(self) -> torch.Tensor | None:
        """Weights of the loss, float32 of the number of classes; None where all count alike."""
        if self.spec.dataset.class_weights != "Balanced":
            return None
        weights = metrics.balanced_class_weights(self.data.train.labels, len(self.data.labels))
        return self.device.put(torch.from_numpy(weights))

    def _open(self, pinned: Mapping[str, Any] | None) -> Dataset:
        """The dataset, reached as this worker was told.

        Raises:
            UserError: the search reads its data elsewhere than this worker has been given access to.
        """
        dataset, access = self.spec.dataset, self.access
        key = names.search_key(self.folder.search, "data.json")
        if access is None:
            return open_dataset(dataset, pinned=pinned, pinned_as=key)
        if (dataset.url, dataset.endpoint) != (access.url, access.endpoint):
            # Whoever can write to the store could else have these credentials sent to an address of their own.
            raise UserError(
                f"{self.spec.task}: its open search reads {_place(dataset.url, dataset.endpoint)}, but this worker has "
                f"access to {_place(access.url, access.endpoint)}; raise spec.iteration"
            )
        return open_dataset(dataset, pinned=pinned, pinned_as=key, storage_options=access.secrets())

    def _start(self, plan: CandidatePlan) -> Start:
        if plan.start not in self._starts:
            self._starts[plan.start] = read_start(self.folder, plan)
        return self._starts[plan.start]


def _place(url: str, endpoint: str | None) -> str:
    return f"{url} at {endpoint}" if endpoint else url
