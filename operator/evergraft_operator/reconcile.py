"""Reconcile a Task: `reconcile(observed, now) -> Plan`. Pure and level-triggered: only what is seen counts.

The same observation gives the same plan, and a state that has settled gives an empty one. Called for every key of
the operator's queue; what it plans, the applier carries out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from evergraft_operator import admission, course, deletion, jobs, labels, status
from evergraft_operator.admission import Admission
from evergraft_operator.conditions import Condition, phase, read
from evergraft_operator.course import Course
from evergraft_operator.events import Event
from evergraft_operator.observed import Observed
from evergraft_operator.plan import Deletion, Fields, Plan, Scaling
from evergraft_operator.reading import Moment, seconds_between
from evergraft_operator.status import Content, Previous, Route

POLL_S = 15.0
"""How often a running search is looked at."""
ACCOUNT_S = 30.0
"""How often a missing ServiceAccount is looked for: nothing tells when it appears."""
REFUSALS = ("QuotaWait", "PodRejected")
"""Waits of a Job that the API server would not have."""


def reconcile(observed: Observed, now: Moment) -> Plan:
    """What to do about a Task, and its whole status if that changes. Never raises."""
    previous = status.read(observed.task.status)
    if observed.task.deleting is not None:
        return deletion.plan(observed, previous, now)
    admitted = admission.admit(observed)
    path = course.plot(observed, previous, admitted, task_id(observed, admitted), now)
    content = _content(observed, previous, admitted, path, now)
    fields = status.build(content, previous, generation=observed.task.generation, now=now)
    changed = fields != dict(observed.task.status)
    return Plan(
        create=_create(observed, admitted, path),
        delete=tuple(map(Deletion.of, path.delete)),
        scale=_scale(path),
        finalizer=_finalizer(observed, admitted),
        status=fields if changed else None,
        events=tuple(_events(previous, admitted, path, fields)) if changed else (),
        question=path.question,
        requeue_s=_requeue(admitted, path),
        ended=path.ending.outcome if changed and path.ending is not None and not path.ending.already else None,
        waited_s=_waited_s(previous, path),
        accelerator=_accelerator(observed, admitted),
    )


def task_id(observed: Observed, admitted: Admission) -> str:
    """The task's key in the graph, also of a Task whose spec is otherwise unreadable."""
    if admitted.wanted is not None:
        return admitted.wanted.task.id
    return deletion.raw_task_id(observed.task)


def _accelerator(observed: Observed, admitted: Admission) -> str:
    """CPU, GPU or TPU, whichever layer says so; of a Task that cannot be resolved, what it says itself."""
    if admitted.wanted is not None:
        return admitted.wanted.accelerator.type
    return admission.raw_accelerator(observed.task.spec)


def _create(observed: Observed, admitted: Admission, path: Course) -> tuple[Fields, ...]:
    if path.start is None or admitted.wanted is None:
        return ()
    size = min(admitted.wanted.replicas, jobs.RESERVE)
    return (jobs.worker_job(observed.task, admitted.wanted, path.start, parallelism=size, settings=observed.settings),)


def _scale(path: Course) -> tuple[Scaling, ...]:
    if path.parallelism is None or path.job is None:
        return ()
    return (Scaling(path.job.namespace, path.job.name, path.parallelism),)


def _finalizer(observed: Observed, admitted: Admission) -> Literal["add", "remove"] | None:
    """A Task whose route goes with it is held back until that is done; others are not."""
    if admitted.wanted is None:
        return None
    holds = admitted.wanted.task.spec.deletion_policy == "Delete"
    if holds == (labels.FINALIZER in observed.task.finalizers):
        return None
    return "add" if holds else "remove"


def _content(observed: Observed, previous: Previous, admitted: Admission, path: Course, now: Moment) -> Content:
    search = path.search
    if search is not None and search.outcome is None and path.job is not None and path.job.live:
        search = status.with_progress(search, observed.heard)
    route = _route(previous, path, now)
    return Content(
        conditions=tuple(_conditions(observed, admitted, path, route)),
        task=task_id(observed, admitted),
        search=search,
        route=route,
        failures=path.failures,
        useful_s=path.spent.get("useful", 0),
        lost_s=path.spent.get("lost", 0),
        waiting=_waiting(admitted, path),
        replicas=_replicas(admitted, path),
        selector=f"{labels.TASK_UID}={observed.task.uid}",
        job=path.job if path.job is not None and not path.job.finished else None,
    )


