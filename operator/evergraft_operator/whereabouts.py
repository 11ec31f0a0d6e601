"""Where a graph's stewards are: in the way of the next, held up, lost with their node; and when to look again.

A pod on a dead node terminates without end. Its Job makes no other in its place, and one that is deleted in the
foreground waits for it. Nothing of a graph's Tasks may hang on that: who is lost so is given up. Called by ``graphs``.
"""

from __future__ import annotations

import datetime

from evergraft_operator import failures, reading, report, stewards, waiting
from evergraft_operator.graphstatus import GraphObserved
from evergraft_operator.observed import Job, Pod
from evergraft_operator.reading import Moment, seconds_between

HELD_AFTER_S = 30.0
"""How long a steward may take to start, or to be gone, before its graph tells of it."""
STOPPING_S = stewards.GRACE_S + failures.LOST_AFTER_S
"""How long a steward's Job that is deleted may take to be gone before the next no longer waits for it."""
LOOK_S = 15.0


def in_the_way(job: Job, now: Moment) -> bool:
    """Whether a steward that may not work beside this one has to wait for it."""
    if job.deleting is not None:
        return seconds_between(job.deleting, now) < STOPPING_S
    return not job.finished


# Who is given up may still be at work, on a node that is only cut off, while another does the same or something else.
# It does no harm, and nobody hears its answer, since its Job is gone:
# - `init` puts blobs under the names of their contents; one graph.json and one log/0 win, and the other adopts them.
# - `heads` and `verify` write nothing.
# - `remove` finds nothing to do where the other was first, in the very commit too; and however late it comes, it takes
#   no route of an iteration that its Task had not come to, so none that the task was trained to anew.
# - `collect` is made to run beside writers and other collections, and to fall asleep between any two of its steps: it
#   deletes only what had been condemned for a grace period when it began, which no route that is verified can use.
def lost(observed: GraphObserved, now: Moment) -> tuple[Job, ...]:
    """The stewards that went with their nodes: nothing they still wait for will ever end."""
    return tuple(job for job in observed.jobs if job.live and _is_lost(_at_work(job, observed), now))


def _is_lost(pods: list[Pod], now: Moment) -> bool:
    return bool(pods) and all(failures.is_lost(pod, now) for pod in pods)


def held_up(observed: GraphObserved, now: Moment) -> tuple[str, str] | None:
    """Reason and sentence about a steward that does not get on; None if all goes well."""
    told = (_going(job, now) if job.deleting is not None else _trouble(job, observed, now) for job in observed.jobs)
    return next((found for found in told if found is not None), None)


def _going(job: Job, now: Moment) -> tuple[str, str] | None:
    """About a Job that is being deleted and should have been gone."""
    if job.deleting is None or not HELD_AFTER_S <= seconds_between(job.deleting, now) < STOPPING_S:
        return None
    due = reading.written(job.deleting + datetime.timedelta(seconds=STOPPING_S))
    return "StewardStopping", f"steward {job.name} is being deleted; the next waits for its pods, at most until {due}"


def _trouble(job: Job, observed: GraphObserved, now: Moment) -> tuple[str, str] | None:
    if job.finished:
        return None
    here = _at_work(job, observed)
    ends = [pod.deleting for pod in here if pod.deleting is not None]
    leaving = bool(here) and len(ends) == len(here)
    if leaving and max(ends) < now:
        due = reading.written(max(ends) + datetime.timedelta(seconds=failures.LOST_AFTER_S))
        return "StewardLost", f"steward {job.name} does not stop, its node may be dead; it is replaced after {due}"
    mine = [pod for pod in observed.pods if pod.owner == job.uid]
    failed = [pod for pod in mine if pod.phase == "Failed"]
    if failed:
        last = max(failed, key=lambda pod: (pod.ended or reading.EPOCH, pod.name))
        told = reading.text(report.document(last.message).get("reason"), 500) or last.end_reason or "no report"
        return "StewardRetrying", f"steward {job.name} is tried again: {told}"
    if leaving or seconds_between(job.created, now) < HELD_AFTER_S:
        return None
    wait = waiting.for_pods(job, mine, observed.events, now)
    if wait is None:
        return None
    return "StewardWaiting", f"steward {job.name} does not start, and Tasks wait for it: {wait.sentence}"


def next_look(observed: GraphObserved, now: Moment) -> float | None:
    """When to look again at stewards that do not run yet or do not go, None if there are none."""
    looks = []
    for job in observed.jobs:
        if job.deleting is not None:
            age = seconds_between(job.deleting, now)
            looks += [limit - age for limit in (HELD_AFTER_S, STOPPING_S) if limit > age][:1]
        elif job.live and not any(pod.ready and pod.deleting is None for pod in _at_work(job, observed)):
            looks.append(max(HELD_AFTER_S - seconds_between(job.created, now), LOOK_S))
    return min(looks, default=None)


def _at_work(job: Job, observed: GraphObserved) -> list[Pod]:
    """The pods of a Job that are not over."""
    return [pod for pod in observed.pods if job.uid and pod.owner == job.uid and not pod.over]
