from __future__ import annotations

import copy
import datetime
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from prometheus_client import generate_latest

from evergraft import metrics as table
from evergraft.api.modulegraph import TaskDefaults
from evergraft_operator import failures, fleet
from evergraft_operator.metrics import Metrics
from evergraft_operator.observed import Thing
from evergraft_operator.plan import Plan
from evergraft_operator.reconcile import reconcile
from evergraft_operator.settings import Settings
from evergraft_operator.testing.documents import at, graph_document, pod_document, report_message, task_document
from evergraft_operator.testing.model import Cluster

KEY = ("vision", "cifar10")
GRAPH = "ml/default"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def task(phase: str = "", *, name: str = "cifar10", **status: Any) -> Thing:
    document = task_document(name, uid=name)
    return Thing.read({**document, "status": {"phase": phase, **status}})


def show(metrics: Metrics, tasks: Iterable[Thing], graphs: Iterable[Thing], now: datetime.datetime) -> None:
    fleet.show(metrics, fleet.read(metrics, tasks, graphs, now))


def test_tasks_by_phase_and_what_is_gone_vanishes(metrics: Metrics) -> None:
    show(metrics, [task(), task("Training", name="b"), task("Training", name="c")], [], at(0))
    assert value(metrics, "evergraft_tasks", namespace="vision", graph=GRAPH, phase="Training") == 2
    assert value(metrics, "evergraft_tasks", namespace="vision", graph=GRAPH, phase="Pending") == 1
    show(metrics, [], [], at(0))
    assert b'phase="Training"' not in generate_latest(metrics.registry)


def test_ten_thousand_objects_are_never_unpacked_together(metrics: Metrics) -> None:
    seen: list[weakref.ref[Thing]] = []

    def unpacked() -> Iterator[Thing]:
        for number in range(10):
            thing = task("Succeeded", name=f"t{number}")
            seen.append(weakref.ref(thing))
            yield thing
            del thing
            assert sum(ref() is not None for ref in seen) <= 1

    show(metrics, unpacked(), (), at(0))
    assert value(metrics, "evergraft_tasks", namespace="vision", graph=GRAPH, phase="Succeeded") == 10


@pytest.mark.parametrize(
    ("phase", "search", "silent"),
    [
        ("Training", {"lastProgressTime": "2026-03-01T12:00:00Z"}, 1),
        ("Training", {"startTime": "2026-03-01T12:00:00Z"}, 1),
        ("Training", {"lastProgressTime": "2026-03-01T12:09:00Z"}, 0),
        ("Training", {}, 0),
        ("Succeeded", {"lastProgressTime": "2026-03-01T12:00:00Z", "outcome": "committed"}, 0),
        ("Queued", {"lastProgressTime": "2026-03-01T12:00:00Z"}, 0),
    ],
)
def test_searches_without_progress(metrics: Metrics, phase: str, search: Mapping[str, Any], silent: int) -> None:
    show(metrics, [task(phase, search={"runKey": "i1-c1", **search})], [], at(fleet.SILENT_S + 1))
    assert value(metrics, "evergraft_searches_without_progress") == silent


def test_graphs_their_figures_and_their_maintenance(metrics: Metrics) -> None:
    document = graph_document(maintenance={"schedule": "0 3 * * *", "verify": "Weekly"})
    document["status"] |= {"version": 7, "bytes": 1000, "lastCollectionTime": "2026-03-02T03:00:05Z"}
    document["status"]["conditions"].append({"type": "Verified", "status": "False", "reason": "Damaged"})
    show(metrics, [], [Thing.read(document)], at(0))
    where = {"namespace": "ml", "graph": GRAPH}
    assert value(metrics, "evergraft_graph_version", **where) == 7
    assert value(metrics, "evergraft_graph_bytes", **where) == 1000
    assert value(metrics, "evergraft_graph_modules", **where) is None
    assert value(metrics, "evergraft_graph_ready", **where) == 1
    assert value(metrics, "evergraft_graph_verified", **where) == 0
    day = 86400
    done = value(metrics, "evergraft_graph_maintained_timestamp_seconds", duty="collect", **where)
    due = value(metrics, "evergraft_graph_maintenance_due_timestamp_seconds", duty="collect", **where)
    assert done is not None
    assert due == done - 5 + day
    verify = value(metrics, "evergraft_graph_maintenance_due_timestamp_seconds", duty="verify", **where)
    assert verify == at(7 * day).timestamp()
    assert value(metrics, "evergraft_graph_maintained_timestamp_seconds", duty="verify", **where) is None


def reconciled(cluster: Cluster, metrics: Metrics) -> Plan:
    """Reconcile the Task once and count what that did."""
    before = Thing.read(copy.deepcopy(cluster.tasks[KEY]))
    plan = reconcile(cluster.observe(KEY), cluster.now)
    cluster.plans[before.uid] = plan
    cluster.apply(plan, KEY)
    fleet.count(metrics, before, plan, cluster.now)
    return plan


