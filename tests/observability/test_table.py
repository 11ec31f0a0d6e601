from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from evergraft.metrics import OPERATOR, PROCESS, WORKER, Metric, named
from evergraft.store.metered import Operation
from evergraft_operator.metrics import Metrics
from evergraft_operator.observability.__main__ import contents
from evergraft_trainer.telemetry import Telemetry

ROOT = Path(__file__).resolve().parents[2]

FROZEN_OPERATOR = {
    "evergraft_tasks": "namespace graph phase",
    "evergraft_searches_started_total": "",
    "evergraft_searches_finished_total": "outcome",
    "evergraft_search_duration_seconds": "",
    "evergraft_search_wait_seconds": "",
    "evergraft_searches_without_progress": "",
    "evergraft_worker_failures_total": "namespace reason",
    "evergraft_accelerator_seconds_total": "namespace graph resource use",
    "evergraft_finished_workers_total": "namespace graph report",
    "evergraft_finished_worker_candidates_total": "namespace graph outcome",
    "evergraft_finished_worker_samples_total": "namespace graph",
    "evergraft_finished_worker_data_wait_seconds_total": "namespace graph",
    "evergraft_finished_worker_idle_seconds_total": "namespace graph",
    "evergraft_finished_worker_store_bytes_total": "namespace graph direction",
    "evergraft_finished_worker_commit_attempts_total": "namespace graph outcome",
    "evergraft_graph_version": "namespace graph",
    "evergraft_graph_tasks": "namespace graph",
    "evergraft_graph_modules": "namespace graph",
    "evergraft_graph_parameters": "namespace graph",
    "evergraft_graph_bytes": "namespace graph",
    "evergraft_graph_ready": "namespace graph",
    "evergraft_graph_verified": "namespace graph",
    "evergraft_graph_maintained_timestamp_seconds": "namespace graph duty",
    "evergraft_graph_maintenance_due_timestamp_seconds": "namespace graph duty",
    "evergraft_reconcile_total": "outcome",
    "evergraft_reconcile_duration_seconds": "",
    "evergraft_queue_depth": "",
    "evergraft_queue_wait_seconds": "",
    "evergraft_kube_requests_total": "verb resource code",
    "evergraft_watch_age_seconds": "resource",
    "evergraft_cache_pruned_total": "",
    "evergraft_event_loop_lag_seconds": "",
    "evergraft_leader": "",
    "evergraft_build_info": "version",
}
FROZEN_WORKER = {
    "evergraft_worker_candidates_total": "outcome",
    "evergraft_worker_samples_total": "",
    "evergraft_worker_step_seconds": "phase",
    "evergraft_worker_data_wait_seconds_total": "",
    "evergraft_worker_idle_seconds_total": "",
    "evergraft_worker_state_age_seconds": "",
    "evergraft_store_requests_total": "op outcome",
    "evergraft_store_request_duration_seconds": "op",
    "evergraft_store_bytes_total": "direction",
    "evergraft_commit_attempts_total": "outcome",
}
UNBOUNDED = {"task", "task_id", "search", "pod", "job", "uid", "run", "instance", "url", "reason_text"}


def test_names_and_labels_are_frozen() -> None:
    assert {metric.name: " ".join(metric.label_names) for metric in OPERATOR} == FROZEN_OPERATOR
    assert {metric.name: " ".join(metric.label_names) for metric in WORKER} == FROZEN_WORKER


