"""What was seen of one Task and everything around it, as frozen values parsed from plain Kubernetes objects.

Parsing is defensive: an object may have been written by anybody who may create it, and a pod's status carries what a
worker said. Nothing here raises; texts are cut and cleaned. Made by the cache and the live reads, consumed by
``reconcile``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from evergraft.names import RunKey
from evergraft_operator import labels, reading, report
from evergraft_operator.reading import Moment
from evergraft_operator.report import HeadState, Heard
from evergraft_operator.settings import Settings

MAX_MESSAGE = 1000


@dataclass(frozen=True)
class Thing:
    """A Task or ModuleGraph: `document` is the whole object, for the API's own checks."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: Moment | None
    deleting: Moment | None
    finalizers: tuple[str, ...]
    document: Mapping[str, Any]

    @classmethod
    def read(cls, value: Any) -> Thing:
        """Parse the object."""
        meta = reading.mapping(value, "metadata")
        return cls(
            namespace=reading.text(meta.get("namespace"), 63),
            name=reading.text(meta.get("name")),
            uid=reading.text(meta.get("uid"), 64),
            generation=reading.whole(meta.get("generation")) or 0,
            created=reading.moment(meta.get("creationTimestamp")),
            deleting=reading.moment(meta.get("deletionTimestamp")),
            finalizers=tuple(filter(None, map(reading.text, reading.items(meta, "finalizers", at_most=64)))),
            document=reading.mapping(value),
        )

    @property
    def status(self) -> Mapping[str, Any]:
        """Its status as it stands."""
        return reading.mapping(self.document, "status")

    @property
    def spec(self) -> Mapping[str, Any]:
        """Its spec as written."""
        return reading.mapping(self.document, "spec")

    @property
    def age_key(self) -> tuple[str, str]:
        """Orders things by age; the uid decides between equals."""
        return (reading.written(self.created) if self.created else "~", self.uid)


@dataclass(frozen=True)
class Job:
    """A Job of ours. Of a worker Job, `run` and `attempt` say what it is for; `before` is what failed, and `spent` what
    accelerator seconds were spent, before it.
    """

    name: str
    namespace: str
    uid: str
    created: Moment | None = None
    deleting: Moment | None = None
    run: RunKey | None = None
    attempt: int = 0
    duty: str = ""
    question: Any = None
    image: str = ""
    before: Mapping[str, int] = field(default_factory=dict)
    spent: Mapping[str, int] = field(default_factory=dict)
    queue: str = ""
    suspended: bool = False
    parallelism: int = 0
    active: int = 0
    ready: int = 0
    failed: int = 0
    started: Moment | None = None
    ended: Moment | None = None
    complete: bool = False
    failure: str | None = None
    message: str = ""

    @property
    def finished(self) -> bool:
        """Whether it is complete or failed: it makes no more pods."""
        return self.complete or self.failure is not None

    @property
    def live(self) -> bool:
        """Whether it may still make pods."""
        return not self.finished and self.deleting is None

    @classmethod
    def read(cls, value: Any) -> Job:
        """Parse the object."""
        meta, spec, status = (reading.mapping(value, part) for part in ("metadata", "spec", "status"))
        tags, notes = reading.mapping(meta, "labels"), reading.mapping(meta, "annotations")
        conditions = {
            reading.text(item.get("type"), 64): item
            for item in reading.objects(status, "conditions", at_most=32)
            if item.get("status") == "True"
        }
        end: Mapping[str, Any] = next(
            (conditions[k] for k in ("Complete", "SuccessCriteriaMet") if k in conditions), {}
        )
        failed: Mapping[str, Any] = next((conditions[k] for k in ("Failed", "FailureTarget") if k in conditions), {})
        containers = list(reading.objects(spec, "template", "spec", "containers", at_most=1))
        attempt = reading.text(tags.get(labels.ATTEMPT), 12)
        return cls(
            name=reading.text(meta.get("name")),
            namespace=reading.text(meta.get("namespace"), 63),
            uid=reading.text(meta.get("uid"), 64),
            created=reading.moment(meta.get("creationTimestamp")),
            deleting=reading.moment(meta.get("deletionTimestamp")),
            run=report.run_key(notes.get(labels.RUN_KEY)),
            attempt=int(attempt) if attempt.isascii() and attempt.isdecimal() else 0,
            duty=reading.text(tags.get(labels.DUTY), 32),
            question=reading.json_object(notes.get(labels.QUESTION), max_bytes=64 * 1024),
            image=reading.text(containers[0].get("image"), 512) if containers else "",
            before=counts(reading.json_object(notes.get(labels.FAILURES), max_bytes=4096)),
            spent=counts(reading.json_object(notes.get(labels.SECONDS), max_bytes=4096)),
            queue=reading.text(tags.get(labels.QUEUE)),
            suspended=spec.get("suspend") is True,
            parallelism=reading.whole(spec.get("parallelism")) or 0,
            active=reading.whole(status.get("active")) or 0,
            ready=reading.whole(status.get("ready")) or 0,
            failed=reading.whole(status.get("failed")) or 0,
            started=reading.moment(status.get("startTime")),
            ended=reading.moment((end or failed).get("lastTransitionTime")),
            complete=bool(end) and not failed,
            failure=(reading.text(failed.get("reason"), 64) or "Failed") if failed else None,
            message=reading.text(failed.get("message"), MAX_MESSAGE),
        )


