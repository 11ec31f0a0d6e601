"""The worker: one process, one device, one search. What runs in a pod, alone or beside others.

It needs the store and nothing else: no coordinator, no cluster. It ends with 0 when its search is closed at HEAD, and
with the exit codes of ``evergraft.errors`` otherwise. Called by ``evergraft worker``.
"""

from __future__ import annotations

import contextlib
import json
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evergraft.api.load import load_documents
from evergraft.api.resolved import ResolvedTask
from evergraft.errors import EvergraftError, SpecError, StoppedError
from evergraft.graph.route import reading
from evergraft.names import RunKey
from evergraft.search.claims import WORKER, Crew
from evergraft.search.engine import Outcome, Request, run_search
from evergraft.search.events import Emit
from evergraft.search.folder import Folder
from evergraft.store import log
from evergraft.store.metered import MeteredStore
from evergraft.store.open import open_store
from evergraft.store.seam import Store
from evergraft_trainer import profile, report
from evergraft_trainer.device import DeviceKind, open_device
from evergraft_trainer.run import in_order, local_cache, requests, the_module_graph
from evergraft_trainer.status_server import status_server
from evergraft_trainer.stopping import stop_signals
from evergraft_trainer.telemetry import Telemetry
from evergraft_trainer.trainer import TorchTrainer


@dataclass(frozen=True)
class Assignment:
    """Where a worker's search comes from: an open search's id, a Task file, or the JSON of a request."""

    graph_url: str
    search: str | None = None
    task: Path | None = None
    spec: str | None = None


@dataclass(frozen=True)
class Settings:
    """How a worker runs: `status` is (host, port) to serve metrics and progress on, `report` the report's path."""

    device: DeviceKind = "cpu"
    threads: int = 1
    status: tuple[str, int] | None = None
    report: Path | None = None


def run_worker(assignment: Assignment, settings: Settings, *, emit: Emit) -> int:
    """Work on one search until it is closed; returns the exit code. Writes the report in every case.

    Raises:
        EvergraftError: what the command line prints; the report is written already.
    """
    telemetry = Telemetry()

    def tell(name: str, fields: Mapping[str, Any]) -> None:
        telemetry.observe_event(name, fields)
        emit(name, {**fields, "worker": WORKER[:12]})

    final: dict[str, Any] = report.ended(None, outcome="crashed", reason="", exit_code=1)
    try:
        with _status(telemetry, settings):
            outcome, final = _work(assignment, settings, telemetry, tell)
    except EvergraftError as error:
        kind = "stopped" if isinstance(error, StoppedError) else "error"
        final = report.ended(None, outcome=kind, reason=str(error), exit_code=error.exit_code)
        raise
    except BaseException:
        final = report.ended(None, outcome="crashed", reason=traceback.format_exc()[-800:], exit_code=1)
        raise
    finally:
        if settings.report is not None:
            report.write(settings.report, report.encode(final, telemetry.totals()))
    tell("done", {"task": final["task"], "outcome": outcome.kind, "reason": outcome.reason})
    return 0


def _work(
    assignment: Assignment, settings: Settings, telemetry: Telemetry, emit: Emit
) -> tuple[Outcome, dict[str, Any]]:
    with stop_signals() as stop:
        store = MeteredStore(open_store(assignment.graph_url), telemetry.observe_store)
        request = read_request(assignment, store)
        profile.apply(threads=settings.threads)
        device = open_device(settings.device)
        cache = local_cache(store)
        emit("search", {"task": request.spec.task, "search": request.search, "run": str(request.run)})

        def make(folder: Folder, spec: ResolvedTask) -> TorchTrainer:
            return TorchTrainer(folder=folder, spec=spec, device=device, cache=cache, emit=emit)

        def idle(seconds: float) -> None:
            emit("idle", {"seconds": seconds})

        crew = Crew(stop=stop, on_idle=idle)
        began = time.monotonic()
        graph = log.read_graph(store)
        outcome, graph = run_search(store, graph, request=request, make_trainer=make, emit=emit, crew=crew)
    final = report.closed(request, outcome, graph)
    return outcome, {**final, "seconds": round(time.monotonic() - began, 3), "exitCode": 0}


def read_request(assignment: Assignment, store: Store) -> Request:
    """The run to work on.

    Raises:
        SpecError: the assignment names none, or a wrong one.
    """
    if assignment.search is not None:
        header = Folder(store, assignment.search).header()
        if header is None:
            raise SpecError(f"--search {assignment.search}: {store.url} has no such open search; check the id")
        return _from_header(header)
    if assignment.spec is not None:
        try:
            return _from_header(json.loads(assignment.spec))
        except ValueError as error:
            raise SpecError(f"EVERGRAFT_SPEC: no JSON: {error}") from None
    if assignment.task is None:
        raise SpecError("nothing to work on: give --search ID or --task FILE, or set EVERGRAFT_SPEC")
    return _from_file(assignment.task, store)


def _from_header(value: Any) -> Request:
    with reading("the search's spec"):
        return Request(
            spec=ResolvedTask.from_json(value["spec"]),
            run=RunKey.parse(value["run"]),
            task_hash=str(value["taskHash"]),
            spec_hash=str(value["specHash"]),
        )


def _from_file(path: Path, store: Store) -> Request:
    """The first run of the file's one task that HEAD has not closed; its last if all are."""
    documents = load_documents([path])
    jobs = in_order(documents)
    if len(jobs) != 1:
        raise SpecError(f"{path}: holds {len(jobs)} Tasks; a worker works on one, `evergraft run` on many")
    runs = list(requests(jobs[0], the_module_graph(documents)))
    state = log.read_task(store, jobs[0].id)[0]
    closed = state.run if state is not None else None
    return next((request for request in runs if closed is None or request.run > closed), runs[-1])


@contextlib.contextmanager
def _status(telemetry: Telemetry, settings: Settings) -> Iterator[None]:
    if settings.status is None:
        yield
        return
    with status_server(telemetry, host=settings.status[0], port=settings.status[1]):
        yield
