"""What the cache knows of an object without unpacking it: what it belongs to, and what concerns others when it changes.

Read once when an object is seen. Used by the cache's indexes, the routing of changes, the listening to workers and
the figures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evergraft_operator import conditions, labels, places, reading
from evergraft_operator.kinds import GRAPH, JOB, NAMESPACE, POD, TASK

IndexRow = tuple[str, str]
MAX_AFTER = 100
MAX_ASKED = 160
"""As many as ``stewards.MAX_ASKED``."""


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """Of a Task. `graph` is `<namespace>/<name>`; `denied` says that the graph does not let it in.

    `progressed` is when its search last told something new, as Unix time, 0 for never.
    """

    graph: str
    task_id: str
    after: tuple[str, ...]
    phase: str
    routed: bool
    denied: bool
    deleting: bool
    progressed: float

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> TaskFacts:
        """Parse the object."""
        meta, spec, status = (reading.mapping(value, part) for part in ("metadata", "spec", "status"))
        namespace, name = reading.text(meta.get("namespace"), 63), reading.text(meta.get("name"))
        ref, search = reading.mapping(spec, "graphRef"), reading.mapping(status, "search")
        graph = f"{reading.text(ref.get('namespace'), 63) or namespace}/{reading.text(ref.get('name')) or 'default'}"
        accepted = conditions.read(status).get("Accepted")
        told = reading.moment(search.get("lastProgressTime") or search.get("startTime"))
        return cls(
            graph=sys.intern(graph),
            task_id=reading.text(spec.get("taskID")) or f"{namespace}/{name}",
            after=tuple(filter(None, map(reading.text, reading.items(spec, "after", at_most=MAX_AFTER)))),
            phase=sys.intern(reading.text(status.get("phase"), 16)),
            routed="route" in status,
            denied=accepted is not None and not accepted.holds and accepted.reason == "GraphAccessDenied",
            deleting="deletionTimestamp" in meta,
            progressed=told.timestamp() if told else 0.0,
        )

    def rows(self) -> Iterator[IndexRow]:
        """What it is found by."""
        yield "tasks of graph", self.graph
        yield "tasks by id", f"{self.graph} {self.task_id}"
        for task in self.after:
            yield "tasks after", f"{self.graph} {task}"


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """Of a ModuleGraph: `face` is all that its Tasks can see of it.

    `age` orders graphs, the oldest first; `places` are the keys of its store's folder, last, and of those around it.
    """

    generation: int
    face: tuple[object, ...]
    age: tuple[str, str] = ("", "")
    places: tuple[str, ...] = ()

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> GraphFacts:
        """Parse the object."""
        meta = reading.mapping(value, "metadata")
        ready = conditions.read(value.get("status")).get("Ready")
        generation = reading.whole(meta.get("generation")) or 0
        state = (ready.status, ready.message) if ready else None
        created = reading.moment(meta.get("creationTimestamp"))
        place = places.store_place(reading.text(meta.get("namespace"), 63), reading.mapping(value, "spec"))
        return cls(
            generation=generation,
            face=(generation, state, "deletionTimestamp" in meta),
            age=(reading.written(created) if created else "~", reading.text(meta.get("uid"), 64)),
            places=tuple(place.keys()) if place is not None else (),
        )

    def rows(self) -> Iterator[IndexRow]:
        """What it is found by."""
        yield from (("graphs at", key) for key in self.places[-1:])
        yield from (("graphs within", key) for key in self.places)


@dataclass(frozen=True, slots=True)
class JobFacts:
    """Of a Job: whose it is, and about which Tasks a steward was asked."""

    task: str
    graph: str
    asked: tuple[str, ...]
    finished: bool
    deleting: bool

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> JobFacts:
        """Parse the object."""
        meta = reading.mapping(value, "metadata")
        tags = reading.mapping(meta, "labels")
        question = reading.mapping(meta, "annotations").get(labels.QUESTION)
        about = reading.json_object(question, max_bytes=64 * 1024) if question else {}
        asked = [*reading.objects(about, "tasks", at_most=MAX_ASKED), reading.mapping(about, "task")]
        ends = {
            item.get("type")
            for item in reading.objects(value, "status", "conditions", at_most=32)
            if item.get("status") == "True"
        }
        return cls(
            task=reading.text(tags.get(labels.TASK_UID), 64),
            graph=reading.text(tags.get(labels.GRAPH_UID), 64),
            asked=tuple(uid for item in asked if (uid := reading.text(item.get("uid"), 64))),
            finished=bool(ends & {"Complete", "SuccessCriteriaMet", "Failed", "FailureTarget"}),
            deleting="deletionTimestamp" in meta,
        )

    def rows(self) -> Iterator[IndexRow]:
        """What it is found by."""
        if self.task:
            yield "jobs of task", self.task
        if self.graph:
            yield "jobs of graph", self.graph
        for uid in self.asked:
            yield "jobs about task", uid


@dataclass(frozen=True, slots=True)
class PodFacts:
    """Of a pod: its Job, whose that is, and whether and where it can be asked."""

    job: str
    task: str
    graph: str
    ready: bool
    address: str

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> PodFacts:
        """Parse the object."""
        meta, status = reading.mapping(value, "metadata"), reading.mapping(value, "status")
        tags = reading.mapping(meta, "labels")
        owners = reading.objects(meta, "ownerReferences", at_most=16)
        ready = any(
            item.get("type") == "Ready" and item.get("status") == "True"
            for item in reading.objects(status, "conditions", at_most=64)
        )
        return cls(
            job=next((reading.text(owner.get("uid"), 64) for owner in owners if owner.get("kind") == "Job"), ""),
            task=reading.text(tags.get(labels.TASK_UID), 64),
            graph=reading.text(tags.get(labels.GRAPH_UID), 64),
            ready=ready and "deletionTimestamp" not in meta,
            address=reading.text(status.get("podIP"), 64),
        )

    def rows(self) -> Iterator[IndexRow]:
        """What it is found by."""
        if self.job:
            yield "pods of job", self.job


@dataclass(frozen=True, slots=True)
class NamespaceFacts:
    """Of a namespace: its labels, by which graphs select, and whether it is being deleted."""

    tags: tuple[tuple[str, str], ...]
    terminating: bool

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> NamespaceFacts:
        """Parse the object."""
        meta = reading.mapping(value, "metadata")
        tags = reading.mapping(meta, "labels")
        return cls(
            tags=tuple(sorted((str(key), str(label)) for key, label in tags.items())),
            terminating="deletionTimestamp" in meta,
        )

    def rows(self) -> Iterator[IndexRow]:
        """Nothing but its name finds it."""
        return iter(())


Facts = TaskFacts | GraphFacts | JobFacts | PodFacts | NamespaceFacts

READERS: Mapping[str, Callable[[Mapping[str, Any]], Facts]] = {
    TASK.name: TaskFacts.read,
    GRAPH.name: GraphFacts.read,
    JOB.name: JobFacts.read,
    POD.name: PodFacts.read,
    NAMESPACE.name: NamespaceFacts.read,
}
