"""The course of a Task's search: start, go on, wait, stall, end. Values in, one value out.

Reads as the rules of a search's life: a run that HEAD has closed is over; a missing Job is no reason to start; one
live Job at a time; what a person must mend stays stalled until they say so by `suspend`. Called by ``reconcile``.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from evergraft.names import RunKey
from evergraft_operator import accounting, admission, failures, labels, reading, stalls, waiting
from evergraft_operator.admission import Admission
from evergraft_operator.jobs import GRACE_S, RESERVE, Attempt
from evergraft_operator.observed import Job, Observed, Pod
from evergraft_operator.reading import Moment, seconds_between
from evergraft_operator.runs import Ending
from evergraft_operator.scene import Scene, look
from evergraft_operator.stalls import Stall, stall_of
from evergraft_operator.status import Previous, Search
from evergraft_operator.stewards import Question
from evergraft_operator.waiting import Wait

FIRST_RETRY_S = 10
MAX_RETRY_S = 300
REPORT_S = 15.0
"""How long a final report may lag behind its Job's end before a steward is asked instead."""
REFUSED_RETRY_S = 60.0
"""How long a Job that the API server refused is not tried again."""
STOPPING_S = 60
"""How long past its grace a Job may take to be gone before the next attempt no longer waits for it."""
READING_HEAD = "HEAD of the graph to be read; if this lasts, the ModuleGraph says why"


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


def plot(observed: Observed, previous: Previous, admitted: Admission, task: str, now: Moment) -> Course:
    """Decide the course of the Task's search."""
    scene = look(observed, previous, admitted, task, now)
    wait = _wait(scene)
    counted = _failures(scene, wait)
    stall = stall_of(scene, wait, counted)
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


def _wait(scene: Scene) -> Wait | None:
    """What keeps the running Job's workers from starting."""
    if not scene.working or scene.job is None:
        return None
    quota = waiting.for_quota(scene.job, scene.observed.workload)
    return quota or waiting.for_pods(scene.job, scene.pods, scene.observed.events, scene.now)


def _failures(scene: Scene, wait: Wait | None) -> dict[str, int]:
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


def _superfluous(scene: Scene, stall: Stall | None) -> Iterator[Job]:
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
            ends_itself = stall is not None and stall.reason in stalls.SAID_BY_WORKERS
            if not at_work or (stall is not None and not ends_itself):
                yield job


def _current_search(scene: Scene) -> Search | None:
    """The newest search as its Job and pods show it."""
    search = scene.search
    if search is None or search.outcome is not None:
        return search
    started = [pod.started for pod in scene.pods if pod.ready and pod.started]
    search = replace(
        search,
        image=accounting.pinned(search.image, scene.pods),
        started=search.started or min(started, default=None),
    )
    if not scene.suspended:
        return search
    before = scene.previous.conditions.get("Stalled")
    # Where no worker was ever ready, nothing was made with the image, and it may be what is wrong.
    stale = search.started is None or (before is not None and before.holds and before.reason in stalls.REPINNED)
    return replace(search, image=None) if stale else search


def _continue(scene: Scene, course: Course) -> Course:
    """Keep the Job at the size that is asked for; a queue gave quota for the size it was made with."""
    assert scene.job is not None
    assert scene.wanted is not None
    if scene.job.queue:
        return course
    lost = sum(failures.is_lost(pod, scene.now) for pod in scene.pods)
    size = min(scene.wanted.replicas + lost, RESERVE)
    return replace(course, parallelism=size if size != scene.job.parallelism else None)


