"""The benchmark's Tasks and graphs, and the status of one that was committed long ago, by the operator's own reconcile.

What is written for such a Task is byte for byte what the operator would write, so that it has nothing to do about it.
"""

from __future__ import annotations

import datetime
from typing import Any

from evergraft.names import RunKey
from evergraft_operator.observed import HeadFact, Observed, Thing
from evergraft_operator.reconcile import reconcile
from evergraft_operator.report import HeadState, RouteReport
from evergraft_operator.settings import Settings

Object = dict[str, Any]
ROOT = {"backbone": "vit", "config": {"imageSize": 28, "patchSize": 4, "width": 96, "depth": 6, "heads": 3}, "seed": 0}
API = "evergraft.dev/v1alpha1"
RUN = RunKey(1, 1)
ROUTE = RouteReport(
    id="ab" * 32,
    version=42,
    run=str(RUN),
    quality=0.95,
    score=0.93,
    test_quality=0.94,
    parent_task="vision/svhn",
    parameters_added=812_345,
)


def graph(namespace: str) -> Object:
    """A ModuleGraph with a store of its own."""
    store = {"url": f"s3://acme-evergraft/{namespace}", "secretRef": {"name": "evergraft-store"}}
    return {
        "apiVersion": API,
        "kind": "ModuleGraph",
        "metadata": {"name": "default", "namespace": namespace},
        "spec": {"store": store, "root": ROOT, "taskDefaults": {"workers": {"shmSize": "2Gi"}}},
    }


def task(namespace: str, name: str) -> Object:
    """A Task as people write them, half a screen long."""
    data = {
        "url": f"s3://acme-data/{name}/",
        "secretRef": {"name": "data-read"},
        "splits": {"train": "train[:90%]", "validation": "train[90%:]", "test": "test"},
    }
    hyper = [
        {"name": "learningRate", "start": "0.01", "values": ["0.005", "0.01", "0.02"]},
        {"name": "weightDecay", "start": "0.0001", "values": ["0", "0.0001", "0.001"]},
    ]
    search = {"strategy": "mu2net", "samples": 200_000, "batchSize": 32, "validations": 4, "hyperparameters": hyper}
    workers = {
        "replicas": 1,
        "accelerator": {"type": "GPU", "count": 1},
        "resources": {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"memory": "16Gi"}},
        "scratch": {"size": "50Gi"},
        "podTemplate": {
            "labels": {"team": "vision"},
            "nodeSelector": {"acme.example/pool": "training"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        },
    }
    return {
        "apiVersion": API,
        "kind": "Task",
        "metadata": {"name": name, "namespace": namespace, "labels": {"team": "vision"}},
        "spec": {"dataset": data, "search": search, "workers": workers, "timeouts": {"search": "12h"}},
    }


def settled(made: Object, graph_made: Object) -> Object:
    """The status that the operator gives the Task `made` once it has heard from HEAD that its run is committed."""
    thing, owner = Thing.read(made), Thing.read(graph_made)
    head = HeadFact(thing.uid, RUN, 0, HeadState(run=RUN, outcome="committed", route=ROUTE))
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    for heads in ((head,), (head,), ()):  # The steward's Job is gone in the end.
        plan = reconcile(Observed(Thing.read(made), Settings(), graph=owner, heads=heads), now)
        assert (plan.create, plan.delete, plan.scale, plan.question) == ((), (), (), None), plan
        if plan.status is not None:
            made = {**made, "status": plan.status}
    assert plan.status is None, plan
    status: Object = made["status"]
    assert status["phase"] == "Succeeded", status
    return status
