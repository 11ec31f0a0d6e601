"""Puts together what one reconcile decides by: the cache, what was heard, and what has to be read on the spot.

Events and Kueue's Workloads are read only while a Task waits and only where they can say why; the Task, its Jobs and
its ServiceAccount are read live before anything is created or deleted. Called by the controller.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from evergraft_operator import admission, reading, routing, stewards, waiting
from evergraft_operator.cache import Cache, Entry
from evergraft_operator.client import Client, KubeError, MissingError, RefusedError, UnreachableError
from evergraft_operator.course import REFUSED_RETRY_S
from evergraft_operator.facts import GraphFacts, JobFacts, NamespaceFacts, TaskFacts
from evergraft_operator.graphstatus import GraphObserved
from evergraft_operator.kinds import ACCOUNT, EVENT, GRAPH, JOB, NAMESPACE, TASK, WORKLOADS, Key, Kind
from evergraft_operator.notes import Notes, Waits
from evergraft_operator.observed import HeadFact, Job, KubeEvent, Observed, Pod, RemovalFact, Thing, Workload
from evergraft_operator.plan import Plan
from evergraft_operator.reading import Moment, seconds_between
from evergraft_operator.report import Heard
from evergraft_operator.settings import Settings

logger = logging.getLogger(__name__)

EVENTS_AGAIN_S = 10.0
"""How long what was read about a wait may be used again."""
EVENTS_AFTER_S = 5.0
"""How old a Job without pods must be before its Events are asked."""
MAX_EVENTS = 50
_KUEUE_JOB = "kueue.x-k8s.io/job-uid"


@dataclass
class Observer:
    """What can be seen. `changed` is told of every object that a live read brings."""

    cache: Cache
    client: Client
    notes: Notes
    settings: Settings
    changed: Callable[[Kind, dict[str, Any]], object]
    vanished: Callable[[str], object]
    clock: Callable[[], float] = time.monotonic
    _workloads: list[Kind] = field(default_factory=lambda: list(WORKLOADS))

    def task(self, key: Key) -> Observed | None:
        """A Task as the cache has it, None if there is none."""
        entry = self.cache.named(TASK.name, key.namespace, key.name)
        if entry is None:
            return None
        task, facts = Thing.read(entry.document()), entry.facts
        assert isinstance(facts, TaskFacts)
        jobs = self._jobs("jobs of task", entry)
        graph = self._graph(facts)
        heads, removal = self._told(entry.uid, graph)
        return Observed(
            task=task,
            settings=self.settings,
            graph=None if graph is None else Thing.read(graph.document()),
            graph_namespace_terminating=self._terminating(facts),
            namespace_labels=self._labels(key.namespace),
            rivals=tuple(self._rivals(entry, facts)),
            after={task_id: self._routed(facts.graph, task_id) for task_id in facts.after},
            jobs=jobs,
            pods=self._pods(jobs),
            heard=self._heard(entry.uid, jobs),
            heads=heads,
            removal=removal,
            **self._refused(entry.uid, task.generation),
        )

    def graph(self, key: Key) -> GraphObserved | None:
        """A ModuleGraph as the cache has it, None if there is none."""
        entry = self.cache.named(GRAPH.name, key.namespace, key.name)
        if entry is None:
            return None
        assert isinstance(entry.facts, GraphFacts)
        name = f"{key.namespace}/{key.name}"
        jobs = self._jobs("jobs of graph", entry)
        asks = list(self.notes.asked_of(name))
        return GraphObserved(
            graph=Thing.read(entry.document()),
            settings=self.settings,
            rivals=self._elder(entry.facts),
            jobs=jobs,
            pods=self._pods(jobs),
            questions=tuple(ask.question for ask in asks if ask.question),
            removals=tuple(ask.removal for ask in asks if ask.removal),
            totals=self.notes.totals_of(name),
            refused=self._refused(entry.uid, entry.facts.generation).get("refused", ""),
        )

    async def with_waits(self, observed: Observed, now: Moment) -> Observed:
        """With the Events and the Workload that can say what a Task waits for; nothing is read if nothing waits."""
        uid = observed.task.uid
        job = next((job for job in observed.jobs if job.live), None)
        about = tuple(_worth_reading(job, observed.pods_of(job), now)) if job is not None else ()
        if job is None or not about:
            self.notes.waits.pop(uid, None)
            return observed
        known = self.notes.waits.get(uid)
        if known is None or known.about != about or self.clock() - known.at >= EVENTS_AGAIN_S:
            queued = bool(job.queue) and job.suspended
            known = Waits(
                at=self.clock(),
                about=about,
                events=() if queued else tuple([e for item in about for e in await self._events(job.namespace, item)]),
                workload=await self._workload(job) if queued else None,
            )
            self.notes.waits[uid] = known
        return replace(observed, events=known.events, workload=known.workload)

    async def with_graph_waits(self, observed: GraphObserved, now: Moment) -> GraphObserved:
        """With the Events that can say why a steward does not start; nothing is read if none waits."""
        job = next((job for job in observed.jobs if job.live), None)
        if job is None:
            return observed
        about = tuple(_worth_reading(job, tuple(pod for pod in observed.pods if pod.owner == job.uid), now))
        return replace(observed, events=tuple([e for item in about for e in await self._events(job.namespace, item)]))

    async def with_account(self, observed: Observed, plan: Plan) -> Observed:
        """With whether the ServiceAccount of the Job that is to be created exists."""
        accounts = [
            reading.text(reading.mapping(job, "spec", "template", "spec").get("serviceAccountName")) or "default"
            for job in plan.create
        ]
        if not accounts:
            return observed
        try:
            await self.client.get(ACCOUNT, observed.task.namespace, accounts[0])
        except MissingError:
            return replace(observed, service_account_found=False)
        return replace(observed, service_account_found=True)

    async def look(self, kind: Kind, thing: Thing, jobs: Iterable[tuple[str, str]]) -> None:
        """Read an object and Jobs live into the cache: what is there now, and that something is not."""
        for found, namespace, name in [(kind, thing.namespace, thing.name), *((JOB, *place) for place in sorted(jobs))]:
            known = self.cache.named(found.name, namespace, name)
            try:
                self.changed(found, await self.client.get(found, namespace, name))
            except MissingError:
                if known is not None:
                    self.vanished(known.uid)

    async def look_for_graph(self, key: Key) -> None:
        """Read a Task's graph live if the cache has none: who leaves a route in it must know that it is gone."""
        entry = self.cache.named(TASK.name, key.namespace, key.name)
        if entry is None or not isinstance(entry.facts, TaskFacts) or self._graph(entry.facts) is not None:
            return
        namespace, _, name = entry.facts.graph.partition("/")
        try:
            self.changed(GRAPH, await self.client.get(GRAPH, namespace, name))
        except (MissingError, RefusedError):
            return  # It is gone, or where no steward can be sent: its namespace is not watched.

    def _graph(self, facts: TaskFacts) -> Entry | None:
        namespace, _, name = facts.graph.partition("/")
        return self.cache.named(GRAPH.name, namespace, name)

    def _jobs(self, index: str, owner: Entry) -> tuple[Job, ...]:
        """The Jobs that say they are of `owner`, in its own namespace: who may write to another cannot forge them."""
        found = self.cache.found(index, owner.uid)
        return tuple(Job.read(entry.document()) for entry in found if entry.namespace == owner.namespace)

    def _terminating(self, facts: TaskFacts) -> bool:
        entry = self.cache.named(NAMESPACE.name, "", facts.graph.partition("/")[0])
        return entry is not None and isinstance(entry.facts, NamespaceFacts) and entry.facts.terminating

    def _labels(self, namespace: str) -> dict[str, str] | None:
        entry = self.cache.named(NAMESPACE.name, "", namespace)
        return dict(entry.facts.tags) if entry is not None and isinstance(entry.facts, NamespaceFacts) else None

    def _rivals(self, entry: Entry, facts: TaskFacts) -> Iterable[Thing]:
        same = self.cache.found("tasks by id", f"{facts.graph} {facts.task_id}")
        for other in same:
            # Whom the graph does not let in holds no id in it.
            denied = isinstance(other.facts, TaskFacts) and other.facts.denied
            if other.uid != entry.uid and not denied:
                yield Thing.read(other.document())

    def _elder(self, facts: GraphFacts) -> tuple[Thing, ...]:
        """The oldest valid ModuleGraph whose store shares objects with one's, if it is older than that."""
        for entry in routing.neighbours(facts, self.cache):
            if not isinstance(entry.facts, GraphFacts) or entry.facts.age >= facts.age:
                break
            thing = Thing.read(entry.document())
            if admission.read_graph(thing)[0] is not None:
                return (thing,)
        return ()

    def _routed(self, graph: str, task_id: str) -> bool | None:
        facts = [entry.facts for entry in self.cache.found("tasks by id", f"{graph} {task_id}")]
        return any(isinstance(item, TaskFacts) and item.routed for item in facts) if facts else None

    def _told(self, uid: str, graph: Entry | None) -> tuple[tuple[HeadFact, ...], RemovalFact | None]:
        """What the graph's own stewards told about a Task."""
        heads: list[HeadFact] = []
        removal = None
        for entry in self.cache.found("jobs about task", uid):
            facts = entry.facts
            if graph is None or not isinstance(facts, JobFacts):
                continue
            if (entry.namespace, facts.graph) != (graph.namespace, graph.uid):
                continue  # Somebody's forgery.
            job = Job.read(entry.document())
            pods = self._pods([job])
            heads += [fact for fact in stewards.head_facts(job, pods) if fact.uid == uid]
            for found in stewards.removal_facts(job, pods):
                if found.uid == uid and (removal is None or found.done):
                    removal = found
        return tuple(heads), removal

    def _pods(self, jobs: Iterable[Job]) -> tuple[Pod, ...]:
        return tuple(
            Pod.read(pod.document())
            for job in jobs
            for pod in self.cache.found("pods of job", job.uid)
            if pod.namespace == job.namespace
        )

    def _heard(self, uid: str, jobs: tuple[Job, ...]) -> Heard | None:
        about, heard = self.notes.heard.get(uid, ("", None))
        return heard if any(job.uid == about for job in jobs) else None

    def _refused(self, uid: str, generation: int) -> dict[str, Any]:
        known = self.notes.refused.get(uid)
        if known is None or known.generation != generation or self.clock() - known.at >= REFUSED_RETRY_S:
            return {}
        return {"refused": known.message, "invalid": known.invalid}

    async def _events(self, namespace: str, uid: str) -> list[KubeEvent]:
        """Events about an object; none where they cannot be read: they only explain, and nothing may wait for them."""
        found: list[KubeEvent] = []
        fields = f"involvedObject.uid={uid}"
        try:
            async for page in self.client.pages(EVENT, namespace, fields=fields, at_most=MAX_EVENTS):
                found += map(KubeEvent.read, page.items)
        except KubeError as error:
            logger.warning("Events cannot be read: %s", error)
        return found

    async def _workload(self, job: Job) -> Workload | None:
        """Kueue's view of a Job, in the newest version of its API that this cluster serves."""
        while self._workloads:
            try:
                pages = self.client.pages(
                    self._workloads[0], job.namespace, labels=f"{_KUEUE_JOB}={job.uid}", at_most=1
                )
                async for page in pages:
                    return next(map(Workload.read, page.items), None)
            except (RefusedError, UnreachableError) as error:
                logger.debug("Workloads cannot be read: %s", error)
                return None  # The right to read them is optional, and they only explain.
            except MissingError:
                if len(self._workloads) == 1:
                    return None  # Kueue may be installed later.
                del self._workloads[0]
        return None


def _worth_reading(job: Job, pods: tuple[Pod, ...], now: Moment) -> Iterable[str]:
    """The uids of what can say why no worker is ready yet: of the Job, or of pods that do not get on."""
    if job.queue and job.suspended:
        yield job.uid
        return
    here = [pod for pod in pods if not pod.over and pod.deleting is None]
    if any(pod.ready for pod in here):
        return
    if not here and job.parallelism and seconds_between(job.created, now) >= EVENTS_AFTER_S:
        yield job.uid
    for pod in sorted(here, key=lambda pod: pod.name)[:3]:
        if waiting.asks_events(pod, now):
            yield pod.uid
