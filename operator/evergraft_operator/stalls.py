"""When a person is needed: what stalls a search, and what lets a stall last.

A stall of an open search outlives the Job it came from, until `suspend` says to try again; one of a closed run lasts
until a higher iteration. Called by ``course``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evergraft.api.fields import seconds
from evergraft_operator import failures, report, runs
from evergraft_operator.observed import Job
from evergraft_operator.reading import Moment, seconds_between
from evergraft_operator.scene import Scene
from evergraft_operator.waiting import Wait

STICKY = (*failures.YOURS, *failures.SIZE, "StartTimeout")
"""Stalls that outlive the Job they came from."""
SAID_BY_WORKERS = ("UserError", "DataError", *report.CODES)
"""Stalls whose Job fails by itself."""
INVALID = "the Job is not valid: "
"""How a stall begins that ends as soon as the spec is another."""
REPINNED = ("ImagePull", "PodRejected", "ImageVersion")
"""Stalls after which a resumed search takes its image anew: the pinned one is what was wrong."""


@dataclass(frozen=True)
class Stall:
    """Why a person is needed."""

    reason: str
    message: str


def stall_of(scene: Scene, wait: Wait | None, counted: Mapping[str, int]) -> Stall | None:
    """Why a person is needed, None if none is."""
    if scene.due is None:
        return _ended_badly(scene)
    if (differing := _differs(scene)) is not None:
        return differing
    if scene.suspended:
        return None
    if (invalid := _invalid(scene)) is not None:
        return invalid
    if not scene.current:
        return None
    return _fresh_stall(scene, wait, counted) or _lasting_stall(scene)


def _ended_badly(scene: Scene) -> Stall | None:
    search = scene.search
    assert search is not None  # Something ended.
    if (differing := _differs(scene)) is not None:
        return differing
    if search.outcome not in runs.ENDED:
        return None
    reason, words = runs.ENDED[search.outcome]
    told = scene.known.ending.reason if scene.known.ending else ""
    if not told and (before := scene.previous.conditions.get("Stalled")) and before.reason == reason:
        return Stall(reason, before.message)
    advice = f"to try again, set spec.iteration to {search.run.iteration + 1}"
    return Stall(reason, f"run {search.run}: {told or words}; {advice}")


def _differs(scene: Scene) -> Stall | None:
    """HEAD holds a run of this iteration that was made from another spec. Told once, it lasts."""
    ending, wanted, reason = scene.known.ending, scene.wanted, "SpecDiffersFromCommitted"
    if ending is None or wanted is None:
        before, search = scene.previous.conditions.get("Stalled"), scene.search
        lasting = before is not None and before.holds and before.reason == reason
        here = search is not None and search.outcome is not None and search.run.iteration == scene.iteration
        return Stall(reason, before.message) if before is not None and lasting and here else None
    if not runs.differs(ending, iteration=scene.iteration, task_hash=wanted.task_hash):
        return None
    words = f"run {ending.run} is committed with another metric, dataset or search"
    return Stall(reason, f"{words}; set spec.iteration to {ending.run.iteration + 1} to train this one")


def _invalid(scene: Scene) -> Stall | None:
    """The API server will never have the Job that this spec makes; another spec may make another."""
    if scene.working:
        return None
    if scene.observed.invalid:
        return Stall("PodRejected", f"{INVALID}{scene.observed.refused}")
    before = scene.previous.conditions.get("Stalled")
    if before is None or not before.holds or not before.message.startswith(INVALID):
        return None
    return Stall(before.reason, before.message) if before.generation == scene.observed.task.generation else None


def _fresh_stall(scene: Scene, wait: Wait | None, counted: Mapping[str, int]) -> Stall | None:
    job, search = scene.job, scene.search
    if job is None or job.deleting is not None or search is None:
        return None
    refused = failures.refusal(job, scene.pods, scene.now)
    if refused is not None:
        return Stall(*refused)
    if (reason := failures.spent(counted)) is not None:
        times = sum(counted.get(item, 0) for item in failures.SIZE)
        return Stall(reason, f"workers of run {search.run} failed {times} times for want of memory or by crashes")
    if wait is None:
        return None
    if wait.stalls:
        return Stall(wait.failure or wait.reason, wait.sentence)
    limit, since = _start_limit_s(scene), _waiting_since(scene, job, wait)
    if limit is not None and search.started is None and since and seconds_between(since, scene.now) > limit:
        return Stall("StartTimeout", f"no worker started within timeouts.start; waited for {wait.sentence}")
    return None


def _waiting_since(scene: Scene, job: Job, wait: Wait) -> Moment | None:
    """Since when the Job has asked for workers, as far as anything shows it: it may have been scaled up from 0."""
    if wait.reason in ("NoWorkers", "PodsMissing"):
        return None
    made = [pod.created for pod in scene.pods if pod.created]
    refused = [event.first for event in scene.observed.events if event.about == job.uid and event.first]
    return max(filter(None, (job.created, min(made or refused, default=None))), default=None)


def _start_limit_s(scene: Scene) -> float | None:
    timeouts = scene.wanted.task.spec.timeouts if scene.wanted else None
    return seconds(timeouts.start) if timeouts is not None and timeouts.start else None


def _lasting_stall(scene: Scene) -> Stall | None:
    """A stall of this very attempt stays, though its Job be gone."""
    before, search, was = scene.previous.conditions.get("Stalled"), scene.search, scene.previous.search
    if before is None or not before.holds or before.reason not in STICKY or search is None or was is None:
        return None
    if before.message.startswith(INVALID):
        return None  # It was of an older spec.
    same = (was.run, was.attempt) == (search.run, search.attempt)
    return Stall(before.reason, before.message) if same else None
