"""The work on one key: observe, reconcile, apply. Taken from the queue by a few workers at a time.

A reconcile that raises is logged, counted and tried again later and later; one that would create or delete something
is decided a second time, by what the API server says at that moment; one that somebody else's write has overtaken, by
what they have written. Started by the process while it leads.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from evergraft_operator import admission, fleet, logs, report
from evergraft_operator.apply import Applier, JobRefusedError, OvertakenError
from evergraft_operator.client import KubeError
from evergraft_operator.graphs import reconcile_graph
from evergraft_operator.graphstatus import GraphObserved
from evergraft_operator.kinds import GRAPH, TASK, Key
from evergraft_operator.lease import NotLeadingError
from evergraft_operator.metrics import Metrics
from evergraft_operator.notes import Ask, Notes, Refused
from evergraft_operator.observe import Observer
from evergraft_operator.observed import Observed, Thing
from evergraft_operator.plan import Plan
from evergraft_operator.queue import Queue, QueueClosedError
from evergraft_operator.reading import Moment
from evergraft_operator.reconcile import reconcile

logger = logging.getLogger(__name__)

GATHER_S = 1.0
"""How long a graph waits after a Task asked something, so that one steward answers many."""
TRIES = 3
"""How often in a row a key is reconciled whose object others write to meanwhile; then it goes back to the queue."""


@dataclass(frozen=True)
class Controller:
    """Reconciles keys. `confirm` reads whether this process still leads, and raises NotLeadingError if it does not."""

    queue: Queue[Key]
    observer: Observer
    applier: Applier
    notes: Notes
    metrics: Metrics
    confirm: Callable[[], Awaitable[None]]
    clock: Callable[[], float] = time.monotonic

    async def work(self) -> None:
        """Work on one key after the other until the queue is closed."""
        while True:
            try:
                key, waited = await self.queue.take()
            except QueueClosedError:
                return
            self.metrics.queue_wait_seconds.observe(waited)
            outcome = await self.attempt(key)
            self.metrics.reconcile.labels(outcome).inc()
            self.queue.done(key, failed=outcome in ("retry", "error"))
            await asyncio.sleep(0)  # A thousand keys without a request must not hold up probes and Lease.

    async def attempt(self, key: Key) -> str:
        """Reconcile one key: changed, unchanged, retry or error. Never raises."""
        begun = self.clock()
        with logs.about(**{key.kind.lower(): f"{key.namespace}/{key.name}"}):
            try:
                changed = await self._settle(key)
            except NotLeadingError:
                # A renewal that took too long may still succeed; whoever loses the lead for good empties the queue.
                logger.info("left to the process that leads")
                return "retry"
            except KubeError as error:
                logger.warning("to be tried again: %s", error)
                return "retry"
            except Exception:
                logger.exception("reconcile failed")
                return "error"
            finally:
                self.metrics.reconcile_duration_seconds.observe(self.clock() - begun)
        return "changed" if changed else "unchanged"

    async def _settle(self, key: Key) -> bool:
        """Reconcile one key, again if it was overtaken: who is may have been paused and lead no more, unknowingly."""
        work = self._task if key.kind == TASK.name else self._graph
        for _ in range(TRIES - 1):
            try:
                return await work(key)
            except OvertakenError as error:
                logger.info("decided anew: %s", error)
                await self.confirm()
        return await work(key)

    async def _task(self, key: Key) -> bool:
        observed, plan = await self._decide(key)
        if observed is None or plan is None:
            return False
        search = plan.status.get("search", {}) if plan.status else observed.task.status.get("search", {})
        with logs.about(uid=observed.task.uid, search=search.get("id"), attempt=search.get("attempt")):
            try:
                observed, plan = await self._apply(observed, plan)
            except OvertakenError:  # What came before the status is done, and will not be planned again.
                fleet.count(self.metrics, observed.task, replace(plan, status=None, waited_s=None), _now())
                raise
            fleet.count(self.metrics, observed.task, plan, _now())
            self._note(observed, plan)
        if plan.requeue_s is not None:
            self.queue.add(key, plan.requeue_s)
        return plan.writes

    async def _decide(self, key: Key) -> tuple[Observed | None, Plan | None]:
        """The plan for a Task; by a live look if it makes or ends anything."""
        observed = self.observer.task(key)
        if observed is None:
            return None, None
        observed = await self.observer.with_waits(observed, _now())
        plan = reconcile(observed, _now())
        if not (plan.create or plan.delete or plan.finalizer):
            return observed, plan
        known = {(job.namespace, job.name) for job in observed.jobs}
        wanted = {(job["metadata"]["namespace"], job["metadata"]["name"]) for job in plan.create}
        await self.observer.look(TASK, observed.task, known | wanted)
        if observed.task.deleting is not None:
            await self.observer.look_for_graph(key)
        fresh = self.observer.task(key)
        if fresh is None or fresh.task.uid != observed.task.uid:
            return None, None
        fresh = await self.observer.with_account(await self.observer.with_waits(fresh, _now()), plan)
        return fresh, reconcile(fresh, _now())

    async def _apply(self, observed: Observed, plan: Plan) -> tuple[Observed, Plan]:
        """Apply the plan; if its Job is refused, the plan that says so. What was applied in the end."""
        try:
            await self.applier.apply(TASK, observed.task, plan)
        except JobRefusedError as error:
            logger.warning("the Job is refused: %s", error)
            self.notes.refused[observed.task.uid] = self._refusal(error, observed.task)
            observed = replace(observed, refused=str(error) or "no reason given", invalid=error.invalid)
            plan = replace(reconcile(observed, _now()), create=(), delete=())
            await self.applier.apply(TASK, observed.task, plan)
        return observed, plan

    def _refusal(self, error: JobRefusedError, thing: Thing) -> Refused:
        return Refused(str(error) or "no reason given", self.clock(), thing.generation, error.invalid)

    def _note(self, observed: Observed, plan: Plan) -> None:
        """Keep what the Task asks of its graph and what its workers say of it; wake the graph if that is new."""
        graph, uid = observed.graph, observed.task.uid
        if graph is None or self.observer.cache.is_gone(uid):
            return  # Whoever went meanwhile was forgotten, and asks nothing any more.
        name = f"{graph.namespace}/{graph.name}"
        news = self.notes.ask(uid, Ask(name, plan.question, plan.removal))
        told = [found.totals for pod in observed.pods if pod.over and (found := report.worker_report(pod.message))]
        if admission.is_denied(plan.status or observed.task.status):
            told = []  # Whoever a graph does not let in could forge the reports of workers.
        newest = max((totals for totals in told if totals), key=lambda totals: totals.version, default=None)
        if newest is not None and self.notes.totals.get(uid) != (name, newest):
            self.notes.totals[uid] = (name, newest)
            news = True
        if news:
            self.queue.add(Key("ModuleGraph", graph.namespace, graph.name), GATHER_S)

    async def _graph(self, key: Key) -> bool:
        observed = self.observer.graph(key)
        if observed is None:
            return False
        observed = await self.observer.with_graph_waits(observed, _now())
        plan = reconcile_graph(observed, _now())
        if plan.create or plan.delete:
            known = {(job.namespace, job.name) for job in observed.jobs}
            wanted = {(job["metadata"]["namespace"], job["metadata"]["name"]) for job in plan.create}
            await self.observer.look(GRAPH, observed.graph, known | wanted)
            fresh = self.observer.graph(key)
            if fresh is None or fresh.graph.uid != observed.graph.uid:
                return False
            observed, plan = fresh, reconcile_graph(fresh, _now())
        plan = await self._apply_graph(observed, plan)
        if plan.requeue_s is not None:
            self.queue.add(key, plan.requeue_s)
        return plan.writes

    async def _apply_graph(self, observed: GraphObserved, plan: Plan) -> Plan:
        """Apply the plan; if its Job is refused, the plan that says so. What was applied in the end."""
        graph = observed.graph
        try:
            await self.applier.apply(GRAPH, graph, plan)
        except JobRefusedError as error:
            logger.warning("the steward's Job is refused: %s", error)
            known = self.notes.refused[graph.uid] = self._refusal(error, graph)
            plan = replace(reconcile_graph(replace(observed, refused=known.message), _now()), create=(), delete=())
            await self.applier.apply(GRAPH, graph, plan)
        return plan


def _now() -> Moment:
    """The present, whole seconds."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)
