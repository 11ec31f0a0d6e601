"""The Indexed Job of one attempt at one search: a plain dict, the same for the same facts.

Pods are interchangeable workers; the index is only a unique number. The Job is created once and never applied again:
only `parallelism` is ever patched, so that a queue's admission is not undone. Called by ``reconcile``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evergraft import canonical
from evergraft.api.workers import PodTemplate
from evergraft.names import RunKey
from evergraft_operator import labels, pods
from evergraft_operator.observed import Thing
from evergraft_operator.pods import Fields
from evergraft_operator.resolving import DATA_VOLUME, STORE_VOLUME, Wanted, place_url
from evergraft_operator.settings import Settings

MAX_SPEC_BYTES = 64 * 1024
RESERVE = 1000
"""Worker numbers in a Job: more than are ever used, since each number is used up by a pod that was put out."""
RETRIES = 3
LIFE_AFTER_S = 86400
GRACE_S = 60
_DEVICES: Mapping[str, str] = {"CPU": "cpu", "GPU": "cuda", "TPU": "xla"}


@dataclass(frozen=True)
class Attempt:
    """One attempt at one run: which, in which image, what failed and what was spent before it."""

    run: RunKey
    number: int
    image: str
    before: Mapping[str, int] = field(default_factory=dict)
    spent: Mapping[str, int] = field(default_factory=dict)


def worker_spec(wanted: Wanted, run: RunKey) -> bytes:
    """EVERGRAFT_SPEC: the request in canonical JSON, and how to reach store and data."""
    store, dataset = wanted.graph.spec.store, wanted.task.spec.dataset
    assert store is not None  # Admission has seen to it.
    return canonical.dumps(
        {
            "format": canonical.FORMAT,
            "run": str(run),
            "spec": wanted.resolved.to_json(),
            "specHash": wanted.spec_hash,
            "taskHash": wanted.task_hash,
            "store": {"url": place_url(store, STORE_VOLUME), **pods.access(store, "store")},
            "data": {"url": place_url(dataset, DATA_VOLUME), **pods.access(dataset, "data")},
        }
    )


def worker_job(task: Thing, wanted: Wanted, attempt: Attempt, *, parallelism: int, settings: Settings) -> Fields:
    """The Job to create."""
    queue = _queue_labels(wanted)
    own = {
        labels.MANAGED_BY: labels.MANAGER,
        labels.COMPONENT: labels.WORKER,
        labels.TASK_UID: task.uid,
        labels.ATTEMPT: str(attempt.number),
    }
    spec: Fields = {
        "completionMode": "Indexed",
        "completions": RESERVE,
        "parallelism": parallelism,
        "backoffLimitPerIndex": RETRIES,
        "podReplacementPolicy": "Failed",
        "successPolicy": {"rules": [{"succeededCount": 1}]},
        "ttlSecondsAfterFinished": LIFE_AFTER_S,
        "podFailurePolicy": {"rules": _failure_rules()},
        "template": _template(wanted, attempt, own, settings),
    }
    if queue:
        # Kueue starts it when there is quota; without Kueue's webhook nothing would hold it.
        spec["suspend"] = True
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": labels.worker_job_name(task=task.name, uid=task.uid, run=str(attempt.run), attempt=attempt.number),
            "namespace": task.namespace,
            "labels": {**own, **queue},
            "annotations": {
                labels.TASK_ID: wanted.task.id,
                labels.RUN_KEY: str(attempt.run),
                labels.SPEC_HASH: wanted.spec_hash,
                labels.FAILURES: canonical.dumps(dict(attempt.before)).decode(),
                labels.SECONDS: canonical.dumps(dict(attempt.spent)).decode(),
            },
            "ownerReferences": [owner_reference(task, "Task")],
        },
        "spec": spec,
    }


def owner_reference(thing: Thing, kind: str) -> Fields:
    """What ties a Job to its Task or ModuleGraph, so that it goes with it."""
    return {
        "apiVersion": "evergraft.dev/v1alpha1",
        "kind": kind,
        "name": thing.name,
        "uid": thing.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _queue_labels(wanted: Wanted) -> dict[str, str]:
    workers = wanted.workers
    found = {labels.QUEUE: workers.queue_name, labels.QUEUE_PRIORITY: workers.queue_priority_class}
    return {key: value for key, value in found.items() if value} if workers.queue_name else {}


def _failure_rules() -> list[Fields]:
    def exits(action: str, *codes: int) -> Fields:
        return {
            "action": action,
            "onExitCodes": {"containerName": labels.WORKER, "operator": "In", "values": list(codes)},
        }

    disrupted = [{"type": "DisruptionTarget", "status": "True"}]
    return [
        exits("FailJob", 64, 65),
        {"action": "FailIndex", "onPodConditions": disrupted},
        exits("FailIndex", 143),
        exits("Ignore", 75),
    ]


def _template(wanted: Wanted, attempt: Attempt, own: Mapping[str, str], settings: Settings) -> Fields:
    workers, template = wanted.workers, wanted.workers.pod_template or PodTemplate()
    volumes, mounts = _volumes(wanted)
    box = pods.container(labels.WORKER, attempt.image, _arguments(wanted), _environment(wanted, attempt, own), mounts)
    box |= {
        "ports": [{"name": "status", "containerPort": pods.STATUS_PORT}],
        "readinessProbe": {"httpGet": {"path": "/progress", "port": "status"}, "periodSeconds": 10},
    }
    if found := pods.resources(workers, wanted.accelerator):
        box["resources"] = found
    grace = workers.termination_grace_period_seconds
    spec = pods.pod_spec(
        box,
        volumes=volumes,
        account=workers.service_account_name,
        grace_s=GRACE_S if grace is None else grace,
        pull_secrets=settings.images.pull_secrets,
    )
    return {
        "metadata": pods.metadata(template, own),
        "spec": pods.apply_template(spec, template, wanted.accelerator),
    }


def _arguments(wanted: Wanted) -> list[str]:
    store = wanted.graph.spec.store
    assert store is not None  # Admission has seen to it.
    return ["worker", "--graph", place_url(store, STORE_VOLUME), "--device", _DEVICES[wanted.accelerator.type]]


def _environment(wanted: Wanted, attempt: Attempt, own: Mapping[str, str]) -> list[Fields]:
    # The kubelet replaces $(…) in values, and $$ by $; what comes from a Task must not be taken for either.
    spec = worker_spec(wanted, attempt.run).decode().replace("$", "$$")
    return [
        *map(dict, pods.BASIC_ENVIRONMENT),
        {"name": "EVERGRAFT_SPEC", "value": spec},
        {"name": "EVERGRAFT_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "EVERGRAFT_STATUS", "value": f"$(EVERGRAFT_POD_IP):{pods.STATUS_PORT}"},
        {"name": "EVERGRAFT_DEVICES", "value": str(wanted.accelerator.count)},
        {"name": "EVERGRAFT_ATTEMPT", "value": str(attempt.number)},
        {"name": "EVERGRAFT_TASK_UID", "value": own[labels.TASK_UID]},
    ]


def _volumes(wanted: Wanted) -> tuple[list[Fields], list[Fields]]:
    store, scratch = wanted.graph.spec.store, wanted.workers.scratch
    assert store is not None  # Admission has seen to it.
    pairs = [pods.scratch(scratch.size if scratch else None)]
    if wanted.workers.shm_size:
        pairs.append(pods.shared_memory(wanted.workers.shm_size))
    volumes, mounts = [volume for volume, _ in pairs], [mount for _, mount in pairs]
    for place, role in ((store, "store"), (wanted.task.spec.dataset, "data")):
        more_volumes, more_mounts = pods.place_volumes(place, role)
        volumes += more_volumes
        mounts += more_mounts
    return volumes, mounts