def _replicas(admitted: Admission, path: Course) -> int | None:
    """How many workers are asked for; where the spec cannot be resolved, how many the Job at work has."""
    if admitted.wanted is not None:
        return admitted.wanted.replicas
    return path.job.parallelism if _is_at_work(path) and path.job is not None else None


def _is_at_work(path: Course) -> bool:
    """Whether workers go on, whatever the Task has become: a refusal keeps further ones from starting."""
    return path.job is not None and path.job.live and path.job not in path.delete


def _route(previous: Previous, path: Course, now: Moment) -> Route | None:
    """The serving route: as just heard of, else as it was; a route keeps the time it was first heard of."""
    ending = path.ending
    if ending is None:
        return previous.route
    if ending.outcome == "removed":
        return None
    told = ending.route
    if told is None or (previous.route is not None and previous.route.report.id == told.id):
        return previous.route
    return Route(told, path.job.ended if path.job is not None and path.job.ended else now)


def _waiting(admitted: Admission, path: Course) -> str:
    if path.over or path.suspended or path.stall is not None:
        return ""
    if admitted.refusal is not None:
        return admitted.refusal.message
    return path.wait.sentence if path.wait is not None else ""


def _conditions(observed: Observed, admitted: Admission, path: Course, route: Route | None) -> Iterator[Condition]:
    refusal = admitted.refusal
    if refusal is None:
        yield Condition("Accepted", "True", "Accepted", "the Task can be worked on")
    else:
        yield Condition("Accepted", "False", refusal.reason, refusal.message)
    yield _scheduled(path)
    if route is None:
        yield Condition("Ready", "False", "NoRoute", "no route of this task serves yet")
    else:
        run = f"run {route.report.run}" if route.report.run else "an earlier run"
        version = f" at version {route.report.version}" if route.report.version is not None else ""
        yield Condition("Ready", "True", "Committed", f"the route of {run}{version} serves")
    yield _reconciling(observed, admitted, path)
    if path.stall is not None:
        yield Condition("Stalled", "True", path.stall.reason, path.stall.message)
    elif refusal is not None and refusal.reason in admission.PERSONAL and _is_in_the_way(path):
        yield Condition("Stalled", "True", refusal.reason, refusal.message)
    else:
        yield Condition("Stalled", "False", "NotStalled", "nothing needs a person")
    if path.suspended:
        yield Condition("Suspended", "True", "Suspended", "spec.suspend holds the search; it stays open")
    else:
        yield Condition("Suspended", "False", "NotSuspended", "the search may run")


def _is_in_the_way(path: Course) -> bool:
    """Whether a refusal keeps anything from being done."""
    return not (path.over or path.suspended or _is_at_work(path))


def _scheduled(path: Course) -> Condition:
    job = path.job
    if (job is None or not job.live) and path.start is None and path.wait is not None and path.wait.reason in REFUSALS:
        return Condition("Scheduled", "False", path.wait.reason, path.wait.sentence)
    if job is None or not job.live or path.stall is not None or path.suspended:
        reason = "Creating" if path.start is not None else "NoWorkers"
        return Condition(
            "Scheduled", "False", reason, "a Job is being created" if path.start else "no worker is asked for"
        )
    if path.wait is not None and not path.wait.scheduled:
        return Condition("Scheduled", "False", path.wait.reason, path.wait.sentence)
    if path.wait is not None:
        return Condition("Scheduled", "True", "Starting", "a worker has a node")
    return Condition("Scheduled", "True", "Running", "workers are running")


def _reconciling(observed: Observed, admitted: Admission, path: Course) -> Condition:
    if path.over and path.stall is None:
        outcome = path.search.outcome if path.search is not None else None
        reason = {"committed": "Committed", "kept": "Kept"}.get(outcome or "", "Ended")
        return Condition(
            "Reconciling", "False", reason, f"iteration {admission.raw_iteration(observed.task.spec)} ended"
        )
    if path.stall is not None:
        return Condition("Reconciling", "False", "Stalled", "see Stalled")
    if path.suspended:
        return Condition("Reconciling", "False", "Suspended", "held by spec.suspend")
    if admitted.refusal is not None and (path.job is None or not path.job.live):
        if admitted.refusal.reason in admission.PERSONAL:
            return Condition("Reconciling", "False", "Stalled", "see Stalled")
        return Condition("Reconciling", "True", "Pending", "not accepted")
    reason, words = _stage(observed, path)
    return Condition("Reconciling", "True", reason, words)


