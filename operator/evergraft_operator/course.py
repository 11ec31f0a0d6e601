"""The course of a Task's search: start, go on, wait, stall, end. Values in, one value out.

Reads as the rules of a search's life: a run that HEAD has closed is over; a missing Job is no reason to start; one
live Job at a time; what a person must mend stays stalled until they say so by `suspend`. Called by ``reconcile``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from evergraft.api.fields import seconds
from evergraft.names import RunKey
from evergraft_operator import accounting, admission, failures, labels, report, runs, waiting
from evergraft_operator.admission import Admission
from evergraft_operator.jobs import GRACE_S, RESERVE, Attempt
from evergraft_operator.observed import Job, Observed, Pod
from evergraft_operator.reading import Moment, seconds_between
from evergraft_operator.resolving import Wanted
from evergraft_operator.runs import Ending, Knowledge
from evergraft_operator.status import Previous, Search
from evergraft_operator.stewards import Question
from evergraft_operator.waiting import Wait

STICKY = (*failures.YOURS, *failures.SIZE, "StartTimeout")
"""Stalls that outlive the Job they came from."""
SAID_BY_WORKERS = ("UserError", "DataError", *report.CODES)
"""Stalls whose Job fails by itself."""
REPINNED = ("ImagePull", "PodRejected", "ImageVersion")
"""Stalls after which a resumed search takes its image anew: the pinned one is what was wrong."""
FIRST_RETRY_S = 10
MAX_RETRY_S = 300
REPORT_S = 15.0
"""How long a final report may lag behind its Job's end before a steward is asked instead."""
STOPPING_S = 60
"""How long past its grace a Job may take to be gone before the next attempt no longer waits for it."""


@dataclass(frozen=True)
class Stall:
    """Why a person is needed."""

    reason: str
    message: str


@dataclass(frozen=True)
class Course:
    """What is so and what is to be done.

    `search` is as the status shall have it, `job` its attempt's as it was seen, `ending` how a run was just found to
    have ended, `over` whether the iteration is. `retry_s` is when waiting may be over by time alone.
    """

    search: Search | None
    job: Job | None = None
    pods: tuple[Pod, ...] = ()
    ending: Ending | None = None
    over: bool = False
    suspended: bool = False
    stall: Stall | None = None
    wait: Wait | None = None
    start: Attempt | None = None
    delete: tuple[Job, ...] = ()
    parallelism: int | None = None
    question: Question | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    spent: Mapping[str, int] = field(default_factory=dict)
    retry_s: float | None = None


@dataclass(frozen=True)
class _Scene:
    """What the rules look at, worked out once."""

    observed: Observed
    previous: Previous
    admission: Admission
    known: Knowledge
    job: Job | None
    pods: tuple[Pod, ...]
    iteration: int
    due: RunKey | None
    task: str
    now: Moment

    @property
    def search(self) -> Search | None:
        return self.known.search

    @property
    def wanted(self) -> Wanted | None:
        return self.admission.wanted

    @property
    def suspended(self) -> bool:
        return admission.raw_flag(self.observed.task.spec, "suspend")

    @property
    def current(self) -> bool:
        """Whether the newest run known is the one to work on."""
        return self.search is not None and self.search.outcome is None and self.search.run == self.due

    @property
    def working(self) -> bool:
        """Whether the due run's Job is at it."""
        return self.current and self.job is not None and self.job.live


def plot(observed: Observed, previous: Previous, admitted: Admission, task: str, now: Moment) -> Course:
    """Decide the course of the Task's search."""
    scene = _look(observed, previous, admitted, task, now)
    wait = _wait(scene)
    counted = _failures(scene, wait)
    stall = _stall(scene, wait, counted)
    if scene.suspended and scene.search is not None and scene.search.outcome is None:
        counted = failures.forgiven(counted)
    spent = accounting.spent(
        scene.job, scene.pods, before=previous, devices=scene.wanted.accelerator.count if scene.wanted else 1
    )
    course = Course(
        search=_current_search(scene),
        job=scene.job,
        pods=scene.pods,
        ending=scene.known.ending,
        over=scene.due is None,
        suspended=scene.suspended,
        stall=stall,
        wait=wait if scene.working else None,
        delete=tuple(_superfluous(scene, stall)),
        failures=counted,
        spent=spent,
    )
    if scene.due is None and not scene.known.served and scene.admission.refusal is None:
        return replace(course, question=_question(scene, scene.search))
    if scene.suspended or stall is not None or scene.due is None or scene.wanted is None:
        return course
    if scene.admission.refusal is not None:
        return course
    return _continue(scene, course) if scene.working else _begin(scene, course)


