"""A worker whose training is empty, for timing everything else: python empty_worker.py URL TASK SEARCH_JSON.

Says ``ready`` once it has planned its first generation, waits for a line, runs its part of the search, and prints what
it did as one JSON line; its times are of the machine's monotonic clock. Called by ``slots.py``, one process a worker.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import evergraft.api.strategies  # noqa: F401 - what a real worker has loaded by the time it opens a search
from evergraft import canonical
from evergraft.api.resolved import ResolvedTask
from evergraft.graph.bundle import encode_bundle
from evergraft.graph.route import Layer
from evergraft.names import ROOT_TASK
from evergraft.search.claims import Crew
from evergraft.search.engine import Answers, run_search
from evergraft.search.folder import Folder
from evergraft.search.groups import Claimed
from evergraft.search.values import CandidatePlan, SlotRef, SlotResult, TaskFacts
from evergraft.store import log
from evergraft.store.open import open_store
from evergraft.store.recording import RecordingStore
from evergraft.testing.arithmetic import LABELS, MANIFEST, make_module, make_request

HEAD = make_module("head", "empty")
WEIGHTS = encode_bundle([HEAD])
SAVED = {"object": "weights-1-a.safetensors", "sha256": canonical.sha256(WEIGHTS)}


@dataclass
class EmptyTrainer:
    """Trains nothing: every candidate ends at once, with the root's layers, one head for all and a made-up quality."""

    folder: Folder
    spec: ResolvedTask
    layers: tuple[Layer, ...]
    trained: int = 0

    def open(self, pinned: Mapping[str, Any] | None) -> tuple[TaskFacts, Mapping[str, Any]]:
        """No data."""
        return TaskFacts(labels=LABELS, train_samples=100, validation_samples=20), pinned or MANIFEST

    def rehearse(self, plans: Sequence[CandidatePlan]) -> None:
        """Nothing is built."""

    def company(self, first: Claimed, others: Sequence[Claimed]) -> Sequence[SlotRef]:
        """Each slot alone."""
        return ()

    def train(self, group: Sequence[Claimed]) -> Iterator[SlotResult]:
        """Results at once."""
        for claimed in group:
            self.trained += 1
            yield self._result(claimed)

    def conclude(self, ref: SlotRef, result: SlotResult) -> Answers:
        """Write the winner's weights: the head."""
        self.folder.put_object(ref, SAVED["object"], WEIGHTS)
        return Answers(labels=LABELS, golden={}, test=None)

    def look(self, plan: CandidatePlan, pulse: Callable[[], None]) -> None:
        """Nothing: there is no image to look at."""

    def _result(self, claimed: Claimed) -> SlotResult:
        assert claimed.duty is not None
        quality = int(canonical.digest([claimed.ref.generation, claimed.ref.slot])[:6], 16) / 0xFFFFFF
        return SlotResult(
            generation=claimed.ref.generation,
            slot=claimed.ref.slot,
            claim=str(claimed.duty.claim),
            layers=self.layers,
            quality=quality,
            metrics={"qualities": [quality]},
            parameters=32,
            flops=64,
            samples=claimed.plan.samples,
            forward_samples=0,
            seconds=0.0,
            profile={},
            weights={"best": SAVED, "last": SAVED},
        )


def main() -> None:
    """Wait for the start, then work until the search is closed."""
    url, task, search = sys.argv[1:]
    store = RecordingStore(open_store(url))
    graph = log.read_graph(store)
    root = graph.task(ROOT_TASK)
    assert root is not None
    assert root.route is not None
    layers = (*root.route.layers, Layer(name="head", kind="head", module=HEAD.id, parameters=8))
    trainers: list[EmptyTrainer] = []

    def make(folder: Folder, spec: ResolvedTask) -> EmptyTrainer:
        trainers.append(EmptyTrainer(folder, spec, layers))
        return trainers[-1]

    waited: list[float] = []
    times: dict[str, float] = {}

    def emit(name: str, fields: Mapping[str, Any]) -> None:
        if name == "generation" and not times:
            print("ready", flush=True)
            sys.stdin.readline()
            store.operations.clear()
            times["began"] = time.monotonic()
        elif name == "result":
            times["lastResult"] = time.monotonic()

    request = make_request(task, **json.loads(search))
    outcome, _ = run_search(
        store, graph, request=request, make_trainer=make, emit=emit, crew=Crew(on_idle=waited.append)
    )
    said = {
        "outcome": outcome.kind,
        "slots": sum(trainer.trained for trainer in trainers),
        **times,
        "ended": time.monotonic(),
        "idle": sum(waited),
        "operations": Counter(operation.name for operation in store.operations),
    }
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
