"""Every metric there is, in one table: name, kind, meaning, labels, and which values a label may take.

Prometheus objects are made from it by the operator's ``Metrics`` and the worker's ``Telemetry``; docs/metrics.md is
written from it, and dashboards and alerts are checked against it. No label names a task, a search or a pod: what
grows with the work would grow the monitoring with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

OTHER = "other"
"""What a label says of a value that it does not know, or that is one too many."""
MAX_OPEN_VALUES = 500
"""Different values that an open label shows in one process; all further ones are `other`."""


@dataclass(frozen=True)
class Label:
    """A label. `values` are all it takes, besides `other`; empty where a platform's own names fill it, up to a cap."""

    name: str
    values: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether its values are the platform's own names."""
        return not self.values

    def fit(self, value: str) -> str:
        """The value if this label knows it, `other` if not; an open label knows all."""
        return value if self.is_open or value in self.values else OTHER


@dataclass(frozen=True)
class Metric:
    """One metric. `name` is the exposed name, a counter's with `_total`; `unit` is "" for plain counts."""

    name: str
    kind: Kind
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    unit: str = ""

    @property
    def attribute(self) -> str:
        """The name in code: without ``evergraft_`` and ``_total``."""
        return self.name.removeprefix("evergraft_").removesuffix("_total")

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels' names, in order."""
        return tuple(label.name for label in self.labels)

    @property
    def num_series(self) -> int:
        """How many series it can have at most in one process, `other` left out; a histogram's buckets count."""
        open_pairs = MAX_OPEN_VALUES if any(label.is_open for label in self.labels) else 1
        closed = math.prod(len(label.values) for label in self.labels if not label.is_open)
        return open_pairs * closed * (len(self.buckets) + 3 if self.buckets else 1)

    @property
    def samples(self) -> tuple[str, ...]:
        """The names of what Prometheus stores of it."""
        if self.kind != "histogram":
            return (self.name,)
        return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")


PHASES = (
    "Pending",
    "Queued",
    "Starting",
    "Training",
    "Committing",
    "Succeeded",
    "Failed",
    "Suspended",
    "Deleting",
)
FAILURES = (
    "UserError",
    "DataError",
    "ImagePull",
    "PodRejected",
    "ImageVersion",
    "SpecDiffersFromCommitted",
    "RouteRemoved",
    "OutOfMemory",
    "CandidateCrashes",
    "Preempted",
    "NodeLost",
    "StoreUnavailable",
    "StoreConflict",
    "Unschedulable",
    "QuotaExceeded",
)
RESOURCES = (
    "tasks",
    "modulegraphs",
    "jobs",
    "pods",
    "events",
    "serviceaccounts",
    "namespaces",
    "leases",
    "workloads",
)
VERBS = ("get", "list", "watch", "create", "patch", "update", "delete")
CODES = ("200", "201", "400", "401", "403", "404", "409", "410", "422", "429", "500", "502", "503", "504", "timeout")

_NAMESPACE = Label("namespace")
_GRAPH = Label("graph")  # <namespace>/<name> of the ModuleGraph, since Tasks may be in other namespaces
_OF_GRAPH = (_NAMESPACE, _GRAPH)
_RESOURCE = Label("resource", RESOURCES)

_MINUTES = (10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0)
_RECONCILE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_QUEUE = (0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)
_LAG = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_STEP = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STORE = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)

WORKER = (
    Metric(
        "evergraft_worker_candidates_total",
        "counter",
        "Candidates that ended here: with a score, by a loss that was no number, given up, or left to another worker",
        (Label("outcome", ("scored", "diverged", "failed", "superseded")),),
    ),
    Metric("evergraft_worker_samples_total", "counter", "Samples trained"),
    Metric(
        "evergraft_worker_step_seconds",
        "histogram",
        "One training step or one validation",
        (Label("phase", ("train", "validate")),),
        buckets=_STEP,
        unit="seconds",
    ),
    Metric("evergraft_worker_data_wait_seconds_total", "counter", "Training waited for data", unit="seconds"),
    Metric("evergraft_worker_idle_seconds_total", "counter", "The worker had no candidate to train", unit="seconds"),
    Metric("evergraft_worker_state_age_seconds", "gauge", "Since a state was saved", unit="seconds"),
    Metric(
        "evergraft_store_requests_total",
        "counter",
        "Operations on the store",
        (
            Label("op", ("get", "put", "put_if_absent", "list", "delete")),
            Label("outcome", ("ok", "not_found", "landed", "lost", "unknown", "error")),
        ),
    ),
    Metric(
        "evergraft_store_request_duration_seconds",
        "histogram",
        "One operation on the store",
        (Label("op", ("get", "put", "put_if_absent", "list", "delete")),),
        buckets=_STORE,
        unit="seconds",
    ),
    Metric(
        "evergraft_store_bytes_total",
        "counter",
        "Bytes to and from the store",
        (Label("direction", ("sent", "received")),),
        unit="bytes",
    ),
    Metric(
        "evergraft_commit_attempts_total",
        "counter",
        "Attempts to create an entry of the commit log",
        (Label("outcome", ("landed", "lost", "unknown", "error")),),
    ),
)
"""What a worker exposes on its status port."""


def _finished(metric: Metric) -> Metric:
    name = metric.name.removeprefix("evergraft_").removeprefix("worker_")
    return Metric(
        f"evergraft_finished_worker_{name}",
        "counter",
        f"Of workers that have ended: {metric.help[0].lower()}{metric.help[1:]}",
        (*_OF_GRAPH, *metric.labels),
        unit=metric.unit,
    )