def _stage(observed: Observed, path: Course) -> tuple[str, str]:
    job, wait = path.job, path.wait
    if path.start is not None:
        return "Starting", f"attempt {path.start.number} at run {path.start.run}"
    if job is None or not job.live:
        return "Pending", "waiting to start"
    if wait is not None and wait.reason in ("QuotaWait", "Unschedulable"):
        return "Queued", "waiting for room"
    if any(pod.exit_code == 0 for pod in path.pods):
        return "Committing", f"a worker saw run {job.run} closed"
    if not any(pod.ready for pod in path.pods):
        return "Starting", "workers are starting"
    heard = observed.heard
    if heard is not None and heard.progress.event == "committing":
        return "Committing", f"run {job.run} is being committed"
    return "Training", f"workers train run {job.run}"


def _requeue(admitted: Admission, path: Course) -> float | None:
    """When time alone may change the plan."""
    if path.retry_s is not None:
        return max(1.0, path.retry_s)
    if path.stall is not None or path.over or path.suspended:
        return None
    if admitted.refusal is not None and admitted.refusal.reason == "ServiceAccountNotFound":
        return ACCOUNT_S
    return POLL_S if path.start is not None or (path.job is not None and path.job.live) else None


def _waited_s(previous: Previous, path: Course) -> float | None:
    """How long the first ready worker of a run took, told when it is first seen."""
    search, before = path.search, previous.search
    if search is None or search.started is None or path.job is None:
        return None
    if before is not None and before.run == search.run and before.started is not None:
        return None
    return max(0.0, seconds_between(path.job.created, search.started))


def _events(previous: Previous, admitted: Admission, path: Course, fields: Fields) -> Iterator[Event]:
    """What happened between the status as it stood and as it shall be."""
    before, after = previous.conditions, read(fields)
    yield from _ending_events(path)
    if path.start is not None:
        yield Event(
            "SearchStarted", f"run {path.start.run}, attempt {path.start.number}: {fields['search']['jobName']}"
        )
    if phase(after, deleting=False) == "Training" != previous.phase:
        ready = sum(pod.ready for pod in path.pods)
        yield Event("WorkersReady", f"{ready} workers of run {path.search.run if path.search else ''} are ready")
    if path.start is None:
        yield from _losses(previous.failures, path.failures)
    yield from _turns(before, after)
    refusal = admitted.refusal
    was = before.get("Accepted")
    if refusal is not None and refusal.reason == "PolicyViolation" and (was is None or was.reason != refusal.reason):
        yield Event("PolicyViolation", refusal.message, warning=True)


def _losses(before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[Event]:
    if (more := after.get("Preempted", 0) - before.get("Preempted", 0)) > 0:
        yield Event("Preempted", f"{more} workers were put out", warning=True)
    if (more := after.get("NodeLost", 0) - before.get("NodeLost", 0)) > 0:
        yield Event("WorkerLost", f"{more} workers were lost with their nodes", warning=True)


def _ending_events(path: Course) -> Iterator[Event]:
    ending = path.ending
    if ending is None:
        return
    if ending.already:
        yield Event("AlreadyCommitted", f"HEAD holds run {ending.run}: {ending.outcome}")
    elif ending.outcome in ("committed", "kept"):
        words = "its route serves" if ending.outcome == "committed" else "the route from before stands"
        yield Event("Committed", f"run {ending.run}: {words}")
    else:
        yield Event("SearchFailed", f"run {ending.run}: {ending.outcome}: {ending.reason}", warning=True)


def _turns(before: Mapping[str, Condition], after: Mapping[str, Condition]) -> Iterator[Event]:
    stalled, was = after["Stalled"], before.get("Stalled")
    if stalled.holds and (was is None or not was.holds or was.reason != stalled.reason):
        yield Event("Stalled", f"{stalled.reason}: {stalled.message}", warning=True)
    held = "Suspended" in before and before["Suspended"].holds
    if after["Suspended"].holds and not held:
        yield Event("Suspended", "the search is held; it stays open")
    elif held and not after["Suspended"].holds:
        yield Event("Resumed", "the search goes on with a new attempt")
