"""Which Tasks and ModuleGraphs a change concerns: what the handlers put on the queue.

A wide circle costs a reconcile that writes nothing; a circle too narrow leaves a Task waiting for the next full look.
Called for every change of the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

from evergraft_operator.cache import Cache, Change, Entry
from evergraft_operator.facts import GraphFacts, JobFacts, NamespaceFacts, PodFacts, TaskFacts
from evergraft_operator.kinds import GRAPH, TASK, Key


def concerned(change: Change, cache: Cache) -> Iterator[Key]:
    """The keys that a change concerns; one may come twice."""
    match change.entry.facts:
        case TaskFacts():
            yield from _task(change, cache)
        case GraphFacts():
            yield from _graph(change, cache)
        case JobFacts():
            yield from _job(change, cache)
        case PodFacts() as facts:
            yield from _owners(facts.task, facts.graph, cache)
            job = cache.get(facts.job)
            if job is not None and isinstance(job.facts, JobFacts) and job.facts.finished:
                yield from _asked(job.facts, cache)  # The answer came later than the end.
        case NamespaceFacts():
            yield from _namespace(change, cache)


def key_of(entry: Entry) -> Key:
    """The key of a Task or ModuleGraph."""
    return Key("Task" if entry.kind == TASK.name else "ModuleGraph", entry.namespace, entry.name)


def _task(change: Change, cache: Cache) -> Iterator[Key]:
    yield key_of(change.entry)
    before, after = change.before, change.after
    was, now = (entry.facts if entry else None for entry in (before, after))
    if isinstance(was, TaskFacts) and isinstance(now, TaskFacts) and _face(was) == _face(now):
        return
    facts = change.entry.facts
    assert isinstance(facts, TaskFacts)
    for index in ("tasks after", "tasks by id"):  # Who waits for it, and who wants the same id.
        yield from map(key_of, cache.found(index, f"{facts.graph} {facts.task_id}"))


def _face(facts: TaskFacts) -> tuple[bool, bool]:
    """All that other Tasks can see of it."""
    return facts.routed, facts.denied


def _graph(change: Change, cache: Cache) -> Iterator[Key]:
    yield key_of(change.entry)
    was, now = (entry.facts if entry else None for entry in (change.before, change.after))
    if not (isinstance(was, GraphFacts) and isinstance(now, GraphFacts) and was.generation == now.generation):
        for facts in (was, now):
            if isinstance(facts, GraphFacts):
                yield from map(key_of, neighbours(facts, cache))  # The store may be another's too.
    if not (isinstance(was, GraphFacts) and isinstance(now, GraphFacts) and was.face == now.face):
        name = f"{change.entry.namespace}/{change.entry.name}"
        yield from map(key_of, cache.found("tasks of graph", name))


def neighbours(facts: GraphFacts, cache: Cache) -> list[Entry]:
    """The ModuleGraphs whose stores share objects with one's, itself included, the oldest first."""
    around = [entry for key in facts.places[:-1] for entry in cache.found("graphs at", key)]
    within = [entry for key in facts.places[-1:] for entry in cache.found("graphs within", key)]
    return sorted(around + within, key=_age)


def _age(graph: Entry) -> tuple[str, str]:
    assert isinstance(graph.facts, GraphFacts)
    return graph.facts.age


def _job(change: Change, cache: Cache) -> Iterator[Key]:
    facts = change.entry.facts
    assert isinstance(facts, JobFacts)
    yield from _owners(facts.task, facts.graph, cache)
    if facts.finished or change.after is None:
        yield from _asked(facts, cache)


def _owners(task: str, graph: str, cache: Cache) -> Iterator[Key]:
    for uid, kind in ((task, TASK), (graph, GRAPH)):
        entry = cache.get(uid) if uid else None
        if entry is not None and entry.kind == kind.name:
            yield key_of(entry)


def _asked(facts: JobFacts, cache: Cache) -> Iterator[Key]:
    for uid in facts.asked:
        yield from _owners(uid, "", cache)


def _namespace(change: Change, cache: Cache) -> Iterator[Key]:
    """Tasks in it that another namespace's graph may select now, and Tasks whose graph is going with it."""
    was, now = (entry.facts if entry else None for entry in (change.before, change.after))
    if was == now:
        return
    name = change.entry.name
    for entry in cache.each(TASK.name):
        facts = entry.facts
        if isinstance(facts, TaskFacts):
            of_graph = facts.graph.partition("/")[0]
            if (entry.namespace == name) != (of_graph == name):
                yield key_of(entry)
