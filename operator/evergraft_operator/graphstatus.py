"""The status of a ModuleGraph: read with suspicion, brought up to date by what is told, written whole.

Stewards are believed what they saw; a worker may move the figures on by a little, since its image may be anybody's.
Called by ``graphs``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from evergraft_operator import reading, report, stewards
from evergraft_operator.observed import Job, KubeEvent, Pod, Thing
from evergraft_operator.plan import Fields
from evergraft_operator.reading import Moment
from evergraft_operator.report import Totals
from evergraft_operator.settings import Settings
from evergraft_operator.stewards import Answer, Question, Removal

MAX_LEAP = 1000
"""How many versions a worker may claim the graph to be ahead of what is known: it is not trusted."""


@dataclass(frozen=True)
class GraphObserved:
    """Everything one reconcile of a ModuleGraph decides by.

    `rivals` are other ModuleGraphs, the oldest that could have its store among them; `questions` and `removals` stand
    in the newest plans of its Tasks; `totals` are what workers' final reports say of it; `events` are read only while
    a steward does not start. `refused` is why the API server would not have the next steward's Job, empty if it was
    not asked or not lately.
    """

    graph: Thing
    settings: Settings = field(default_factory=Settings)
    rivals: tuple[Thing, ...] = ()
    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    questions: tuple[Question, ...] = ()
    removals: tuple[Removal, ...] = ()
    totals: tuple[Totals, ...] = ()
    events: tuple[KubeEvent, ...] = ()
    refused: str = ""


@dataclass(frozen=True)
class GraphStatus:
    """A ModuleGraph's status: read with suspicion, written whole."""

    graph: str | None = None
    totals: Totals | None = None
    verified: Moment | None = None
    collected: Moment | None = None


def read_status(value: object) -> GraphStatus:
    """Parse a status."""
    fields = reading.mapping(value)
    return GraphStatus(
        graph=reading.text_or_none(fields.get("graphID"), 64),
        totals=report.totals(fields),
        verified=reading.moment(fields.get("lastVerifyTime")),
        collected=reading.moment(fields.get("lastCollectionTime")),
    )


def answers(observed: GraphObserved) -> Iterator[tuple[Job, Answer]]:
    """Finished stewards, oldest first."""
    done = sorted((job for job in observed.jobs if job.finished), key=lambda job: (str(job.ended), job.name))
    for job in done:
        found = stewards.answer(job, observed.pods)
        if found is not None:
            yield job, found


def learn(status: GraphStatus, observed: GraphObserved) -> GraphStatus:
    """The status with what stewards and workers have told since."""
    graph, totals, verified, collected = status.graph, status.totals, status.verified, status.collected
    for job, found in answers(observed):
        over = job.ended or job.created
        checked = job.duty == "verify" and (found.ok or found_damage(job, observed.pods))
        fresh = (checked and _later(over, verified)) or (job.duty == "collect" and found.ok and _later(over, collected))
        if found.ok:
            graph = graph or (found.graph if job.duty == "init" else None)
            totals = _newer(totals, found.totals, trusted=fresh)
        if fresh and job.duty == "verify":
            verified = over
        if fresh and job.duty == "collect":
            collected = over
    for told in observed.totals:
        if totals is not None and told.version - totals.version <= MAX_LEAP:
            totals = _newer(totals, told, trusted=False)
    return GraphStatus(graph=graph, totals=totals, verified=verified, collected=collected)


def found_damage(job: Job, pods: Iterable[Pod]) -> bool:
    """Whether a steward ended with 65: something stored is wrong. One that ended with 64 or 75 looked at nothing."""
    if job.failure != "PodFailurePolicy":
        return False
    return "exit code 65" in job.message or any(pod.owner == job.uid and pod.exit_code == 65 for pod in pods)


def _later(time: Moment | None, than: Moment | None) -> bool:
    return time is not None and (than is None or time > than)


def _newer(known: Totals | None, told: Totals | None, *, trusted: bool) -> Totals | None:
    """What is told if it is newer, or fresh from who has seen everything; figures it leaves out stay as they were."""
    if told is None or (known is not None and told.version <= known.version and not trusted):
        return known
    if known is None:
        return told
    names = ("tasks", "modules", "parameters", "bytes")
    kept = {name: getattr(known if getattr(told, name) is None else told, name) for name in names}
    return Totals(version=told.version, **kept)


def fields_of(status: GraphStatus, settled: list[Fields], generation: int) -> Fields:
    """The status as it is written, empty parts left out."""
    totals = status.totals
    found: Fields = {
        "observedGeneration": generation,
        "graphID": status.graph,
        "version": totals.version if totals else None,
        "tasks": totals.tasks if totals else None,
        "modules": totals.modules if totals else None,
        "parameters": totals.parameters if totals else None,
        "bytes": totals.bytes if totals else None,
        "lastVerifyTime": reading.written(status.verified) if status.verified else None,
        "lastCollectionTime": reading.written(status.collected) if status.collected else None,
        "conditions": settled,
    }
    return {name: value for name, value in found.items() if value is not None}
