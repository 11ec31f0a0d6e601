"""Why workers end, in three classes: yours is not tried again, size is tried three times, the world without limit.

Preemption is never the user's failure: a pod that was put out counts as Preempted whatever its exit code, but 64 and
65, which a worker says on purpose. Counts are a function of the Job, its pods and the status so far, so that nothing
is counted twice and a pod that vanished is still counted: the Job's own tally knows of it. Called by ``runs``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from evergraft_operator import report
from evergraft_operator.observed import Job, Pod, Workload
from evergraft_operator.reading import Moment, seconds_between

YOURS = (
    "UserError",
    "DataError",
    "ImagePull",
    "PodRejected",
    "ImageVersion",
    "SpecDiffersFromCommitted",
    "RouteRemoved",
)
SIZE = ("OutOfMemory", "CandidateCrashes")
WORLD = ("Preempted", "NodeLost", "StoreUnavailable", "StoreConflict", "Unschedulable", "QuotaExceeded")
SIZE_BUDGET = 3
"""Failures of class size that a search may have; one more stalls it."""
LOST_AFTER_S = 60
"""How long past its grace a pod may be terminating before its node counts as lost."""

_EXIT_REASONS: Mapping[int, str] = {
    64: "UserError",
    65: "DataError",
    66: "OutOfMemory",
    75: "StoreUnavailable",
    143: "Preempted",
}
_NODE_GONE = ("DeletionByTaintManager", "DeletionByPodGC")
_PUT_OUT = ("Preempted", "NodeLost")
_UNCOUNTED = ("StoreUnavailable", "StoreConflict")
"""What the Job ignores, so that its own tally leaves it out."""
_EXIT_IN_MESSAGE = re.compile(r"exit code (64|65)\b")


def is_lost(pod: Pod, now: Moment) -> bool:
    """Whether the pod's node is gone for good, as far as can be told: it terminates long past its grace."""
    return not pod.over and pod.deleting is not None and seconds_between(pod.deleting, now) > LOST_AFTER_S


def reason_of(pod: Pod, now: Moment) -> str | None:
    """Why this worker ended, None if it runs or ended well."""
    if is_lost(pod, now):
        return "NodeLost"
    if pod.phase != "Failed":
        return None
    if pod.exit_code in (64, 65):
        return _told(pod) or _EXIT_REASONS[pod.exit_code]
    if pod.disrupted is not None or pod.deleting is not None:
        return "NodeLost" if pod.disrupted in _NODE_GONE else "Preempted"
    if pod.end_reason == "OOMKilled":
        return "OutOfMemory"
    if pod.exit_code is None:
        return "NodeLost" if pod.reason == "NodeLost" else "Preempted"
    return _told(pod) or _EXIT_REASONS.get(pod.exit_code, "CandidateCrashes")


def _told(pod: Pod) -> str | None:
    """What the worker's report says more precisely; it may not make a failure of one class one of another."""
    told = report.worker_report(pod.message)
    if told is None or told.code is None:
        return None
    user = pod.exit_code in (64, 65)
    return told.code if (told.code in YOURS) == user and (user or pod.exit_code == 75) else None


def tally(
    job: Job,
    pods: Iterable[Pod],
    *,
    counted: Mapping[str, int],
    more: Iterable[str] = (),
    workload: Workload | None,
    now: Moment,
) -> dict[str, int]:
    """Failures of this search by reason, the Job's own and `more` of it on top of those before it.

    `counted` is what the status already says of this search: no count falls below it.
    """
    own = Counter(_own(job, tuple(pods), now)) + Counter(more)
    total = Counter(job.before) + own
    if workload is not None:
        total["Preempted"] = max(total["Preempted"], job.before.get("Preempted", 0) + workload.evictions)
    # A node's loss that was counted stays one, so its vanished pod is no preemption beside it.
    hidden = max(0, counted.get("NodeLost", 0) - total["NodeLost"])
    total["Preempted"] = max(0, total["Preempted"] - hidden)
    return known(total | Counter(counted))


def known(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts of reasons there are, sorted: a status may hold no others, whatever an object claims."""
    return {
        reason: count for reason, count in sorted(counts.items()) if count > 0 and reason in (*YOURS, *SIZE, *WORLD)
    }


def _own(job: Job, pods: tuple[Pod, ...], now: Moment) -> dict[str, int]:
    """What failed in this very Job.

    What the Job counted and no pod shows any more was put out: such pods are deleted, while others stay for their
    logs. A pod that is deleted without being a disruption's target counts only if the Job counts it, since a smaller
    size deletes pods too; and once the Job has an end, its controller deletes them all.
    """
    reasons = Counter(reason for pod in pods if (reason := reason_of(pod, now)) is not None)
    own = Counter({reason: count for reason, count in reasons.items() if reason not in _PUT_OUT})
    if job.finished:
        return own
    own["NodeLost"] = reasons["NodeLost"]
    counted = sum(count for reason, count in own.items() if reason not in (*_UNCOUNTED, *_PUT_OUT))
    shown = sum(pod.phase == "Failed" and pod.disrupted is not None for pod in pods)
    lost = sum(pod.phase == "Failed" and reason_of(pod, now) == "NodeLost" for pod in pods)
    own["Preempted"] = max(0, max(shown, job.failed - counted) - lost)
    return own


def spent(counts: Mapping[str, int]) -> str | None:
    """The reason that stalls the search for its size, None while the budget lasts."""
    if sum(counts.get(reason, 0) for reason in SIZE) <= SIZE_BUDGET:
        return None
    return max(SIZE, key=lambda reason: counts.get(reason, 0))


def forgiven(counts: Mapping[str, int]) -> dict[str, int]:
    """What stays counted when a person says to try again: only what the world did."""
    return {reason: count for reason, count in counts.items() if reason in WORLD}


def refusal(job: Job, pods: Iterable[Pod], now: Moment) -> tuple[str, str] | None:
    """The reason and sentence of a worker that said the spec or the data are wrong, None if none did."""
    for pod in pods:
        if pod.phase == "Failed" and pod.exit_code in (64, 65):
            told = report.worker_report(pod.message)
            reason = reason_of(pod, now) or "UserError"
            return reason, (told.reason if told else "") or f"worker {pod.name} ended with {pod.exit_code}; see its log"
    found = _EXIT_IN_MESSAGE.search(job.message) if job.failure == "PodFailurePolicy" else None
    if found is None:
        return None
    return _EXIT_REASONS[int(found[1])], f"a worker ended with {found[1]}; its report is gone with its pod"
