"""What a search waits for, in one sentence, and the condition and class that follow from it.

Sources in order: Kueue's Workload, Events on the Job (quota, Pod Security and webhooks appear only there),
PodScheduled, the container's waiting reason, Events on the pod once ContainerCreating lasts. Called by ``runs``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from evergraft_operator.observed import Job, KubeEvent, Pod, Workload
from evergraft_operator.reading import Moment, seconds_between

REFUSED_AFTER_S = 600
"""How long a registry may refuse an image before a person is needed."""
CREATING_AFTER_S = 60
"""How long a container may be in the making before the pod's Events are asked."""
_NAME_WRONG = ("InvalidImageName",)
_REFUSED = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError")
_QUOTA = "exceeded quota"
_DENIED = ("violates podsecurity", "denied the request", "is forbidden", "is invalid")
_ACCOUNT = ("error looking up service account", "serviceaccount")


@dataclass(frozen=True)
class Wait:
    """What is waited for: the sentence, the reason Scheduled is not True, and whether a person is needed for it."""

    sentence: str
    reason: str
    scheduled: bool = False
    stalls: bool = False
    failure: str | None = None


NONE_ASKED_FOR = Wait(sentence="workers.replicas is 0", reason="NoWorkers")


def for_quota(job: Job, workload: Workload | None) -> Wait | None:
    """Waiting for Kueue, None if there is no queue or it has let the Job start."""
    if not job.queue or not job.suspended:
        return None
    told = workload.message if workload is not None else ""
    return Wait(
        sentence=f"quota: {told or f'queue {job.queue} has not admitted the Job yet'} (Kueue)", reason="QuotaWait"
    )


def for_pods(job: Job, pods: Iterable[Pod], events: Iterable[KubeEvent], now: Moment) -> Wait | None:
    """Waiting for a first ready worker; None if one is ready or nothing is known to be in the way."""
    here = [pod for pod in pods if not pod.over and pod.deleting is None]
    if any(pod.ready for pod in here):
        return None
    told = tuple(events)
    if job.parallelism == 0:
        return NONE_ASKED_FOR
    if not here:
        return _refused_creation(job, told) or Wait(sentence="the Job's pods are not created yet", reason="PodsMissing")
    waits = [wait for pod in here if (wait := _for_pod(pod, told, now)) is not None]
    # One worker that can start suffices, so a pod that only loads says more than one that is stuck.
    return max(waits, key=lambda wait: wait.scheduled and not wait.failure, default=None)


def _refused_creation(job: Job, events: Iterable[KubeEvent]) -> Wait | None:
    mine = [event for event in events if event.about == job.uid and event.reason == "FailedCreate"]
    if not mine:
        return None
    newest = max(mine, key=lambda event: (event.last is not None, event.last, event.message))
    words = newest.message.lower()
    if _QUOTA in words:
        return Wait(f"quota: {newest.message}", reason="QuotaWait", failure="QuotaExceeded")
    if any(sign in words for sign in _ACCOUNT):
        return Wait(f"service account: {newest.message}", reason="PodRejected")
    denied = any(sign in words for sign in _DENIED)
    return Wait(
        f"pods are refused: {newest.message}",
        reason="PodRejected",
        stalls=denied,
        failure="PodRejected" if denied else None,
    )


def _for_pod(pod: Pod, events: Iterable[KubeEvent], now: Moment) -> Wait | None:
    if pod.scheduled is False:
        return Wait(f"a node: {pod.unscheduled or 'no node fits yet'}", reason="Unschedulable", failure="Unschedulable")
    if pod.waiting in (*_NAME_WRONG, *_REFUSED):
        return _for_image(pod, events, now)
    if pod.waiting in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return Wait(f"the container: {pod.waiting_message or pod.waiting}", reason="ContainerConfig", scheduled=True)
    since = pod.scheduled_at or pod.created
    if pod.waiting in ("ContainerCreating", "PodInitializing") and seconds_between(since, now) > CREATING_AFTER_S:
        return _slow_creation(pod, events)
    if pod.scheduled is None:
        return Wait("a node: the pod is not scheduled yet", reason="Unschedulable")
    return Wait(f"worker {pod.name} to start", reason="Starting", scheduled=True)


def asks_events(pod: Pod, now: Moment) -> bool:
    """Whether a pod's Events can say more of why it does not start."""
    creating = pod.waiting in ("ContainerCreating", "PodInitializing")
    since = pod.scheduled_at or pod.created
    return pod.waiting in _REFUSED or (creating and seconds_between(since, now) > CREATING_AFTER_S)


def for_refusal(message: str) -> Wait:
    """Waiting because the API server would not have the Job itself: a quota on Jobs, a webhook, an invalid pod."""
    if _QUOTA in message.lower():
        return Wait(f"quota: {message}", reason="QuotaWait")
    return Wait(f"the Job is refused: {message}", reason="PodRejected")


def _for_image(pod: Pod, events: Iterable[KubeEvent], now: Moment) -> Wait:
    failed = [e.first for e in events if e.about == pod.uid and e.reason in ("Failed", "BackOff") and e.first]
    since = min(failed, default=pod.scheduled_at or pod.created)
    over = pod.waiting in _NAME_WRONG or seconds_between(since, now) > REFUSED_AFTER_S
    told = pod.waiting_message or pod.waiting
    return Wait(f"the image: {told}", reason="ImagePull", stalls=over, failure="ImagePull" if over else None)


def _slow_creation(pod: Pod, events: Iterable[KubeEvent]) -> Wait:
    mine = [event for event in events if event.about == pod.uid and event.reason.startswith("Failed")]
    if not mine:
        return Wait(f"container of {pod.name} to be made (image or volumes)", reason="Starting", scheduled=True)
    newest = max(mine, key=lambda event: (event.last is not None, event.last, event.message))
    if "mount" in newest.reason.lower() or "attach" in newest.reason.lower():
        return Wait(f"a volume: {newest.message}", reason="VolumeMount")
    return Wait(f"the container: {newest.message}", reason="Starting", scheduled=True)