def _begin(scene: Scene, course: Course) -> Course:
    """Start the due run's next attempt, or say what it waits for."""
    if (stopping := _stopping(scene)) is not None:
        return replace(course, wait=Wait("the Job before to be gone", "Stopping"), retry_s=stopping)
    assert scene.due is not None
    attempt = scene.search.attempt if scene.current and scene.search else 0
    age = seconds_between(scene.job.ended, scene.now) if scene.job is not None and scene.job.complete else REPORT_S
    if scene.current and age < REPORT_S:
        return replace(course, wait=Wait("the final report", "Reporting"), retry_s=REPORT_S - age)
    unread = (scene.search is None or scene.current) and not scene.known.asked
    question = _question(scene, scene.search) if unread else None
    wait, retry_s = _held(scene, attempt)
    if question is not None and (wait is None or not _is_told(scene, wait)):
        return replace(course, question=question, wait=Wait(READING_HEAD, "ReadingHead"))
    if wait is None:
        return _started(scene, course, attempt + 1)
    # What time alone ends is followed by a start at once, so HEAD is read meanwhile; `after` may last for days.
    return replace(course, wait=wait, retry_s=retry_s, question=question if retry_s is not None else None)


def _held(scene: Scene, attempt: int) -> tuple[Wait | None, float | None]:
    """What the attempt after `attempt` waits for besides HEAD, and how many seconds where time alone ends that."""
    after = scene.wanted.task.spec.after if scene.wanted is not None else ()
    missing = [task for task in after if not scene.observed.after.get(task)]
    if missing and attempt == 0:
        return Wait(_after_sentence(missing, scene.observed.after), "After"), None
    if scene.wanted is not None and scene.wanted.workers.queue_name and scene.wanted.replicas == 0:
        return waiting.NONE_ASKED_FOR, None  # A queue gives quota for the size that a Job is made with.
    retry = _retry_s(scene)
    if retry > 0:
        told = scene.job.failure if scene.job is not None and scene.job.failure else "the Job before ended"
        due = reading.written(scene.now + datetime.timedelta(seconds=retry))  # The same words until then.
        return Wait(f"the next attempt at {due} ({told})", "BackOff"), retry
    if scene.observed.refused:
        return waiting.for_refusal(scene.observed.refused), REFUSED_RETRY_S
    return None, None


def _is_told(scene: Scene, wait: Wait) -> bool:
    """Whether the status, for the spec as it stands, tells of such a wait already: then HEAD was read before it did.

    A steward's answer goes with its Job after an hour. To tell of HEAD each time, and then of the wait again, would be
    two writes for nothing. Details may have changed since, so only the words before a colon are compared.
    """
    going = scene.previous.conditions.get("Reconciling")
    same_spec = going is not None and going.generation == scene.observed.task.generation
    return same_spec and scene.previous.waiting.partition(":")[0] == wait.sentence.partition(":")[0]


def _question(scene: Scene, search: Search | None) -> Question:
    """What HEAD says of the newest run known, or of the first."""
    run, attempt = (search.run, search.attempt) if search is not None else (RunKey(scene.iteration, 1), 0)
    return Question(uid=scene.observed.task.uid, task=scene.task, run=run, attempt=attempt)


def _after_sentence(missing: list[str], after: Mapping[str, bool | None]) -> str:
    known = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    absent = [task for task in missing if after.get(task) is None]
    note = f"; there is no Task {absent[0]} in this graph" if absent else ""
    return f"after: {known} to commit{note}"


def _stopping(scene: Scene) -> float | None:
    """Seconds to wait for Jobs that are on their way out, None if none is or it takes too long: a node may be dead."""
    grace = scene.wanted.workers.termination_grace_period_seconds if scene.wanted is not None else None
    limit = STOPPING_S + (GRACE_S if grace is None else grace)
    left = [limit - seconds_between(job.deleting, scene.now) for job in scene.observed.jobs if job.deleting]
    if any(job.live for job in scene.observed.jobs):
        return float(limit)
    return max((seconds for seconds in left if seconds > 0), default=None)


def _retry_s(scene: Scene) -> float:
    if not scene.current or scene.job is None or scene.job.ended is None or scene.search is None:
        return 0.0
    pause = float(min(MAX_RETRY_S, FIRST_RETRY_S << min(max(scene.search.attempt - 1, 0), 10)))
    return max(0.0, pause - seconds_between(scene.job.ended, scene.now))


def _started(scene: Scene, course: Course, number: int) -> Course:
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
