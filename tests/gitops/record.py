"""Tasks and ModuleGraphs in every phase and with every pair of conditions that matter, as the operator writes them.

``python -m tests.gitops.record`` lets the operator's own rules run over a cluster in memory and keeps what they wrote
in ``objects/``; a test does the same and compares. Health checks for GitOps are tried on these.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from evergraft_operator import labels, reading
from evergraft_operator.observed import Job
from evergraft_operator.settings import Policy, Settings
from evergraft_operator.testing.documents import Fields, graph_document, task_document
from evergraft_operator.testing.model import Cluster, Key, heard_progress

OBJECTS = Path(__file__).resolve().parent / "objects"
KEY = ("vision", "cifar10")


def cluster_with(graph: Fields | None = None, settings: Settings | None = None, **spec: Any) -> Cluster:
    """One Task and its graph."""
    task = task_document(**spec)
    return Cluster(tasks={KEY: task}, graph=graph or graph_document(), settings=settings or Settings())


def running(**spec: Any) -> Cluster:
    """A Task whose worker trains."""
    cluster = cluster_with(**spec)
    cluster.calm_until_running()
    return cluster


def stewards_answer(cluster: Cluster) -> None:
    """Every steward does what it was asked."""
    for key, job in list(cluster.jobs.items()):
        if job["metadata"]["labels"][labels.COMPONENT] == labels.STEWARD and Job.read(job).live:
            cluster.finish_steward(key)


def worker_job(cluster: Cluster) -> tuple[Key, Fields]:
    """The newest attempt's Job."""
    mine = [
        (key, job) for key, job in cluster.jobs.items() if job["metadata"]["labels"][labels.COMPONENT] == labels.WORKER
    ]
    return mine[-1]


def started(**spec: Any) -> Cluster:
    """A Task whose Job was just created."""
    cluster = cluster_with(**spec)
    cluster.reconcile()
    stewards_answer(cluster)
    cluster.reconcile()
    return cluster


def worker_ends(code: int, **more: Any) -> Cluster:
    cluster = running()
    _, job = worker_job(cluster)
    cluster.end_pod(cluster.active(job)[0], code, **more)
    cluster.clock += 30
    cluster.reconcile()
    return cluster


def ended(outcome: str, **spec: Any) -> Cluster:
    """A Task whose run HEAD has closed so."""
    cluster = running(**spec)
    key, job = worker_job(cluster)
    cluster.finish_worker(key, cluster.active(job)[0], outcome)
    cluster.calm()
    return cluster


def change(cluster: Cluster, *, seen: bool = True, **spec: Any) -> Cluster:
    """A person changes the Task; `seen` if the operator has noticed."""
    cluster.tasks[KEY]["spec"] |= spec
    cluster.tasks[KEY]["metadata"]["generation"] += 1
    if seen:
        cluster.reconcile()
    return cluster


def back_off() -> Cluster:
    """The Job failed by itself; HEAD was read; the next attempt waits."""
    cluster = running()
    _, job = worker_job(cluster)
    cluster._finish(job, "Failed", "BackoffLimitExceeded", "a worker failed too often")
    cluster.reconcile()
    stewards_answer(cluster)
    cluster.reconcile()
    return cluster


def waiting_pod(waiting: str, seconds: float) -> Cluster:
    cluster = started()
    key, job = worker_job(cluster)
    cluster.make_pods(key)
    for pod in cluster.active(job):
        cluster.start_pod(pod)
        pod["status"] |= {"phase": "Pending"}
        pod["status"]["conditions"] = pod["status"]["conditions"][:1]
        pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": waiting, "message": f"{waiting}: no"}}
    cluster.clock += seconds
    cluster.reconcile()
    return cluster


def unscheduled() -> Cluster:
    cluster = started()
    key, job = worker_job(cluster)
    cluster.make_pods(key)
    told = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: 3 Insufficient gpu"}
    for pod in cluster.active(job):
        pod["status"]["conditions"] = [told]
    cluster.reconcile()
    return cluster


def queued() -> Cluster:
    cluster = started(workers={"queueName": "gpu"})
    worker_job(cluster)[1]["spec"]["suspend"] = True
    cluster.reconcile()
    return cluster


def progressing(event: str) -> Cluster:
    cluster = running()
    said = {"run": "i1-c1", "generation": 1, "generations": 4, "event": event, "bestScore": 0.9}
    cluster.heard = heard_progress(said, cluster.now)
    cluster.clock += 15
    cluster.reconcile()
    return cluster


def out_of_memory() -> Cluster:
    cluster = running()
    for _ in range(4):
        key, job = worker_job(cluster)
        cluster.make_pods(key)
        for pod in cluster.active(job):
            cluster.start_pod(pod)
            cluster.end_pod(pod, 137, reason="OOMKilled")
        cluster.clock += 30
        cluster.reconcile()
    return cluster


def refused(graph: Fields | None = None, settings: Settings | None = None, **spec: Any) -> Cluster:
    cluster = cluster_with(graph, settings, **spec)
    cluster.reconcile()
    return cluster


def without_graph() -> Cluster:
    cluster = cluster_with()
    cluster.graph = None
    cluster.reconcile()
    return cluster