def counts(value: Mapping[str, Any]) -> dict[str, int]:
    """Failure counts by reason, as a status or an annotation holds them; what is none is left out."""
    found: dict[str, int] = {}
    for key, item in list(value.items())[:64]:
        name, count = reading.text(key, 64), reading.whole(item, low=1, high=10**12)
        if name and count is not None:
            found[name] = count
    return found


@dataclass(frozen=True)
class Pod:
    """A pod of ours, its main container's end included.

    `deleting` is when its grace ends, `index` its number in an Indexed Job.
    """

    name: str
    uid: str
    owner: str = ""
    phase: str = ""
    created: Moment | None = None
    deleting: Moment | None = None
    ready: bool = False
    disrupted: str | None = None
    scheduled: bool | None = None
    scheduled_at: Moment | None = None
    unscheduled: str = ""
    waiting: str = ""
    waiting_message: str = ""
    exit_code: int | None = None
    end_reason: str = ""
    started: Moment | None = None
    ended: Moment | None = None
    message: str = ""
    image_id: str = ""
    address: str = ""
    reason: str = ""
    index: int = 0

    @property
    def over(self) -> bool:
        """Whether it runs no more."""
        return self.phase in ("Succeeded", "Failed")

    @classmethod
    def read(cls, value: Any) -> Pod:
        """Parse the object."""
        meta, status = reading.mapping(value, "metadata"), reading.mapping(value, "status")
        conditions = {reading.text(c.get("type"), 64): c for c in reading.objects(status, "conditions", at_most=64)}
        place = conditions.get("PodScheduled", {})
        cut = conditions.get("DisruptionTarget", {})
        boxes = reading.objects(status, "containerStatuses", at_most=64)
        # A mesh or a log shipper may have put a container of its own beside ours.
        box: Mapping[str, Any] = next((b for b in boxes if b.get("name") in (labels.WORKER, labels.STEWARD)), {})
        waiting, end = reading.mapping(box, "state", "waiting"), reading.mapping(box, "state", "terminated")
        running = reading.mapping(box, "state", "running")
        message = end.get("message")
        index = reading.text(reading.mapping(meta, "labels").get(labels.JOB_INDEX), 9)
        return cls(
            name=reading.text(meta.get("name")),
            uid=reading.text(meta.get("uid"), 64),
            owner=next((reading.text(o.get("uid"), 64) for o in _owners(meta) if o.get("kind") == "Job"), ""),
            phase=reading.text(status.get("phase"), 16),
            created=reading.moment(meta.get("creationTimestamp")),
            deleting=reading.moment(meta.get("deletionTimestamp")),
            ready=conditions.get("Ready", {}).get("status") == "True",
            disrupted=(reading.text(cut.get("reason"), 64) or "Unknown") if cut.get("status") == "True" else None,
            scheduled={"True": True, "False": False}.get(reading.text(place.get("status"), 8)),
            scheduled_at=reading.moment(place.get("lastTransitionTime")),
            unscheduled=reading.text(place.get("message"), MAX_MESSAGE) if place.get("status") == "False" else "",
            waiting=reading.text(waiting.get("reason"), 64),
            waiting_message=reading.text(waiting.get("message"), MAX_MESSAGE),
            exit_code=reading.whole(end.get("exitCode"), low=-(2**31)),
            end_reason=reading.text(end.get("reason"), 64),
            started=reading.moment(end.get("startedAt", running.get("startedAt"))),
            ended=reading.moment(end.get("finishedAt")),
            message=message if isinstance(message, str) and len(message) <= report.MAX_BYTES else "",
            image_id=reading.text(box.get("imageID"), 1200),
            address=reading.text(status.get("podIP"), 64),
            reason=reading.text(status.get("reason"), 64),
            index=int(index) if index.isascii() and index.isdecimal() else 0,
        )