def exposed(registry: CollectorRegistry) -> dict[str, tuple[str, set[str]]]:
    """What a registry exposes: each name's kind, and the labels of its samples."""
    found: dict[str, tuple[str, set[str]]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        names = {label for sample in family.samples for label in sample.labels if label != "le"}
        found[name] = (family.type, names)
    return found


@pytest.mark.parametrize("side", ["operator", "worker"])
def test_what_is_exposed_is_what_the_table_says(side: str) -> None:
    registry = Metrics().registry if side == "operator" else Telemetry().registry
    table = OPERATOR if side == "operator" else WORKER
    shown = {name: kind for name, (kind, _) in exposed(registry).items() if name.startswith("evergraft")}
    assert shown == {metric.name: metric.kind for metric in table}


def test_the_client_exposes_what_the_dashboards_take_from_it() -> None:
    assert {metric.name for metric in PROCESS} <= set(exposed(Metrics().registry))


@pytest.mark.parametrize("metric", [*OPERATOR, *WORKER], ids=lambda metric: metric.name)
def test_no_label_grows_with_the_work(metric: Metric) -> None:
    assert not UNBOUNDED & set(metric.label_names)
    assert all(label.values or label.name in ("namespace", "graph", "version") for label in metric.labels)
    assert metric.num_series <= 10_000
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_a_process_stays_small() -> None:
    """At 10 namespaces and graphs an operator has some hundreds of series; a worker never more than these."""
    assert sum(metric.num_series for metric in WORKER) < 250
    closed = [metric for metric in OPERATOR if not any(label.is_open for label in metric.labels)]
    assert sum(metric.num_series for metric in closed) < 1100


def test_a_lying_worker_or_store_adds_no_series() -> None:
    telemetry = Telemetry()
    for number in range(100):
        telemetry.observe_store(Operation(f"op{number}", "log", f"outcome{number}", 0.1))
        telemetry.observe_event("result", {"ending": f"ending{number}"})
        telemetry.observe_event("timings", {"timings": {f"phase{number}": [0.1]}})
    most = sum(metric.num_series for metric in WORKER)
    others = 100  # `other` in place of each label's value
    samples = [sample for family in telemetry.registry.collect() for sample in family.samples]
    assert len(samples) <= most + others
    assert telemetry.registry.get_sample_value("evergraft_worker_candidates_total", {"outcome": "other"}) == 100


def test_what_a_worker_does_is_counted() -> None:
    telemetry, read = Telemetry(), Telemetry.totals
    telemetry.observe_store(Operation("put_if_absent", "log", "landed", 0.1, sent=10))
    telemetry.observe_store(Operation("get", "modules", "ok", 0.1, received=20))
    for samples in (64, 128):
        telemetry.observe_event("step", {"generation": 0, "slot": 0, "samples": samples})
    telemetry.observe_event("timings", {"timings": {"train": [0.1, 0.2], "data": [0.5]}})
    telemetry.observe_event("result", {"quality": 0.5, "ending": "scored"})
    telemetry.observe_event("superseded", {"generation": 0, "slot": 1})
    telemetry.observe_event("idle", {"seconds": 3.0})
    assert read(telemetry) == {
        "evergraft_commit_attempts_total,outcome=landed": 1,
        "evergraft_store_bytes_total,direction=received": 20,
        "evergraft_store_bytes_total,direction=sent": 10,
        "evergraft_store_requests_total,op=get,outcome=ok": 1,
        "evergraft_store_requests_total,op=put_if_absent,outcome=landed": 1,
        "evergraft_worker_candidates_total,outcome=scored": 1,
        "evergraft_worker_candidates_total,outcome=superseded": 1,
        "evergraft_worker_data_wait_seconds_total": 0.5,
        "evergraft_worker_idle_seconds_total": 3.0,
        "evergraft_worker_samples_total": 64,
    }
    count = telemetry.registry.get_sample_value("evergraft_worker_step_seconds_count", {"phase": "train"})
    assert count == 2


def test_an_unknown_metric_is_no_metric() -> None:
    assert named("evergraft_leader").kind == "gauge"
    with pytest.raises(KeyError):
        named("evergraft_follower")


@pytest.mark.parametrize("path", sorted(contents()))
def test_what_is_written_from_code_is_committed(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == contents()[path], "run `make manifests`"


def test_nothing_else_lies_beside_it() -> None:
    folders = ("charts/evergraft/files/dashboards", "charts/evergraft/files/rules")
    there = {str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).iterdir()}
    assert there == {path for path in contents() if path.startswith("charts")}
