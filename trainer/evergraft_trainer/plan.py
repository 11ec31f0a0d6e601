"""`evergraft plan`: what a run would do, worked out from the graph and the data, with nothing written.

Called by the command line.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evergraft import names
from evergraft.api.load import Document, load_documents
from evergraft.api.modulegraph import ModuleGraph
from evergraft.api.resolve import resolve, spec_hash, task_hash
from evergraft.api.resolved import ResolvedTask
from evergraft.errors import NotAGraphError
from evergraft.graph.state import Graph, TaskState
from evergraft.names import RunKey
from evergraft.search import opening
from evergraft.search.committing import Request
from evergraft.search.folder import Folder
from evergraft.search.starts import remark
from evergraft.search.strategies import get as get_strategy
from evergraft.search.validate import check_plan
from evergraft.search.values import CandidatePlan, Finish, Generation, Reference, TaskFacts
from evergraft.search.view import build_view
from evergraft.store import log
from evergraft.store.memory import MemoryStore
from evergraft.store.open import open_store
from evergraft.store.seam import Store
from evergraft_trainer.data.dataset import open_dataset
from evergraft_trainer.rehearsal import rehearse
from evergraft_trainer.run import Job, in_order, local_cache, open_graph, the_module_graph


@dataclass(frozen=True)
class TaskPlan:
    """One task: what it resolves to, where HEAD stands, what its data holds, and its first generation."""

    task: str
    run: str
    state: str
    base: int
    counts: Mapping[str, Mapping[str, int]]
    values: Mapping[str, Any]
    sources: Mapping[str, str]
    candidates: tuple[str, ...]
    samples: int

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "task": self.task,
            "run": self.run,
            "state": self.state,
            "base": self.base,
            "counts": {split: dict(labels) for split, labels in self.counts.items()},
            "values": dict(self.values),
            "sources": dict(self.sources),
            "firstGeneration": list(self.candidates),
            "samples": self.samples,
        }

    def lines(self) -> Iterator[str]:
        """The text form."""
        yield f"{self.task}: run {self.run}, {self.state}; base version {self.base}, {self.samples} samples to train"
        for split, labels in self.counts.items():
            yield f"  {split}: {sum(labels.values())} samples of {len(labels)} labels"
        for path, source in sorted(self.sources.items()):
            value = _value(self.values, path)
            yield f"  {path} = {'left to the strategy' if value is None else value}  ({source})"
        for number, candidate in enumerate(self.candidates):
            yield f"  candidate 0-{number}: {candidate}"


def plan_files(files: Sequence[Path], *, graph_url: str) -> list[TaskPlan]:
    """Plan every task of the files against the graph's HEAD, or against a new graph from their ModuleGraph.

    An open search is shown as it was started: its spec, its base version, its data.

    Raises:
        SpecError, DataError, ConflictError, NotAGraphError: as `run` would.
    """
    documents = load_documents(files)
    module_graph = the_module_graph(documents)
    store = open_store(graph_url)
    store, graph = _head(store, module_graph, documents)
    return [_plan(job, store, graph, module_graph) for job in in_order(documents)]


def _head(store: Store, module_graph: ModuleGraph | None, documents: Sequence[Document]) -> tuple[Store, Graph]:
    """The graph at HEAD; where there is none yet, the one that `run` would start, in memory."""
    try:
        return store, log.read_graph(store)
    except NotAGraphError:
        if module_graph is None:
            raise
    memory = MemoryStore(f"plan {uuid.uuid4().hex}")
    return memory, open_graph(memory, module_graph, documents)


def _plan(job: Job, store: Store, graph: Graph, module_graph: ModuleGraph | None) -> TaskPlan:
    resolution = resolve(job.task, graph=module_graph, base=job.document.path.parent)
    asked = resolution.task
    run = next_run(graph.task(asked.task), asked)
    request = Request(spec=asked, run=run, task_hash=task_hash(job.task), spec_hash=spec_hash(asked))
    folder = Folder(store, request.search)
    ended, header = opening.look(folder, graph, request)
    spec, base = (asked, graph) if header is None else opening.pinned(folder, graph, header)
    manifest = None if header is None else folder.manifest()
    data = open_dataset(spec.dataset, pinned=manifest, pinned_as=names.search_key(folder.search, "data.json"))
    info = log.read_info(store)
    view = build_view(
        base,
        spec=spec,
        facts=TaskFacts(data.labels, len(data.train), len(data.validation)),
        reference=Reference(info.reference_parameters, info.reference_flops),
        manifest=data.manifest(),
    )
    first = get_strategy(spec.search.strategy).next(view)
    check_plan(view, first)
    if ended is None and header is None:
        rehearse(folder, spec, candidates_of(first), labels=data.labels, cache=local_cache(store))
    return TaskPlan(
        task=spec.task,
        run=str(run),
        state=_closed(graph.task(spec.task)) if ended else _open(base, header) + remark(view),
        base=base.version,
        counts=data.counts(),
        values=spec.to_json(),
        sources=resolution.sources,
        candidates=tuple(describe(view.route, plan) for plan in candidates_of(first)),
        samples=spec.search.samples,
    )


def next_run(state: TaskState | None, spec: ResolvedTask) -> RunKey:
    """The first run of this iteration that HEAD has not closed; the last cycle's if all are."""
    runs = [RunKey(iteration=spec.iteration, cycle=cycle) for cycle in range(1, spec.search.cycles + 1)]
    closed = state.run if state is not None else None
    return next((run for run in runs if closed is None or run > closed), runs[-1])


def candidates_of(plan: Generation | Finish) -> tuple[CandidatePlan, ...]:
    """The candidates of a generation; none of an end."""
    return plan.candidates if isinstance(plan, Generation) else ()


def describe(route: Any, plan: CandidatePlan) -> str:
    """A candidate in one line: parent, reason, what is trained, rate, samples."""
    parent = route(plan.start).summary.task if isinstance(plan.start, str) else f"candidate {plan.start}"
    trained = [item.name for item in plan.layers if item.action in ("clone", "new") or item.deltas]
    rate = plan.hyperparameters.get("learningRate")
    return f"from {parent} ({plan.reason}); trains {', '.join(trained)}; rate {rate}; {plan.samples} samples"


def _closed(state: TaskState | None) -> str:
    assert state is not None
    return f"closed at version {state.version} ({state.outcome}); run would report AlreadyCommitted"


def _open(base: Graph, header: Mapping[str, Any] | None) -> str:
    return "not yet run" if header is None else f"open since version {base.version}; run would go on with it"


_STORED = {"scoring.": "", "hangAfter": "hangAfterSeconds"}
"""How `search.json` spells what the spec calls otherwise."""


def _value(values: Mapping[str, Any], path: str) -> Any:
    """The resolved value of a field that the spec names `path`; None where the strategy chooses."""
    for written, stored in _STORED.items():
        path = path.replace(written, stored)
    value: Any = values
    for name in path.split("."):
        if isinstance(value, list):
            value = next((item.get("start") for item in value if item.get("name") == name), None)
        else:
            value = value.get(name) if isinstance(value, Mapping) else None
    return value