FINISHED = {
    metric.name: _finished(metric)
    for metric in WORKER
    if metric.kind == "counter" and metric.name != "evergraft_store_requests_total"
}
"""By a worker's counter the operator's own, for what is in the reports of workers that have ended.

Not by operation of the store: that would be thirty series a graph, and a worker that ends by its store is a failure.
"""

OPERATOR = (
    Metric("evergraft_tasks", "gauge", "Tasks by phase", (*_OF_GRAPH, Label("phase", PHASES))),
    Metric("evergraft_searches_started_total", "counter", "Runs whose first Job was created"),
    Metric(
        "evergraft_searches_finished_total",
        "counter",
        "Runs that HEAD was found to have closed, by how",
        (Label("outcome", ("committed", "kept", "none", "failed", "removed")),),
    ),
    Metric(
        "evergraft_search_duration_seconds",
        "histogram",
        "From a run's first ready worker to its end",
        buckets=_MINUTES,
        unit="seconds",
    ),
    Metric(
        "evergraft_search_wait_seconds",
        "histogram",
        "From a run's first Job to its first ready worker",
        buckets=_MINUTES,
        unit="seconds",
    ),
    Metric(
        "evergraft_searches_without_progress",
        "gauge",
        "Searches with ready workers that have told nothing new for 10 minutes",
    ),
    Metric(
        "evergraft_worker_failures_total",
        "counter",
        "Workers that ended without finishing, or could not start, by reason",
        (_NAMESPACE, Label("reason", FAILURES)),
    ),
    Metric(
        "evergraft_accelerator_seconds_total",
        "counter",
        "Seconds that workers held their devices, by whether the work was kept",
        (*_OF_GRAPH, Label("resource", ("CPU", "GPU", "TPU")), Label("use", ("useful", "lost"))),
        unit="seconds",
    ),
    Metric(
        "evergraft_finished_workers_total",
        "counter",
        "Workers that have ended: with counters in their report, without, or with such as cannot be",
        (*_OF_GRAPH, Label("report", ("counted", "none", "refused"))),
    ),
    *FINISHED.values(),
    Metric("evergraft_graph_version", "gauge", "The graph's newest known version", _OF_GRAPH),
    Metric("evergraft_graph_tasks", "gauge", "Tasks that the graph has routes for", _OF_GRAPH),
    Metric("evergraft_graph_modules", "gauge", "Modules in the graph", _OF_GRAPH),
    Metric("evergraft_graph_parameters", "gauge", "Parameters in the graph", _OF_GRAPH),
    Metric("evergraft_graph_bytes", "gauge", "Bytes that the graph's modules take", _OF_GRAPH, unit="bytes"),
    Metric("evergraft_graph_ready", "gauge", "1 while the ModuleGraph is Ready, else 0", _OF_GRAPH),
    Metric(
        "evergraft_graph_verified",
        "gauge",
        "1 if the newest verification found all well, 0 if it found damage; absent before the first",
        _OF_GRAPH,
    ),
    Metric(
        "evergraft_graph_maintained_timestamp_seconds",
        "gauge",
        "When a duty was last done, as Unix time; absent before the first time",
        (*_OF_GRAPH, Label("duty", ("collect", "verify"))),
        unit="seconds",
    ),
    Metric(
        "evergraft_graph_maintenance_due_timestamp_seconds",
        "gauge",
        "When a duty is due next, as Unix time; absent where none is scheduled",
        (*_OF_GRAPH, Label("duty", ("collect", "verify"))),
        unit="seconds",
    ),
    Metric(
        "evergraft_reconcile_total",
        "counter",
        "Reconciles by outcome: something was written, nothing had to be, put off by the API server, a defect",
        (Label("outcome", ("changed", "unchanged", "retry", "error")),),
    ),
    Metric(
        "evergraft_reconcile_duration_seconds",
        "histogram",
        "One reconcile, with its reads and writes",
        buckets=_RECONCILE,
        unit="seconds",
    ),
    Metric("evergraft_queue_depth", "gauge", "Objects that wait for a reconcile now"),
    Metric(
        "evergraft_queue_wait_seconds",
        "histogram",
        "From when an object could be reconciled to when that began",
        buckets=_QUEUE,
        unit="seconds",
    ),
    Metric(
        "evergraft_kube_requests_total",
        "counter",
        "Requests to the API server, by HTTP status",
        (Label("verb", VERBS), _RESOURCE, Label("code", CODES)),
    ),
    Metric(
        "evergraft_watch_age_seconds",
        "gauge",
        "Since a resource was last known to be in step: by an event, or by a list that found nothing missed",
        (_RESOURCE,),
        unit="seconds",
    ),
    Metric("evergraft_cache_pruned_total", "counter", "Objects that vanished without their watch telling"),
    Metric(
        "evergraft_event_loop_lag_seconds",
        "histogram",
        "How late the operator's event loop wakes up",
        buckets=_LAG,
        unit="seconds",
    ),
    Metric("evergraft_leader", "gauge", "1 in the process that leads, 0 in a standby"),
    Metric("evergraft_build_info", "gauge", "Always 1; its label tells the version", (Label("version"),)),
)
"""What the operator exposes."""

PROCESS = (
    Metric("process_cpu_seconds_total", "counter", "Processor time of the process", unit="seconds"),
    Metric("process_resident_memory_bytes", "gauge", "Memory that the process holds", unit="bytes"),
    Metric("process_open_fds", "gauge", "Open files and sockets"),
    Metric("process_start_time_seconds", "gauge", "When the process started, as Unix time", unit="seconds"),
)
"""What the Prometheus client tells of the operator's process; the dashboards use no more of it."""


def named(name: str) -> Metric:
    """The metric of that exposed name; raises KeyError if there is none."""
    for metric in (*OPERATOR, *WORKER, *PROCESS):
        if metric.name == name:
            return metric
    raise KeyError(name)
