"""Which run of a Task is due, and how the newest one ended: run keys, iterations, cycles, attempts, HEAD.

What is known comes from the status, from Jobs that are newer than it, from final reports and from what stewards read
at HEAD. A closed run is closed for ever; an open one gets a further attempt only after HEAD was read for the attempt
before, since a Job that is missing says nothing. Called by ``course``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from evergraft.names import RunKey
from evergraft_operator import report
from evergraft_operator.observed import HeadFact, Job, Pod
from evergraft_operator.report import HeadState, RouteReport
from evergraft_operator.status import Search

ENDED = {
    "none": ("NoCandidate", "no candidate came to a route worth committing"),
    "failed": ("CandidateCrashes", "a candidate crashed again and again"),
    "removed": ("RouteRemoved", "the route of this run was removed"),
}
"""Outcomes after which only a higher iteration tries again: reason and sentence."""


@dataclass(frozen=True)
class Ending:
    """How a run ended at HEAD. `already`: before this Task ever worked on it."""

    run: RunKey
    outcome: str
    reason: str = ""
    route: RouteReport | None = None
    task_hash: str | None = None
    already: bool = False


@dataclass(frozen=True)
class Knowledge:
    """The newest run known; without `search`, none is yet.

    `asked`: HEAD was read for it and has not closed it. `served`: nothing more is to be learned of it.
    """

    search: Search | None
    ending: Ending | None = None
    asked: bool = False
    served: bool = True


def newest_search(known: Search | None, jobs: Iterable[Job]) -> Search | None:
    """The status's search, or that of a Job which is newer: its status was never written."""
    for job in jobs:
        if job.run is None or job.attempt < 1 or job.deleting is not None:
            continue
        if known is None or (job.run, job.attempt) > (known.run, known.attempt):
            kept = replace(known, attempt=job.attempt, outcome=None) if known and known.run == job.run else None
            known = replace(kept or Search(run=job.run, attempt=job.attempt), job=job.name, image=job.image or None)
    return known


def job_of(search: Search | None, jobs: Iterable[Job]) -> Job | None:
    """The Job of the newest attempt, rather one that is not being deleted."""
    if search is None:
        return None
    mine = [job for job in jobs if job.run == search.run and job.attempt == search.attempt and job.attempt > 0]
    return min(mine, key=lambda job: (job.deleting is not None, job.finished, job.name), default=None)


def learn(
    search: Search | None,
    *,
    task: str,
    iteration: int,
    job: Job | None,
    pods: Iterable[Pod],
    heads: Iterable[HeadFact],
    has_route: bool,
) -> Knowledge:
    """How the newest run stands, by what its Job's workers reported and by what stewards read at HEAD.

    `has_route`: the status knows the route that serves, so that there is nothing more to learn of a closed run.
    """
    if search is not None and search.outcome is None and search.run.iteration > iteration:
        search = None  # Iterations only grow: this status is another Task's.
    facts = tuple(heads)
    served = search is not None and (search.outcome in ENDED or (search.outcome is not None and has_route))
    if not served:
        reported = None if search is None else _reported(search, task, job, pods)
        ending = reported or _read_closed(search, facts)
        if ending is not None:
            closed = search if search is not None and search.run == ending.run else Search(run=ending.run)
            return Knowledge(replace(closed, outcome=ending.outcome), ending)
    run, attempt = (RunKey(iteration, 1), 0) if search is None else (search.run, search.attempt)
    asked = any((fact.run, fact.attempt) == (run, attempt) for fact in facts)
    if asked and search is not None and not served:
        search = replace(search, outcome=None)  # HEAD is the truth, whatever the status says.
    return Knowledge(search, asked=asked, served=served)


def _reported(search: Search, task: str, job: Job | None, pods: Iterable[Pod]) -> Ending | None:
    """How the run ended, by a worker that exited 0; None unless it says so of this very run, with its route."""
    if job is None or not job.complete:
        return None
    for pod in sorted(pods, key=lambda pod: pod.name):
        told = report.worker_report(pod.message) if pod.phase == "Succeeded" else None
        if told is None or (told.task, told.run) != (task, str(search.run)) or told.outcome not in report.OUTCOMES:
            continue
        if told.outcome != "committed" or told.route is not None:
            route = told.route if told.outcome in ("committed", "kept") else None
            return Ending(run=search.run, outcome=told.outcome, reason=told.reason, route=route)
    return None


def _read_closed(search: Search | None, facts: Iterable[HeadFact]) -> Ending | None:
    """The newest run that HEAD has closed, if it is this one or a later one."""
    states = [fact.state for fact in facts if fact.state.run is not None]
    newest: HeadState | None = max(states, key=lambda state: state.run or RunKey(0, 0), default=None)
    if newest is None or newest.run is None or newest.outcome is None:
        return None
    if search is not None and newest.run < search.run:
        return None
    return Ending(
        run=newest.run,
        outcome=newest.outcome,
        route=newest.route,
        task_hash=newest.task_hash,
        already=search is None or newest.run != search.run,
    )


def due(known: Search | None, *, iteration: int, cycles: int) -> RunKey | None:
    """The run to work on, None if the iteration has ended."""
    if known is None:
        return RunKey(iteration, 1)
    if known.run.iteration < iteration:
        return RunKey(iteration, 1)
    if known.outcome is None:
        return known.run
    if known.run.iteration > iteration or known.outcome in ENDED or known.run.cycle >= cycles:
        return None
    return RunKey(iteration, known.run.cycle + 1)


def differs(ending: Ending, *, iteration: int, task_hash: str) -> bool:
    """Whether HEAD holds a run of this iteration that was made from another metric, dataset or search."""
    same = ending.task_hash is None or task_hash.startswith(ending.task_hash)
    return ending.run.iteration == iteration and not same