def _look(observed: Observed, previous: Previous, admitted: Admission, task: str, now: Moment) -> _Scene:
    iteration = admission.raw_iteration(observed.task.spec)
    search = runs.newest_search(previous.search, observed.jobs)
    job = runs.job_of(search, observed.jobs)
    pods = observed.pods_of(job)
    known = runs.learn(
        search,
        task=task,
        iteration=iteration,
        job=job,
        pods=pods,
        heads=observed.heads,
        has_route=previous.route is not None,
    )
    same = known.search is not None and search is not None and known.search.run == search.run
    cycles = admitted.wanted.cycles if admitted.wanted is not None else _cycles_as_before(previous, known.search)
    return _Scene(
        observed=observed,
        previous=previous,
        admission=admitted,
        known=known,
        job=job if same else None,
        pods=pods if same else (),
        iteration=iteration,
        due=runs.due(known.search, iteration=iteration, cycles=cycles),
        task=task,
        now=now,
    )


def _cycles_as_before(previous: Previous, search: Search | None) -> int:
    """Where the spec cannot be resolved: whether another cycle follows is what the status last said."""
    cycle = search.run.cycle if search else 1
    going = previous.conditions.get("Reconciling")
    return cycle if going is not None and not going.holds else cycle + 1


def _wait(scene: _Scene) -> Wait | None:
    """What keeps the running Job's workers from starting."""
    if not scene.working or scene.job is None:
        return None
    quota = waiting.for_quota(scene.job, scene.observed.workload)
    return quota or waiting.for_pods(scene.job, scene.pods, scene.observed.events, scene.now)


def _failures(scene: _Scene, wait: Wait | None) -> dict[str, int]:
    search, before = scene.search, scene.previous.search
    same_run = search is not None and before is not None and before.run == search.run
    counted = dict(scene.previous.failures) if same_run else {}
    if scene.job is None or scene.job.deleting is not None:
        return counted
    more = [wait.failure] if wait is not None and wait.failure else []
    if scene.current and scene.job.complete and scene.known.asked:
        more.append("CandidateCrashes")  # It exited 0 and did nothing.
    return failures.tally(
        scene.job, scene.pods, counted=counted, more=more, workload=scene.observed.workload, now=scene.now
    )


def _stall(scene: _Scene, wait: Wait | None, counted: Mapping[str, int]) -> Stall | None:
    """Why a person is needed, None if none is."""
    if scene.due is None:
        return _ended_badly(scene)
    if (differing := _differs(scene)) is not None:
        return differing
    if scene.suspended or not scene.current:
        return None
    return _fresh_stall(scene, wait, counted) or _lasting_stall(scene)


def _ended_badly(scene: _Scene) -> Stall | None:
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


def _differs(scene: _Scene) -> Stall | None:
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


def _fresh_stall(scene: _Scene, wait: Wait | None, counted: Mapping[str, int]) -> Stall | None:
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
    limit = _start_limit_s(scene)
    if limit is not None and search.started is None and seconds_between(job.created, scene.now) > limit:
        return Stall("StartTimeout", f"no worker started within timeouts.start; waited for {wait.sentence}")
    return None


def _start_limit_s(scene: _Scene) -> float | None:
    timeouts = scene.wanted.task.spec.timeouts if scene.wanted else None
    return seconds(timeouts.start) if timeouts is not None and timeouts.start else None


def _lasting_stall(scene: _Scene) -> Stall | None:
    """A stall of this very attempt stays, though its Job be gone."""
    before, search, was = scene.previous.conditions.get("Stalled"), scene.search, scene.previous.search
    if before is None or not before.holds or before.reason not in STICKY or search is None or was is None:
        return None
    same = (was.run, was.attempt) == (search.run, search.attempt)
    return Stall(before.reason, before.message) if same else None


def _superfluous(scene: _Scene, stall: Stall | None) -> Iterator[Job]:
    """The Jobs to delete: all of an open search that is held, and every live one but the one at work."""
    refusal = scene.admission.refusal
    revoked = refusal is not None and refusal.reason in admission.REVOKED
    open_search = scene.search is not None and scene.search.outcome is None
    for job in scene.observed.jobs:
        if job.deleting is not None:
            continue
        if scene.suspended and open_search:
            yield job
        elif job.live:
            at_work = scene.working and job == scene.job and not scene.suspended and not revoked
            # A worker's own refusal fails the Job at once, and its pods stay for their logs.
            ends_itself = stall is not None and stall.reason in SAID_BY_WORKERS
            if not at_work or (stall is not None and not ends_itself):
                yield job


