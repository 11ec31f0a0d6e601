"""`evergraft run`: the tasks of some files, one after another, into one graph, in this process.

The same documents, the same search and the same store layout as on a cluster; only the pods are missing. A task
that fails stops those after it by `after`, and no others. Called by the command line.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evergraft import names
from evergraft.api.load import Document, load_documents
from evergraft.api.modulegraph import ModuleGraph
from evergraft.api.resolve import resolve, spec_hash, task_hash
from evergraft.api.resolved import ResolvedTask
from evergraft.api.rules import ignored_locally
from evergraft.api.task import Task
from evergraft.errors import EvergraftError, NotAGraphError, SpecError, StoppedError
from evergraft.graph.route import count, reading
from evergraft.graph.state import Graph
from evergraft.names import RunKey
from evergraft.search.claims import Crew
from evergraft.search.engine import Outcome, Request, run_search
from evergraft.search.events import Emit
from evergraft.search.folder import Folder
from evergraft.search.values import share
from evergraft.store import blobs, log
from evergraft.store.cache import ModuleCache
from evergraft.store.open import open_store
from evergraft.store.seam import Store
from evergraft_trainer import profile
from evergraft_trainer.device import Device, DeviceKind, open_device
from evergraft_trainer.pool import FOLLOW_PARENT, WORKER_NUMBER, extra_workers
from evergraft_trainer.roots import init_from_document
from evergraft_trainer.stopping import stop_signals
from evergraft_trainer.trainer import TorchTrainer


@dataclass(frozen=True)
class Job:
    """One task of the files: its document, the id it has in the graph, what it waits for."""

    document: Document
    task: Task
    id: str
    after: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """What came of one task. `seconds` are those of this run; `error` is empty unless it failed."""

    task: str
    outcome: str
    reason: str
    seconds: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "task": self.task,
            "outcome": self.outcome,
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
            **self.facts,
        }


@dataclass(frozen=True)
class Report:
    """All rows, in the order run. The exit code is the first failure's."""

    rows: tuple[Row, ...]

    @property
    def exit_code(self) -> int:
        """0 if every search closed."""
        return next((row.exit_code for row in self.rows if row.exit_code), 0)


@dataclass(frozen=True)
class Settings:
    """How to run: CPU threads of each worker, where, how many workers, and how often to go over all tasks.

    With `at_once` each worker begins with another task, so that searches of several tasks are open at once.
    """

    threads: int = 1
    device: DeviceKind = "cpu"
    workers: int = 1
    passes: int = 1
    at_once: bool = False


def run_files(files: Sequence[Path], *, graph_url: str, settings: Settings, emit: Emit) -> Report:
    """Run every task of the files into the graph at `graph_url`; an empty URL is initialised from their ModuleGraph.

    Raises:
        SpecError: a document is wrong; nothing was started.
        NotAGraphError: the URL holds no graph and the files no ModuleGraph.
        StoppedError, KeyboardInterrupt: asked to stop; what was trained is saved.
    """
    documents = load_documents(files)
    module_graph = the_module_graph(documents)
    jobs = in_order(documents)
    store = open_store(graph_url)
    profile.apply(threads=settings.threads)
    device = open_device(settings.device)
    graph = open_graph(store, module_graph, documents)
    for job in jobs:
        name_ignored(job, emit)
    workers = extra_workers(
        settings.workers - 1,
        files,
        graph_url=graph_url,
        threads=settings.threads,
        device=settings.device,
        passes=settings.passes,
        at_once=settings.at_once,
        emit=emit,
    )
    if settings.at_once:
        jobs = ready_first(jobs, start=int(os.environ.get(WORKER_NUMBER, "0")))
    with stop_signals() as stop:
        together = int(os.environ.get(FOLLOW_PARENT, settings.workers))
        if FOLLOW_PARENT in os.environ:
            stop.watch_parent()
        try:
            with workers:
                stream = _Stream(store, module_graph, device, emit, Crew(stop=stop, expected=together - 1))
                return stream.run(jobs, graph, passes=settings.passes)
        except StoppedError:
            if stop.interrupted:
                raise KeyboardInterrupt from None
            raise


def the_module_graph(documents: Sequence[Document]) -> ModuleGraph | None:
    """The one ModuleGraph among the documents, None if there is none.

    Raises:
        SpecError: there are several.
    """
    found = [document for document in documents if isinstance(document.value, ModuleGraph)]
    if len(found) > 1:
        places = ", ".join(f"{document.path}:{document.line}" for document in found)
        raise SpecError(f"several ModuleGraphs ({places}); --graph is one graph, so leave one")
    return found[0].value if found and isinstance(found[0].value, ModuleGraph) else None


def in_order(documents: Sequence[Document]) -> tuple[Job, ...]:
    """The tasks in file order, each after those it names in `after`.

    Raises:
        SpecError: no task, or tasks that wait for each other.
    """
    jobs = [_job(document, document.value) for document in documents if isinstance(document.value, Task)]
    if not jobs:
        raise SpecError("no Task in these files; see docs/quickstart.md for one")
    return ready_first(jobs)


def ready_first(jobs: Sequence[Job], *, start: int = 0) -> tuple[Job, ...]:
    """The jobs from number `start` on and around, each after those it names in `after`.

    Raises:
        SpecError: they wait for each other.
    """
    start %= len(jobs)
    turned = [*jobs[start:], *jobs[:start]]
    ids = {job.id for job in jobs}
    ordered: list[Job] = []
    while len(ordered) < len(jobs):
        done = {job.id for job in ordered}
        ready = next((job for job in turned if job.id not in done and not (set(job.after) & ids) - done), None)
        if ready is None:
            waiting = ", ".join(sorted(ids - done))
            raise SpecError(f"spec.after: these tasks wait for each other: {waiting}")
        ordered.append(ready)
    return tuple(ordered)


