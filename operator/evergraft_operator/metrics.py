"""The operator's Prometheus metrics, one attribute each, made from the table in ``evergraft.metrics``.

Names in code are those exposed without ``evergraft_`` and ``_total``. Made once by the process and handed to the
queue, the client, the cache and the leader; served on the metrics port.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, ProcessCollector

from evergraft import __version__
from evergraft.instruments import counter, counters, gauge, gauges, histogram


class Metrics:
    """All of them, in `registry`. Attributes in the plural sense have labels: call ``.labels(...)`` first.

    Gauges that describe the cache (`tasks`, `graph_*`) are told anew as a whole with ``.replace``.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        made = self.registry
        self.tasks = gauges("evergraft_tasks", made)
        self.searches_started = counter("evergraft_searches_started_total", made)
        self.searches_finished = counters("evergraft_searches_finished_total", made)
        self.search_duration_seconds = histogram("evergraft_search_duration_seconds", made)
        self.search_wait_seconds = histogram("evergraft_search_wait_seconds", made)
        self.searches_without_progress = gauge("evergraft_searches_without_progress", made)
        self.worker_failures = counters("evergraft_worker_failures_total", made)
        self.accelerator_seconds = counters("evergraft_accelerator_seconds_total", made)
        self.finished_workers = counters("evergraft_finished_workers_total", made)
        self.finished_worker_candidates = counters("evergraft_finished_worker_candidates_total", made)
        self.finished_worker_samples = counters("evergraft_finished_worker_samples_total", made)
        self.finished_worker_data_wait_seconds = counters("evergraft_finished_worker_data_wait_seconds_total", made)
        self.finished_worker_idle_seconds = counters("evergraft_finished_worker_idle_seconds_total", made)
        self.finished_worker_store_bytes = counters("evergraft_finished_worker_store_bytes_total", made)
        self.finished_worker_commit_attempts = counters("evergraft_finished_worker_commit_attempts_total", made)
        self.graph_version = gauges("evergraft_graph_version", made)
        self.graph_tasks = gauges("evergraft_graph_tasks", made)
        self.graph_modules = gauges("evergraft_graph_modules", made)
        self.graph_parameters = gauges("evergraft_graph_parameters", made)
        self.graph_bytes = gauges("evergraft_graph_bytes", made)
        self.graph_ready = gauges("evergraft_graph_ready", made)
        self.graph_verified = gauges("evergraft_graph_verified", made)
        self.graph_maintained_timestamp_seconds = gauges("evergraft_graph_maintained_timestamp_seconds", made)
        self.graph_maintenance_due_timestamp_seconds = gauges("evergraft_graph_maintenance_due_timestamp_seconds", made)
        self.reconcile = counters("evergraft_reconcile_total", made)
        self.reconcile_duration_seconds = histogram("evergraft_reconcile_duration_seconds", made)
        self.queue_depth = gauge("evergraft_queue_depth", made)
        self.queue_wait_seconds = histogram("evergraft_queue_wait_seconds", made)
        self.kube_requests = counters("evergraft_kube_requests_total", made)
        self.watch_age_seconds = gauges("evergraft_watch_age_seconds", made)
        self.cache_pruned = counter("evergraft_cache_pruned_total", made)
        self.event_loop_lag_seconds = histogram("evergraft_event_loop_lag_seconds", made)
        self.leader = gauge("evergraft_leader", made)
        self.build_info = gauges("evergraft_build_info", made)
        self.build_info.labels(__version__).set(1)
        ProcessCollector(registry=made)