def _owners(meta: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return reading.objects(meta, "ownerReferences", at_most=16)


@dataclass(frozen=True)
class KubeEvent:
    """A Kubernetes Event about a Job or pod, read only while something is waited for."""

    about: str
    reason: str
    message: str
    first: Moment | None
    last: Moment | None

    @classmethod
    def read(cls, value: Any) -> KubeEvent:
        """Parse the object."""
        fields = reading.mapping(value)
        last = fields.get("lastTimestamp") or fields.get("eventTime")
        return cls(
            about=reading.text(reading.mapping(fields, "involvedObject").get("uid"), 64),
            reason=reading.text(fields.get("reason"), 64),
            message=reading.text(fields.get("message"), MAX_MESSAGE),
            first=reading.moment(fields.get("firstTimestamp") or last),
            last=reading.moment(last),
        )


@dataclass(frozen=True)
class Workload:
    """Kueue's view of a Job: whether it has quota, why not, and how often it was put out."""

    reserved: bool = False
    admitted: bool = False
    message: str = ""
    evictions: int = 0

    @classmethod
    def read(cls, value: Any) -> Workload:
        """Parse the object."""
        status = reading.mapping(value, "status")
        conditions = {reading.text(c.get("type"), 64): c for c in reading.objects(status, "conditions", at_most=32)}
        evicted = conditions.get("Evicted", {})
        told = reading.objects(status, "schedulingStats", "evictions", at_most=64)
        number = sum(reading.whole(item.get("count"), high=10**9) or 0 for item in told)
        waits = [conditions.get(kind, {}) for kind in ("QuotaReserved", "Admitted")]
        unmet = [item for item in (evicted, *waits) if item and (item.get("status") == "True") == (item is evicted)]
        return cls(
            reserved=waits[0].get("status") == "True",
            admitted=waits[1].get("status") == "True",
            message=next((words for item in unmet if (words := reading.text(item.get("message"), MAX_MESSAGE))), ""),
            evictions=max(number, 1 if evicted.get("status") == "True" else 0),
        )


@dataclass(frozen=True)
class HeadFact:
    """What a steward read at HEAD for a Task, and of which run and attempt it was asked (None and 0: of none yet)."""

    uid: str
    run: RunKey | None
    attempt: int
    state: HeadState


@dataclass(frozen=True)
class RemovalFact:
    """How a steward's removal of a Task's route went."""

    uid: str
    done: bool
    message: str = ""


@dataclass(frozen=True)
class Observed:
    """Everything one reconcile of a Task decides by.

    `graph` is None where there is no such ModuleGraph. `namespace_labels` are those of the Task's namespace, None if
    the operator may not read them. `rivals` are the other Tasks with the same task id in the same graph; `after` says
    for the task ids this one waits for whether they have a route, None for an id without a Task.
    `service_account_found` is None if it was not looked for. `refused` is why the API server would not have the next
    Job, empty if it was not asked or not lately; `invalid` says that it will never have it.
    """

    task: Thing
    settings: Settings = field(default_factory=Settings)
    graph: Thing | None = None
    graph_namespace_terminating: bool = False
    namespace_labels: Mapping[str, str] | None = None
    rivals: tuple[Thing, ...] = ()
    after: Mapping[str, bool | None] = field(default_factory=dict)
    service_account_found: bool | None = None
    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    events: tuple[KubeEvent, ...] = ()
    workload: Workload | None = None
    heard: Heard | None = None
    heads: tuple[HeadFact, ...] = ()
    removal: RemovalFact | None = None
    refused: str = ""
    invalid: bool = False

    def pods_of(self, job: Job | None) -> tuple[Pod, ...]:
        """The pods that a Job made."""
        return tuple(pod for pod in self.pods if job is not None and job.uid and pod.owner == job.uid)