def taken() -> Cluster:
    cluster = cluster_with(taskID="vision/svhn")
    elder = task_document("svhn", uid="elder")
    elder["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    cluster.tasks["vision", "svhn"] = elder
    cluster.reconcile()
    return cluster


def deleting() -> Cluster:
    cluster = ended("committed", deletionPolicy="Delete")
    cluster.delete_task(KEY)
    cluster.reconcile()
    return cluster


def _without(cluster: Cluster) -> Cluster:
    cluster.graph = None
    cluster.reconcile()
    return cluster


def _evolving() -> Cluster:
    cluster = change(ended("committed"), iteration=2)
    cluster.calm_until_running()
    return cluster


def _evolved(outcome: str) -> Cluster:
    cluster = _evolving()
    key, job = worker_job(cluster)
    cluster.finish_worker(key, cluster.active(job)[0], outcome)
    cluster.calm()
    return cluster


TASKS: Mapping[str, Callable[[], Cluster]] = {
    "new": cluster_with,
    "pending-head": refused,
    "pending-after": lambda: change(started(after=["vision/other"])),
    "starting": started,
    "queued-quota": queued,
    "queued-nodes": unscheduled,
    "training": lambda: progressing("step"),
    "committing": lambda: progressing("committing"),
    "starting-again": lambda: worker_ends(75),
    "back-off": back_off,
    "succeeded": lambda: ended("committed"),
    "succeeded-kept": lambda: _evolved("kept"),
    "evolving-starts": lambda: change(ended("committed"), iteration=2),
    "succeeded-unseen-change": lambda: change(ended("committed"), seen=False, iteration=2),
    "succeeded-suspended": lambda: change(ended("committed"), suspend=True),
    "succeeded-graph-gone": lambda: _without(ended("committed")),
    "evolving": _evolving,
    "failed-no-candidate": lambda: ended("none"),
    "failed-crashes": lambda: ended("failed"),
    "failed-data": lambda: worker_ends(65, message='{"format": 1, "outcome": "error", "reason": "no image: x.png"}'),
    "failed-image": lambda: waiting_pod("InvalidImageName", 5),
    "failed-memory": out_of_memory,
    "failed-evolving": lambda: _evolved("none"),
    "suspended": lambda: change(running(), suspend=True),
    "suspended-before-start": lambda: refused(suspend=True),
    "resumed": lambda: change(change(running(), suspend=True), suspend=False),
    "refused-spec": lambda: refused(metric="Luck"),
    "refused-policy": lambda: refused(
        settings=Settings(policy=Policy(image_prefixes=("registry.acme/",))), workers={"image": "other/x:1"}
    ),
    "refused-access": lambda: refused(graph_document(allowedNamespaces={"from": "Same"})),
    "refused-taken": taken,
    "waits-for-graph": without_graph,
    "waits-for-graph-ready": lambda: refused(graph_document(ready=False)),
    "deleting": deleting,
}


def graph_cluster(document: Fields) -> Cluster:
    cluster = Cluster(graph=document)
    cluster.reconcile()
    return cluster


def graph_started() -> Cluster:
    cluster = graph_cluster(graph_document(ready=False))
    stewards_answer(cluster)
    cluster.clock += 20
    cluster.reconcile()
    return cluster


def graph_fails(code: int) -> Cluster:
    cluster = graph_cluster(graph_document(ready=False))
    (key,) = cluster.jobs
    cluster.make_pods(key)
    for pod in cluster.active(cluster.jobs[key]):
        cluster.start_pod(pod)
        cluster.end_pod(pod, code, message='{"format": 1, "reason": "no bucket acme-evergraft"}')
    cluster.reconcile()
    return cluster


def graph_verified(code: int) -> Cluster:
    cluster = graph_cluster(graph_document(maintenance={"verify": "Daily"}))
    cluster.clock += 90_000
    cluster.reconcile()
    (key,) = cluster.jobs
    cluster.make_pods(key)
    for pod in cluster.active(cluster.jobs[key]):
        cluster.start_pod(pod)
        said = "module ab12… differs from its name" if code else "42 modules"
        cluster.end_pod(pod, code, message=f'{{"format": 1, "reason": "{said}", "graph": {{"version": 3}}}}')
    cluster.reconcile()
    return cluster


def graph_changed() -> Cluster:
    cluster = graph_started()
    assert cluster.graph is not None
    cluster.graph["metadata"]["generation"] += 1
    return cluster


GRAPHS: Mapping[str, Callable[[], Cluster]] = {
    "new": lambda: Cluster(graph=graph_document(ready=False)),
    "initializing": lambda: graph_cluster(graph_document(ready=False)),
    "ready": graph_started,
    "ready-unseen-change": graph_changed,
    "ready-verified": lambda: graph_verified(0),
    "ready-damaged": lambda: graph_verified(65),
    "ready-bad-schedule": lambda: graph_cluster(graph_document(maintenance={"schedule": "0 0 30 2 *"})),
    "failed-init": lambda: graph_fails(64),
    "refused-spec": lambda: graph_cluster(graph_document(ready=False, root={"backbone": "none"})),
}


def objects() -> dict[str, str]:
    """Every recorded object as YAML, by its file's name."""
    found: dict[str, Any] = {}
    for name, make in TASKS.items():
        found[f"task-{name}"] = _clean(make().tasks[KEY])
    for name, make in GRAPHS.items():
        found[f"graph-{name}"] = _clean(make().graph)
    return {f"{name}.yaml": yaml.safe_dump(value, sort_keys=False, width=120) for name, value in found.items()}


def _clean(document: Fields | None) -> Fields:
    """As an API server shows it: the schema's defaults are in the spec."""
    assert document is not None
    shown = copy.deepcopy(document)
    if shown["kind"] == "Task":
        shown["spec"] = {"iteration": 1, "suspend": False, **shown["spec"]}
    assert reading.mapping(shown, "metadata").get("generation")
    return shown


def main() -> None:
    """Write them all, and nothing else."""
    OBJECTS.mkdir(exist_ok=True)
    for path in OBJECTS.glob("*.yaml"):
        path.unlink()
    for name, text in objects().items():
        (OBJECTS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
