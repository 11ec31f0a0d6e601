"""Learning one task of the stream with the product itself: a Task document, a search, a commit into the run's graph.

The graph lies in the cache, so that an interrupted run goes on where it was. Called by ``harness``; the rehearsal
baseline has the same two methods in ``replay``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evergraft.api.load import Document, load_root
from evergraft.api.task import Task
from evergraft.errors import DataError
from evergraft.graph.route import Route, RouteSummary
from evergraft.search.engine import run_search
from evergraft.search.events import Emit
from evergraft.search.folder import Folder
from evergraft.store import blobs, log
from evergraft.store.open import open_store
from evergraft_trainer import roots
from evergraft_trainer.answers import check_answers
from evergraft_trainer.bench.cost import search_cost
from evergraft_trainer.bench.datasets import Built
from evergraft_trainer.bench.methods import BATCH, VALIDATIONS, Method
from evergraft_trainer.device import open_device
from evergraft_trainer.run import Job, requests
from evergraft_trainer.trainer import TorchTrainer

NAMESPACE = "stream"


@dataclass(frozen=True)
class Learned:
    """One task learned: the fields of a recorded step that the learner knows."""

    quality: float
    test_quality: float
    parameters_added: int
    parameters_total: int
    samples: int
    forward_samples: int
    flops: int
    parent: str
    why: str
    profile: str


@dataclass(frozen=True)
class Finished:
    """Test accuracy of every task at the end; how many routes' golden answers were recomputed and are the same bits."""

    test_quality: Mapping[str, float]
    answers_checked: int = 0
    answers_identical: int = 0


class ProductLearner:
    """A method that is a strategy of the product, in a graph of its own at `folder`."""

    def __init__(self, method: Method, *, seed: int, root: Path, folder: Path, emit: Emit) -> None:
        self._method, self._seed, self._emit = method, seed, emit
        self._store = open_store(str(folder / "graph"))
        self._device = open_device("cpu")
        roots.init(self._store, load_root(root))

    def learn(self, data: Built, *, turn: int) -> Learned:
        """Search a task in pass number `turn` (from 1), or read what an earlier, interrupted run committed.

        Raises:
            DataError, SpecError, StoreError: as the product does.
        """
        task = Task.model_validate(self._document(data))
        job = Job(Document(data.path, 1, task), task, task.id, ())
        (request,) = requests(job, None, turn=turn)

        def make(folder: Folder, spec: Any) -> TorchTrainer:
            return TorchTrainer(folder=folder, spec=spec, device=self._device, cache=None, emit=self._emit)

        graph = log.read_graph(self._store)
        outcome, _ = run_search(self._store, graph, request=request, make_trainer=make, emit=self._emit)
        if outcome.route is None:
            raise DataError(f"{task.id}: its search ended without a route: {outcome.reason}")
        folder = Folder(store=self._store, search=request.search)
        route, added, why = self._left(folder, serving=outcome.route)
        cost = search_cost(folder, distinct=data.counts["train"])
        return Learned(
            quality=float(route.metrics["quality"]),
            test_quality=float(route.metrics["testQuality"]),
            parameters_added=added,
            parameters_total=int(route.parameters["total"]),
            samples=cost.samples,
            forward_samples=cost.forward_samples,
            flops=cost.flops,
            parent=str(route.transfer["parentTask"]).removeprefix(f"{NAMESPACE}/"),
            why=why,
            profile=str(route.profile["digest"]),
        )

    def _left(self, folder: Folder, *, serving: RouteSummary) -> tuple[Route, int, str]:
        """What a search left its task with: a route, the parameters that it added, and why.

        It is asked of the search itself, as a later pass may have replaced its route since. The route that a search
        kept, its parameters included, is an earlier pass's: it adds nothing.
        """
        final = folder.final()
        if final is None or final["route"] is None:
            reason = "" if final is None else str(final["reason"])
            return blobs.get_route(self._store, serving.id), 0, reason
        route = Route.from_json(final["route"])
        return route, int(route.parameters["added"]), str(route.transfer["reason"])

    def finish(self, tasks: Mapping[str, Built]) -> Finished:
        """Answer every route's golden inputs again; where the bits are the same, so is the test accuracy."""
        graph = log.read_graph(self._store)
        rows = {row["task"]: row for row in check_answers(self._store, device=self._device)}
        qualities, identical = {}, 0
        for task in tasks:
            state = graph.task(f"{NAMESPACE}/{task}")
            if state is None or state.route is None:
                raise DataError(f"{task}: the run's graph has no route of it")
            same = bool(rows[f"{NAMESPACE}/{task}"]["bitIdentical"])
            identical += same
            route = blobs.get_route(self._store, state.route.id)
            # A route whose answers have changed proves nothing: it counts as forgotten altogether.
            qualities[task] = float(route.metrics["testQuality"]) if same else 0.0
        return Finished(qualities, answers_checked=len(tasks), answers_identical=identical)

    def _document(self, data: Built) -> dict[str, Any]:
        method = self._method
        starts = [{"name": name, "start": _text(value)} for name, value in method.hyperparameters.items()]
        return {
            "apiVersion": "evergraft.dev/v1alpha1",
            "kind": "Task",
            "metadata": {"name": data.task, "namespace": NAMESPACE},
            "spec": {
                "graphRef": {"name": NAMESPACE},
                "dataset": {
                    "url": str(data.path),
                    "format": "Npz",
                    "splits": {"train": "train", "validation": "validation", "test": "test"},
                },
                "search": {
                    "strategy": method.strategy,
                    "samples": method.samples,
                    "batchSize": BATCH,
                    "validations": VALIDATIONS,
                    "seed": self._seed,
                    **({"parameters": dict(method.parameters)} if method.parameters else {}),
                    **({"hyperparameters": starts} if starts else {}),
                },
            },
        }


def _text(value: object) -> object:
    """Numbers are text in a Task's ladders; switches are not."""
    return value if isinstance(value, bool) else str(value)
