"""Plain Kubernetes documents for tests: a Task, a ModuleGraph, and pods as a kubelet leaves them.

Every function gives a fresh dict that may be changed.
"""

from __future__ import annotations

import datetime
import json
from typing import Any

from evergraft_operator import labels, reading

Fields = dict[str, Any]

START = datetime.datetime(2026, 3, 1, 12, 0, 0, tzinfo=datetime.UTC)
ROUTE = "ab" * 32


def at(seconds: float) -> datetime.datetime:
    """A time after START."""
    return START + datetime.timedelta(seconds=seconds)


def task_document(name: str = "cifar10", *, namespace: str = "vision", uid: str = "task-uid", **spec: Any) -> Fields:
    """A valid Task; `spec` is laid over the smallest one."""
    return {
        "apiVersion": "evergraft.dev/v1alpha1",
        "kind": "Task",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "generation": 1,
            "creationTimestamp": reading.written(START),
        },
        "spec": {"graphRef": {"name": "default", "namespace": "ml"}, "dataset": {"url": "gs://acme-data/x"}, **spec},
    }


def graph_document(*, ready: bool = True, uid: str = "graph-uid", name: str = "default", **spec: Any) -> Fields:
    """A valid ModuleGraph that all namespaces may use."""
    document: Fields = {
        "apiVersion": "evergraft.dev/v1alpha1",
        "kind": "ModuleGraph",
        "metadata": {
            "name": name,
            "namespace": "ml",
            "uid": uid,
            "generation": 1,
            "creationTimestamp": reading.written(START),
        },
        "spec": {
            "store": {"url": "gs://acme-evergraft/prod"},
            "root": {"backbone": "vit", "config": {"imageSize": 28}, "seed": 0},
            "allowedNamespaces": {"from": "All"},
            **spec,
        },
    }
    if ready:
        time = reading.written(START)
        condition = {"type": "Ready", "status": "True", "reason": "Initialized", "lastTransitionTime": time}
        document["status"] = {"graphID": "g1", "version": 0, "conditions": [condition]}
    return document


def pod_document(name: str, *, job: str, phase: str = "Running", created: float = 0, **more: Any) -> Fields:
    """A worker pod of the Job with uid `job`.

    `more`: exit_code, message, reason, ready, waiting, deleting (seconds after START), disrupted, scheduled,
    image_id, started, ended.
    """
    conditions: list[Fields] = [
        {"type": "Ready", "status": str(bool(more.get("ready"))), "lastTransitionTime": reading.written(at(created))},
        {
            "type": "PodScheduled",
            "status": str(more.get("scheduled", True)),
            "message": more.get("unscheduled", ""),
            "lastTransitionTime": reading.written(at(created)),
        },
    ]
    if more.get("disrupted"):
        conditions.append({"type": "DisruptionTarget", "status": "True", "reason": more["disrupted"]})
    box: Fields = {"name": labels.WORKER, "imageID": more.get("image_id", ""), "state": _state(phase, created, more)}
    metadata: Fields = {
        "name": name,
        "uid": f"{name}-uid",
        "namespace": "vision",
        "creationTimestamp": reading.written(at(created)),
        "ownerReferences": [{"kind": "Job", "uid": job, "name": "job"}],
        "labels": {labels.MANAGED_BY: labels.MANAGER},
    }
    if more.get("deleting") is not None:
        metadata["deletionTimestamp"] = reading.written(at(more["deleting"]))
    return {"metadata": metadata, "status": {"phase": phase, "conditions": conditions, "containerStatuses": [box]}}


def _state(phase: str, created: float, more: Fields) -> Fields:
    if more.get("waiting"):
        return {"waiting": {"reason": more["waiting"], "message": more.get("message", "")}}
    if phase in ("Succeeded", "Failed"):
        return {
            "terminated": {
                "exitCode": more.get("exit_code", 0),
                "reason": more.get("reason", "Completed" if phase == "Succeeded" else "Error"),
                "message": more.get("message", ""),
                "startedAt": reading.written(at(more.get("started", created))),
                "finishedAt": reading.written(at(more.get("ended", created + 60))),
            }
        }
    if phase == "Running":
        return {"running": {"startedAt": reading.written(at(more.get("started", created)))}}
    return {}


def report_message(task: str, run: str, outcome: str = "committed", **more: Any) -> str:
    """A worker's final report."""
    route = {"id": ROUTE, "quality": 0.95, "score": 0.93, "testQuality": 0.94, "parentTask": "vision/svhn"}
    value = {"format": 1, "task": task, "run": run, "outcome": outcome, "reason": "", "version": 42, "route": None}
    if outcome in ("committed", "kept"):
        value["route"] = {**route, "parametersAdded": 812345}
    return json.dumps({**value, **more})