def _current_search(scene: _Scene) -> Search | None:
    """The newest search as its Job and pods show it."""
    search = scene.search
    if search is None or search.outcome is not None:
        return search
    if scene.suspended:
        before = scene.previous.conditions.get("Stalled")
        stale = before is not None and before.holds and before.reason in REPINNED
        return replace(search, image=None) if stale else search
    started = [pod.started for pod in scene.pods if pod.ready and pod.started]
    return replace(
        search,
        image=accounting.pinned(search.image, scene.pods),
        started=search.started or min(started, default=None),
    )


def _continue(scene: _Scene, course: Course) -> Course:
    """Keep the Job at the size that is asked for; a queue gave quota for the size it was made with."""
    assert scene.job is not None
    assert scene.wanted is not None
    if scene.job.queue:
        return course
    lost = sum(failures.is_lost(pod, scene.now) for pod in scene.pods)
    size = min(scene.wanted.replicas + lost, RESERVE)
    return replace(course, parallelism=size if size != scene.job.parallelism else None)


def _begin(scene: _Scene, course: Course) -> Course:
    """Start the due run's next attempt, or say what it waits for."""
    if (stopping := _stopping(scene)) is not None:
        return replace(course, wait=Wait("the Job before to be gone", "Stopping"), retry_s=stopping)
    assert scene.due is not None
    attempt = scene.search.attempt if scene.current and scene.search else 0
    age = seconds_between(scene.job.ended, scene.now) if scene.job is not None and scene.job.complete else REPORT_S
    if scene.current and age < REPORT_S:
        return replace(course, wait=Wait("the final report", "Reporting"), retry_s=REPORT_S - age)
    if (scene.search is None or scene.current) and not scene.known.asked:
        question = _question(scene, scene.search)
        return replace(course, question=question, wait=Wait("HEAD of the graph to be read", "ReadingHead"))
    missing = (
        [task for task in scene.wanted.task.spec.after if not scene.observed.after.get(task)] if scene.wanted else []
    )
    if missing and attempt == 0:
        return replace(course, wait=Wait(_after_sentence(missing, scene.observed.after), "After"))
    retry = _retry_s(scene)
    if retry > 0:
        told = scene.job.failure if scene.job is not None and scene.job.failure else "the Job before ended"
        return replace(
            course, wait=Wait(f"{round(retry)} s before the next attempt ({told})", "BackOff"), retry_s=retry
        )
    return _started(scene, course, attempt + 1)


def _question(scene: _Scene, search: Search | None) -> Question:
    """What HEAD says of the newest run known, or of the first."""
    run, attempt = (search.run, search.attempt) if search is not None else (RunKey(scene.iteration, 1), 0)
    return Question(uid=scene.observed.task.uid, task=scene.task, run=run, attempt=attempt)


def _after_sentence(missing: list[str], after: Mapping[str, bool | None]) -> str:
    known = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    absent = [task for task in missing if after.get(task) is None]
    note = f"; there is no Task {absent[0]} in this graph" if absent else ""
    return f"after: {known} to commit{note}"


def _stopping(scene: _Scene) -> float | None:
    """Seconds to wait for Jobs that are on their way out, None if none is or it takes too long: a node may be dead."""
    limit = STOPPING_S + GRACE_S
    if scene.wanted is not None:
        limit = STOPPING_S + (scene.wanted.workers.termination_grace_period_seconds or GRACE_S)
    left = [limit - seconds_between(job.deleting, scene.now) for job in scene.observed.jobs if job.deleting]
    if any(job.live for job in scene.observed.jobs):
        return float(limit)
    return max((seconds for seconds in left if seconds > 0), default=None)


def _retry_s(scene: _Scene) -> float:
    if not scene.current or scene.job is None or scene.job.ended is None or scene.search is None:
        return 0.0
    pause = float(min(MAX_RETRY_S, FIRST_RETRY_S << min(max(scene.search.attempt - 1, 0), 10)))
    return max(0.0, pause - seconds_between(scene.job.ended, scene.now))


def _started(scene: _Scene, course: Course, number: int) -> Course:
    wanted, due = scene.wanted, scene.due
    assert wanted is not None
    assert due is not None
    images = scene.observed.settings.images
    pinned = course.search.image if scene.current and course.search else None
    image = pinned or wanted.workers.image or images.trainer(wanted.accelerator.type)
    kept = course.failures if scene.current else {}
    attempt = Attempt(run=due, number=number, image=image, before=kept, spent=course.spent)
    thing = scene.observed.task
    name = labels.worker_job_name(task=thing.name, uid=thing.uid, run=str(due), attempt=number)
    before = course.search if scene.current and course.search else Search(run=due)
    search = replace(before, attempt=number, image=image, job=name, spec_hash=before.spec_hash or wanted.spec_hash)
    return replace(course, search=search, job=None, pods=(), start=attempt, failures=kept, wait=None)
