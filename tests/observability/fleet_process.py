"""A fleet in memory under the operator's real rules, as a process that serves the operator's real metrics.

``python fleet_process.py PORT SECONDS``: Tasks come, are trained, preempted, run out of memory, are committed, stall;
one round every 0.2 s counts as ten seconds of the fleet. What only the process around the rules measures (queue, API
server, watches, event loop) is told here in its place. Started by test_live.py and for the pictures in the docs.
"""

from __future__ import annotations

import copy
import datetime
import random
import sys
import time

from prometheus_client import start_http_server

from evergraft.metrics import RESOURCES
from evergraft_operator import fleet, labels, reading
from evergraft_operator.cache import Cache
from evergraft_operator.metrics import Metrics
from evergraft_operator.observed import Job, Pod, Thing
from evergraft_operator.reconcile import reconcile
from evergraft_operator.tally import Tally
from evergraft_operator.testing.documents import Fields, graph_document, report_message, task_document
from evergraft_operator.testing.model import Cluster, Key

ROUND_S = 0.2
FLEET_S = 10.0
MAX_TASKS = 80


def play(metrics: Metrics, cluster: Cluster, tally: Tally, numbers: random.Random) -> None:
    """One round of the fleet."""
    if len(cluster.tasks) < MAX_TASKS and numbers.random() < 0.12:
        name = f"task{len(cluster.tasks)}"
        spec: Fields = {"workers": {"accelerator": {"type": "GPU"}}} if numbers.random() < 0.5 else {}
        cluster.tasks["vision", name] = task_document(name, uid=f"uid-{name}", **spec)
    for key in sorted(cluster.tasks):
        before = Thing.read(copy.deepcopy(cluster.tasks[key]))
        began = time.perf_counter()
        plan = reconcile(cluster.observe(key), cluster.now)
        cluster.plans[before.uid] = plan
        wrote = cluster.apply(plan, key)
        metrics.reconcile_duration_seconds.observe(time.perf_counter() - began)
        metrics.reconcile.labels("changed" if wrote else "unchanged").inc()
        metrics.queue_wait_seconds.observe(numbers.expovariate(50))
        metrics.kube_requests.labels("get", "tasks", "200").inc()
        if wrote:
            metrics.kube_requests.labels("patch", "tasks", "200").inc()
        fleet.count(metrics, before, plan, cluster.now)
    cluster.reconcile()
    _let_things_happen(cluster, numbers)
    marks = {job["metadata"]["uid"]: job["metadata"]["labels"][labels.COMPONENT] for job in cluster.jobs.values()}
    for pod in map(Pod.read, cluster.pods.values()):
        if pod.over and marks.get(pod.owner) == labels.WORKER:
            tally.count(pod, "vision", "ml/default")
    cluster.clock += FLEET_S
    cluster.step += 1


def _let_things_happen(cluster: Cluster, numbers: random.Random) -> None:
    for key, job in list(cluster.jobs.items()):
        parsed = Job.read(job)
        if parsed.deleting is not None:
            cluster.collect_job(key)
        elif job["metadata"]["labels"][labels.COMPONENT] == labels.STEWARD:
            if parsed.live:
                cluster.finish_steward(key)
        elif parsed.live:
            _let_work(cluster, key, numbers)


def _let_work(cluster: Cluster, key: Key, numbers: random.Random) -> None:
    job = cluster.jobs[key]
    cluster.make_pods(key)
    for pod in cluster.active(job):
        if pod["status"]["phase"] == "Pending":
            if numbers.random() < 0.4:
                cluster.start_pod(pod)
            continue
        fate = numbers.random()
        if fate < 0.05:
            notes = job["metadata"]["annotations"]
            run, task = notes[labels.RUN_KEY], notes[labels.TASK_ID]
            message = report_message(
                task,
                run,
                graph={"version": len(cluster.head) + 1, "tasks": len(cluster.head) + 1},
                counters={
                    "evergraft_worker_samples_total": float(numbers.randrange(1000, 5000)),
                    "evergraft_worker_candidates_total,outcome=scored": 4.0,
                    "evergraft_commit_attempts_total,outcome=landed": 1.0,
                },
            )
            cluster.finish_worker(key, pod, message=message)
        elif fate < 0.07:
            cluster.disrupt(pod)
        elif fate < 0.085:
            cluster.end_pod(pod, 66)
        elif fate < 0.09:
            cluster.end_pod(pod, 65, message='{"format": 1, "outcome": "error", "reason": "a label is no number"}')


def measure(metrics: Metrics, cluster: Cluster, numbers: random.Random) -> None:
    """What the process around the rules would tell."""
    assert cluster.graph is not None
    num_routes = len(cluster.head)
    cluster.graph["status"] |= {
        "version": num_routes,
        "tasks": num_routes,
        "modules": 9 + 4 * num_routes,
        "parameters": 85_000_000 + 900_000 * num_routes,
        "bytes": 340_000_000 + 3_600_000 * num_routes,
    }
    tasks, graphs = map(Thing.read, cluster.tasks.values()), [Thing.read(cluster.graph)]
    fleet.show(metrics, fleet.read(metrics, tasks, graphs, cluster.now))
    metrics.leader.set(1)
    metrics.queue_depth.set(numbers.randrange(4))
    metrics.event_loop_lag_seconds.observe(numbers.expovariate(200))
    for resource in RESOURCES[:4]:
        metrics.watch_age_seconds.labels(resource).set(numbers.uniform(0, 60))
        metrics.kube_requests.labels("watch", resource, "200").inc()
    if numbers.random() < 0.3:
        metrics.kube_requests.labels("patch", "tasks", "409").inc()
        metrics.cache_pruned.inc()


def main(port: int, seconds: float) -> None:
    """Serve and play for so long."""
    metrics, numbers = Metrics(), random.Random(7)
    graph = graph_document(maintenance={"schedule": "0 3 * * *", "verify": "Daily"})
    recently = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=3)
    graph["status"] |= dict.fromkeys(("lastCollectionTime", "lastVerifyTime"), reading.written(recently))
    graph["status"]["conditions"].append({"type": "Verified", "status": "True", "reason": "Verified"})
    cluster, tally = Cluster(graph=graph), Tally(metrics, Cache())
    start_http_server(port, addr="127.0.0.1", registry=metrics.registry)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        play(metrics, cluster, tally, numbers)
        measure(metrics, cluster, numbers)
        time.sleep(ROUND_S)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
