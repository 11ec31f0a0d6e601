"""Accelerator seconds by use, and the image a search is pinned to, from what pods show.

A worker that ended well or saved its state was useful; a crash lost its time. Called by ``course``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from evergraft_operator import report
from evergraft_operator.observed import Job, Pod
from evergraft_operator.reading import seconds_between
from evergraft_operator.status import Previous

_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})$")
_SAVED = (0, 143)


def spent(job: Job | None, pods: Iterable[Pod], *, before: Previous, devices: int) -> dict[str, int]:
    """Accelerator seconds of the Task so far, `useful` and `lost`: never less than its status says."""
    useful, lost = (job.spent.get("useful", 0), job.spent.get("lost", 0)) if job is not None else (0, 0)
    for pod in pods:
        good, bad = _pod_seconds(pod, devices)
        useful, lost = useful + good, lost + bad
    return {"useful": max(useful, before.useful_s), "lost": max(lost, before.lost_s)}


def _pod_seconds(pod: Pod, devices: int) -> tuple[int, int]:
    """Seconds of a worker that is over; its own account counts as far as its life was that long."""
    whole = round(seconds_between(pod.started, pod.ended) * devices) if pod.over else 0
    told = report.worker_report(pod.message)
    if told is not None and told.useful_s is not None:
        good = min(told.useful_s, whole)
        return good, min(told.lost_s or 0, whole - good)
    saved = pod.exit_code in _SAVED or (pod.exit_code == 75)
    return (whole, 0) if saved else (0, whole)


def pinned(image: str | None, pods: Iterable[Pod]) -> str | None:
    """The image by digest, as the first worker that ran had it; as it is while none has."""
    if image is None or "@" in image:
        return image
    ran = sorted((pod for pod in pods if pod.started is not None), key=lambda pod: (str(pod.started), pod.name))
    digests = [found[1] for pod in ran if (found := _DIGEST.search(pod.image_id))]
    if not digests:
        return image
    repository, colon, tag = image.rpartition(":")
    name = repository if colon and "/" not in tag else image
    return f"{name.partition('@')[0]}@{digests[0]}"