def test_a_search_from_its_start_to_its_end_is_counted_once(metrics: Metrics) -> None:
    cluster = Cluster(tasks={KEY: task_document()})
    cluster.reconcile()
    for steward in list(cluster.jobs):
        cluster.finish_steward(steward)
    reconciled(cluster, metrics)
    where = {"namespace": "vision", "graph": GRAPH, "resource": "CPU"}
    assert value(metrics, "evergraft_accelerator_seconds_total", use="useful", **where) == 0
    assert value(metrics, "evergraft_searches_started_total") == 1
    job = next(job for job in cluster.jobs.values() if job["metadata"]["namespace"] == "vision")
    uid = job["metadata"]["uid"]
    cluster.pods["w"] = pod_document("w", job=uid, ready=True, started=90)
    cluster.clock = 100
    reconciled(cluster, metrics)
    reconciled(cluster, metrics)
    assert value(metrics, "evergraft_search_wait_seconds_count") == 1
    assert value(metrics, "evergraft_search_wait_seconds_sum") == 90
    cluster.clock = 400
    end = report_message("vision/cifar10", "i1-c1", acceleratorSeconds={"useful": 249.2, "lost": 20})
    cluster.pods["w"] = pod_document("w", job=uid, phase="Succeeded", message=end, started=90, ended=400)
    cluster.pods["x"] = pod_document("x", job=uid, phase="Failed", exit_code=66, started=90, ended=100)
    job["status"] = {
        "succeeded": 1,
        "failed": 1,
        "completionTime": "2026-03-01T12:06:40Z",
        "conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-03-01T12:06:40Z"}],
    }
    for _ in range(3):
        reconciled(cluster, metrics)
    assert value(metrics, "evergraft_searches_started_total") == 1
    assert value(metrics, "evergraft_searches_finished_total", outcome="committed") == 1
    assert value(metrics, "evergraft_search_duration_seconds_sum") == 310
    assert value(metrics, "evergraft_worker_failures_total", namespace="vision", reason="OutOfMemory") == 1
    assert value(metrics, "evergraft_accelerator_seconds_total", use="useful", **where) == 250
    assert value(metrics, "evergraft_accelerator_seconds_total", use="lost", **where) == 30


@pytest.mark.parametrize("layer", ["task", "graph", "operator"])
def test_accelerator_time_is_counted_by_what_any_layer_says(metrics: Metrics, layer: str) -> None:
    workers: dict[str, Any] = {"workers": {"accelerator": {"type": "GPU"}}}
    defaults: dict[str, Any] = {"taskDefaults": workers}
    cluster = Cluster(
        tasks={KEY: task_document(**(workers if layer == "task" else {}))},
        graph=graph_document(**(defaults if layer == "graph" else {})),
        settings=Settings(defaults=TaskDefaults.model_validate(workers if layer == "operator" else {})),
    )
    cluster.calm_until_running()
    job = next(job for job in cluster.jobs.values() if job["metadata"]["namespace"] == "vision")
    job["status"] |= {"failed": 1}
    uid = job["metadata"]["uid"]
    cluster.pods["x"] = pod_document("x", job=uid, phase="Failed", exit_code=66, started=90, ended=100)
    reconciled(cluster, metrics)
    where = {"namespace": "vision", "graph": GRAPH, "use": "lost"}
    assert value(metrics, "evergraft_accelerator_seconds_total", resource="GPU", **where) == 10
    assert not value(metrics, "evergraft_accelerator_seconds_total", resource="CPU", **where)


def test_every_metric_of_the_operator_is_an_attribute(metrics: Metrics) -> None:
    assert {metric.attribute for metric in table.OPERATOR} == set(vars(metrics)) - {"registry"}


def test_the_table_names_every_failure_there_is() -> None:
    assert (*failures.YOURS, *failures.SIZE, *failures.WORLD) == table.FAILURES


def test_counters_of_a_namespace_begin_at_zero(metrics: Metrics) -> None:
    show(metrics, [task()], [], at(0))
    assert value(metrics, "evergraft_worker_failures_total", namespace="vision", reason="OutOfMemory") == 0
    metrics.worker_failures.labels("vision", "OutOfMemory").inc()
    show(metrics, [task()], [], at(15))
    assert value(metrics, "evergraft_worker_failures_total", namespace="vision", reason="OutOfMemory") == 1
    assert value(metrics, "evergraft_reconcile_total", outcome="error") == 0


def test_what_a_label_does_not_know_is_other(metrics: Metrics) -> None:
    metrics.kube_requests.labels("get", "secrets", "999").inc()
    metrics.kube_requests.labels(verb="get", resource="tasks", code="200").inc(2)
    assert value(metrics, "evergraft_kube_requests_total", verb="get", resource="other", code="other") == 1
    assert value(metrics, "evergraft_kube_requests_total", verb="get", resource="tasks", code="200") == 2
    with pytest.raises(ValueError, match="has labels"):
        metrics.kube_requests.labels("get", "tasks", pod="x")


def test_an_open_label_has_an_end(metrics: Metrics) -> None:
    for number in range(table.MAX_OPEN_VALUES + 20):
        metrics.worker_failures.labels(f"ns{number}", "Preempted").inc()
        metrics.worker_failures.labels(f"ns{number}", "NodeLost").inc()
    assert value(metrics, "evergraft_worker_failures_total", namespace="other", reason="Preempted") == 20
    names = [s for s in generate_latest(metrics.registry).decode().splitlines() if "worker_failures_total{" in s]
    assert len(names) == 2 * (table.MAX_OPEN_VALUES + 1)


def test_gauges_told_anew_start_counting_anew(metrics: Metrics) -> None:
    for turn in range(3):
        metrics.tasks.replace({(f"ns{turn}-{n}", GRAPH, "Training"): 1.0 for n in range(table.MAX_OPEN_VALUES)})
    assert value(metrics, "evergraft_tasks", namespace="other", graph="other", phase="Training") is None
    many: dict[tuple[str, ...], float] = {
        (f"ns{number}", GRAPH, "Training"): 1.0 for number in range(table.MAX_OPEN_VALUES + 3)
    }
    metrics.tasks.replace(many)
    assert value(metrics, "evergraft_tasks", namespace="other", graph="other", phase="Training") == 3