def _job(document: Document, task: Task) -> Job:
    return Job(document=document, task=task, id=task.id, after=task.spec.after)


def open_graph(store: Store, module_graph: ModuleGraph | None, documents: Sequence[Document]) -> Graph:
    """The graph at HEAD, initialised from the ModuleGraph document if there is none yet.

    Raises:
        NotAGraphError: no graph and no ModuleGraph; the message names `graph init`.
    """
    try:
        return log.read_graph(store)
    except NotAGraphError:
        if module_graph is None:
            raise
    base = next(document.path.parent for document in documents if document.value is module_graph)
    return init_from_document(store, module_graph, base=base)


def name_ignored(job: Job, emit: Emit) -> None:
    """Say once what a local run does not follow."""
    ignored = ignored_locally(job.task)
    if ignored:
        emit("ignored", {"task": job.id, "fields": ", ".join(ignored), "why": "a local run does not follow them"})


@dataclass(frozen=True)
class _Stream:
    """Tasks one after another, each from the newest graph."""

    store: Store
    module_graph: ModuleGraph | None
    device: Device
    emit: Emit
    crew: Crew

    def run(self, jobs: Sequence[Job], graph: Graph, *, passes: int) -> Report:
        """Go over all tasks `passes` times; the last pass's rows, or a failed task's last."""
        rows: dict[str, Row] = {}
        for turn in range(1, passes + 1):
            for job in jobs:
                reason = self._blocked(job, rows, graph)
                if reason is not None:
                    rows[job.id] = Row(job.id, outcome="skipped", reason=reason, seconds=0.0, exit_code=64)
                elif job.id not in rows or not rows[job.id].exit_code:
                    rows[job.id], graph = self._task(job, graph, turn=turn)
                row = rows[job.id]
                fields = {"task": row.task, "outcome": row.outcome, "reason": row.reason, "seconds": row.seconds}
                self.emit("done", fields)
        return Report(rows=tuple(rows[job.id] for job in jobs))

    def _blocked(self, job: Job, rows: Mapping[str, Row], graph: Graph) -> str | None:
        """Why a task cannot start: one that it comes after failed, or is neither here nor in the graph."""
        for task in job.after:
            state = graph.task(task)
            if task in rows and rows[task].exit_code:
                return f"not started: {task}, which it comes after, failed"
            if task not in rows and (state is None or state.route is None):
                return f"not started: {task}, which it comes after, has no route in this graph; run it first"
        return None

    def _task(self, job: Job, graph: Graph, *, turn: int) -> tuple[Row, Graph]:
        """One task's searches of one pass."""
        began = time.monotonic()
        try:
            for request in requests(job, self.module_graph, turn=turn):
                outcome, graph = self._search(log.refresh(self.store, graph), request)
            known = facts(self.store, outcome)
        except StoppedError:
            raise
        except EvergraftError as error:
            seconds = time.monotonic() - began
            return Row(job.id, outcome="error", reason=str(error), seconds=seconds, exit_code=error.exit_code), graph
        state = graph.task(job.id)
        code = 1 if state is not None and state.outcome == "failed" else 0
        seconds = time.monotonic() - began
        return Row(job.id, outcome.kind, outcome.reason, seconds, known, exit_code=code), graph

    def _search(self, graph: Graph, request: Request) -> tuple[Outcome, Graph]:
        search = request.spec.search
        self.emit("search", {"task": request.spec.task, "run": str(request.run), "samples": search.samples})
        cache = local_cache(self.store)

        def make(folder: Folder, spec: ResolvedTask) -> TorchTrainer:
            return TorchTrainer(folder=folder, spec=spec, device=self.device, cache=cache, emit=self.emit)

        return run_search(self.store, graph, request=request, make_trainer=make, emit=self.emit, crew=self.crew)


def requests(job: Job, module_graph: ModuleGraph | None, *, turn: int = 1) -> Iterator[Request]:
    """The runs of one task in pass number `turn` over all tasks, one a cycle."""
    spec = resolve(job.task, graph=module_graph, base=job.document.path.parent).task
    for cycle in range((turn - 1) * spec.search.cycles + 1, turn * spec.search.cycles + 1):
        run = RunKey(iteration=spec.iteration, cycle=cycle)
        yield Request(spec=spec, run=run, task_hash=task_hash(job.task), spec_hash=spec_hash(spec))


def local_cache(store: Store) -> ModuleCache | None:
    """A module cache in the user's cache folder for object stores; none for what is on this machine anyway."""
    if store.url.startswith(("file:", "memory:")):
        return None
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return ModuleCache(Path(home).expanduser() / "evergraft" / "modules")


def facts(store: Store, outcome: Outcome) -> dict[str, Any]:
    """What people want to know of the route that serves the task now; the version alone if none does.

    Raises:
        IntegrityError: the route's document lacks a figure, or has an odd one.
    """
    if outcome.route is None:
        return {"version": outcome.version}
    route = blobs.get_route(store, outcome.route.id)
    with reading(names.route_key(outcome.route.id)):
        tested = route.metrics["testQuality"]
        return {
            "version": outcome.version,
            "route": outcome.route.id,
            "parent": outcome.route.parent_task,
            "why": str(route.transfer.get("reason", "")),
            "quality": share(route.metrics["quality"]),
            "testQuality": None if tested is None else share(tested),
            "parametersActive": count(route.parameters["total"]),
            "parametersAdded": count(route.parameters["added"]),
            "samples": route.samples_seen,
            "trainSeconds": route.seconds,
        }
