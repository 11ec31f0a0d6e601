"""What a worker measures of itself: Prometheus metrics.

Fed by the events of a search and by the metered store; names and labels are those of the table
in ``evergraft.metrics``. Called by the worker, read by the status server and the final report.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from evergraft.instruments import counter, counters, gauge, histograms
from evergraft.store.metered import Operation


class Telemetry:
    """One worker's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = made = CollectorRegistry()
        self.candidates = counters("evergraft_worker_candidates_total", made)
        self.samples = counter("evergraft_worker_samples_total", made)
        self.idle = counter("evergraft_worker_idle_seconds_total", made)
        self.data_wait = counter("evergraft_worker_data_wait_seconds_total", made)
        self.steps = histograms("evergraft_worker_step_seconds", made)
        self.state_age = gauge("evergraft_worker_state_age_seconds", made)
        self.state_age.set_function(self._state_age)
        self.requests = counters("evergraft_store_requests_total", made)
        self.durations = histograms("evergraft_store_request_duration_seconds", made)
        self.bytes = counters("evergraft_store_bytes_total", made)
        self.commits = counters("evergraft_commit_attempts_total", made)
        self._saved = time.monotonic()
        self._last: dict[tuple[Any, Any], int] = {}

    def observe_store(self, operation: Operation) -> None:
        """Count one store operation."""
        self.requests.labels(operation.name, operation.outcome).inc()
        self.durations.labels(operation.name).observe(operation.seconds)
        if operation.area == "log" and operation.name == "put_if_absent":
            self.commits.labels(operation.outcome).inc()
        self.bytes.labels("sent").inc(operation.sent)
        self.bytes.labels("received").inc(operation.received)

    def observe_event(self, name: str, fields: Mapping[str, Any]) -> None:
        """Count what a search tells."""
        if name in ("step", "validation"):
            self._trained(fields)
        for phase, seconds in fields.get("timings", {}).items():
            self._timed(phase, seconds)
        if name == "validation":
            self._saved = time.monotonic()
        elif name == "result":
            self.candidates.labels(str(fields.get("ending", "scored"))).inc()
        elif name == "superseded":
            self.candidates.labels(name).inc()
        elif name == "idle":
            self.idle.inc(float(fields["seconds"]))

    def totals(self) -> dict[str, float]:
        """Every counter's value by name and labels, for the final report."""
        return {
            sample.name + "".join(f",{key}={value}" for key, value in sorted(sample.labels.items())): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name.endswith("_total") and sample.value
        }

    def _timed(self, phase: str, seconds: list[float]) -> None:
        """Seconds of steps since the last event; those of the phase `data` are waits."""
        for one in seconds:
            if phase == "data":
                self.data_wait.inc(one)
            else:
                self.steps.labels(phase).observe(one)

    def _trained(self, fields: Mapping[str, Any]) -> None:
        """Samples since the slot's last event; a resumed slot's earlier ones were another worker's."""
        slot, seen = (fields.get("generation"), fields.get("slot")), int(fields["samples"])
        before = self._last.get(slot)
        self._last[slot] = seen
        if before is not None and seen > before:
            self.samples.inc(seen - before)

    def _state_age(self) -> float:
        return time.monotonic() - self._saved
