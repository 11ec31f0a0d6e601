"""The worker: one process, one device, one search. What runs in a pod, alone or beside others.

It needs the store and nothing else: no coordinator, no cluster. It ends with 0 when its search is closed at HEAD, and
with the exit codes of ``evergraft.errors`` otherwise. Called by ``evergraft worker``.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest

from evergraft.api.resolved import ResolvedTask
from evergraft.errors import EvergraftError, OutOfMemoryError, StoppedError
from evergraft.search.claims import WORKER, Crew
from evergraft.search.engine import Answers, Outcome, Request, run_search
from evergraft.search.events import Emit
from evergraft.search.folder import Folder
from evergraft.search.groups import Claimed
from evergraft.search.ledger import Looked
from evergraft.search.values import CandidatePlan, SlotRef, SlotResult
from evergraft.store import log
from evergraft.store.metered import MeteredStore
from evergraft_trainer import profile, report
from evergraft_trainer.assignment import Assignment, read_orders, read_request
from evergraft_trainer.device import DeviceKind, is_memory_exhausted, open_device
from evergraft_trainer.ledger import Ledger
from evergraft_trainer.run import local_cache
from evergraft_trainer.standing import Standing
from evergraft_trainer.status_server import Address, Served, status_server
from evergraft_trainer.stopping import Stop, stop_signals
from evergraft_trainer.telemetry import Telemetry
from evergraft_trainer.trainer import TorchTrainer

__all__ = ["Assignment", "Settings", "run_worker"]

CLOSING = SlotRef(generation=-1, slot=-1)
"""Stands in the books for what is measured once a search has decided."""


@dataclass(frozen=True)
class Settings:
    """How a worker runs: `status` is where to serve metrics and progress, `report` the report's path.

    `expected` is how many other workers to leave their share of the slots before any of them is seen.
    """

    device: DeviceKind = "cpu"
    threads: int = 1
    status: Address | None = None
    report: Path | None = None
    expected: int = 1
    follow_parent: bool = False


@dataclass
class Watch:
    """All that one worker tells of itself, and the run it works on once that is read."""

    emit: Emit
    telemetry: Telemetry = field(default_factory=Telemetry)
    standing: Standing = field(default_factory=lambda: Standing(WORKER[:12]))
    ledger: Ledger = field(default_factory=Ledger)
    request: Request | None = None

    def tell(self, name: str, fields: Mapping[str, Any]) -> None:
        """Count an event, and pass it on."""
        self.telemetry.observe_event(name, fields)
        self.standing.observe(name, fields)
        if name == "validation":
            self.ledger.save(SlotRef(int(fields["generation"]), int(fields["slot"])))
        self.emit(name, {**fields, "worker": WORKER[:12]})

    def begin(self, request: Request) -> None:
        """The run to work on is known."""
        self.request = request
        spec = request.spec
        self.standing.begin(task=spec.task, run=str(request.run), search=request.search, spec=spec.search)
        self.tell("search", {"task": spec.task, "search": request.search, "run": str(request.run)})

    def served(self) -> Served:
        """What is served of it."""
        return Served(metrics=lambda: generate_latest(self.telemetry.registry), progress=self.standing.document)

    def report(self, final: Mapping[str, Any]) -> bytes:
        """The final report, with what was counted."""
        counted = {"acceleratorSeconds": self.ledger.totals(), "counters": self.telemetry.totals()}
        base = self.standing.base_version
        return report.encode({**final, **counted, **({} if base is None else {"baseVersion": base})})


def run_worker(assignment: Assignment, settings: Settings, *, emit: Emit) -> int:
    """Work on one search until it is closed; returns the exit code. Writes the report in every case.

    Raises:
        EvergraftError: what the command line prints; the report is written already.
    """
    watch = Watch(emit)
    final: Mapping[str, Any] = {"outcome": "crashed", "reason": "", "exitCode": report.CRASHED}
    with stop_signals() as stop:
        if settings.follow_parent:
            stop.watch_parent()
        try:
            with _status(watch, settings):
                outcome, final = _work(assignment, settings, watch, stop)
        except BaseException as error:
            known = _named(error, settings)
            final = report.failed(watch.request, known, trace=traceback.format_exc())
            if known is error:
                raise
            raise known from error
        finally:
            stop.training = True  # nothing is left to be interrupted: a signal must not cut the report short
            if settings.report is not None:
                report.write(settings.report, watch.report(final))
    watch.tell("done", {"task": final["task"], "outcome": outcome.kind, "reason": outcome.reason})
    return 0


def _named(error: BaseException, settings: Settings) -> BaseException:
    """The error itself, or ours where it says that memory is exhausted."""
    if isinstance(error, EvergraftError) or not is_memory_exhausted(error):
        return error
    return OutOfMemoryError(
        f"the memory of the device ({settings.device}) or of this machine is exhausted; lower search.batchSize or "
        "search.imageSize, or use more"
    )


def _work(assignment: Assignment, settings: Settings, watch: Watch, stop: Stop) -> tuple[Outcome, Mapping[str, Any]]:
    orders = read_orders(assignment)
    watch.request = orders.request
    store = MeteredStore(orders.open_store(), watch.telemetry.observe_store)
    request = read_request(orders, store)
    watch.begin(request)
    profile.apply(threads=settings.threads)
    device = open_device(settings.device)
    cache = local_cache(store)

    def make(folder: Folder, spec: ResolvedTask) -> TimedTrainer:
        trainer = TorchTrainer(
            folder=folder, spec=spec, device=device, cache=cache, emit=watch.tell, access=orders.data
        )
        return TimedTrainer(trainer, watch.ledger)

    crew = Crew(stop=stop, on_idle=lambda seconds: watch.tell("idle", {"seconds": seconds}), expected=settings.expected)
    began = time.monotonic()
    graph = log.read_graph(store)
    outcome, graph = run_search(store, graph, request=request, make_trainer=make, emit=watch.tell, crew=crew)
    stop.training = True  # closed: from here on a signal changes nothing
    seconds = round(time.monotonic() - began, 3)
    return outcome, {**report.closed(request, outcome, graph, store), "seconds": seconds}


@dataclass(frozen=True)
class TimedTrainer:
    """A trainer whose time goes into the ledger."""

    inner: TorchTrainer
    ledger: Ledger

    def open(self, pinned: Mapping[str, Any] | None) -> tuple[Any, Mapping[str, Any]]:
        """The inner one's; costs no accelerator's time."""
        return self.inner.open(pinned)

    def rehearse(self, plans: Sequence[CandidatePlan]) -> None:
        """The inner one's; costs no accelerator's time."""
        self.inner.rehearse(plans)

    def company(self, first: Claimed, others: Sequence[Claimed]) -> Sequence[SlotRef]:
        """The inner one's."""
        return self.inner.company(first, others)

    def train(self, group: Sequence[Claimed]) -> Iterator[SlotResult]:
        """The inner one's results; a candidate without one was taken over by another worker."""
        left = {claimed.ref: claimed for claimed in group}
        self.ledger.begin(*left)
        saved = False
        try:
            for result in self.inner.train(group):
                ref = SlotRef(result.generation, result.slot)
                left.pop(ref, None)
                self.ledger.settle(ref, counts=True)
                yield result
            for ref in left:
                self.ledger.settle(ref, counts=False)
        except StoppedError:
            saved = True
            raise
        finally:
            self.ledger.end(saved=saved)

    def conclude(self, ref: SlotRef, result: SlotResult) -> Answers:
        """The inner one's answers, which every search needs once."""
        self.ledger.begin(ref)
        try:
            return self.inner.conclude(ref, result)
        finally:
            self.ledger.settle(ref, counts=True)

    def look(self, plan: CandidatePlan, pulse: Callable[[], None]) -> Looked | None:
        """The inner one's probe for the transfer ledger, which belongs to the closing as the answers do."""
        self.ledger.begin(CLOSING)
        looked = False
        try:
            found = self.inner.look(plan, pulse)
            looked = True
            return found
        finally:
            self.ledger.settle(CLOSING, counts=looked)


@contextlib.contextmanager
def _status(watch: Watch, settings: Settings) -> Iterator[None]:
    if settings.status is None:
        yield
        return
    with status_server(watch.served(), settings.status):
        yield
