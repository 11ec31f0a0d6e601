"""What workers that have ended had counted last, as counters of the operator's own, by graph.

A pod's metrics go with it, so what it did after the last scrape is in its termination message only. Each pod counts
once in a process; those that ended under an earlier leader were that one's to count. A message is not trusted: with a
number that no worker can come to, none of it counts. Told of pods by the process while it leads.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from evergraft.metrics import FINISHED, Metric
from evergraft_operator import labels, reading, report
from evergraft_operator.cache import Cache
from evergraft_operator.facts import TaskFacts
from evergraft_operator.kinds import TASK
from evergraft_operator.metrics import Metrics
from evergraft_operator.observed import Pod
from evergraft_operator.reading import EPOCH, Moment, seconds_between

logger = logging.getLogger(__name__)

MAX_DEVICES = 16
"""More than one pod has."""
MOST_PER_SECOND = {
    "evergraft_worker_samples_total": 1e6,
    "evergraft_worker_candidates_total": 1e3,
    "evergraft_worker_data_wait_seconds_total": 1.0,
    "evergraft_worker_idle_seconds_total": 1.0,
    "evergraft_store_bytes_total": 1e11,
    "evergraft_commit_attempts_total": 1e3,
}
"""What one device's worker does not exceed in a second of its life."""


@dataclass
class Tally:
    """Adds up workers' last words. `since` is when the leader before this one was last there."""

    metrics: Metrics
    cache: Cache
    since: Moment = EPOCH
    _counted: set[str] = field(default_factory=set)

    def see(self, document: Mapping[str, Any]) -> None:
        """Count a pod as it was seen, if it is a worker's and has ended."""
        if reading.mapping(document, "status").get("phase") not in ("Succeeded", "Failed"):
            return
        pod, meta = Pod.read(document), reading.mapping(document, "metadata")
        if pod.ended is None or pod.ended < self.since or not pod.owner:
            return
        task = self.cache.get(reading.text(reading.mapping(meta, "labels").get(labels.TASK_UID), 64))
        if task is None or task.kind != TASK.name or task.namespace != meta.get("namespace"):
            return
        # Whom a graph does not let in could fill its figures.
        if isinstance(task.facts, TaskFacts) and not task.facts.denied:
            self.count(pod, task.namespace, task.facts.graph)

    def count(self, pod: Pod, namespace: str, graph: str) -> None:
        """Count a worker's pod that has ended, of a Task in `namespace`; nothing if that was done before."""
        if pod.uid in self._counted:
            return
        self._counted.add(pod.uid)
        told = report.document(pod.message).get("counters")
        counts = list(_read(told, seconds_between(pod.started, pod.ended))) if isinstance(told, dict) else None
        outcome = "none" if counts is None else "refused" if None in counts else "counted"
        self.metrics.finished_workers.labels(namespace, graph, outcome).inc()
        if outcome == "refused":
            logger.warning("the counters that pod %s/%s reports cannot be, and are left out", namespace, pod.name)
            return
        for found in filter(None, counts or ()):
            metric, values, number = found
            getattr(self.metrics, metric.attribute).labels(namespace, graph, *values).inc(number)

    def forget(self, uid: str) -> None:
        """A pod is gone, and will not be seen again."""
        self._counted.discard(uid)


def _read(told: Mapping[str, Any], life_s: float) -> Iterator[tuple[Metric, tuple[str, ...], float] | None]:
    """The counters in a report by the table's own names; None for each that cannot be."""
    most = {name: rate * (life_s + 1.0) * MAX_DEVICES for name, rate in MOST_PER_SECOND.items()}
    for name, metric in FINISHED.items():
        own = [label for label in metric.labels if not label.is_open]
        for values in itertools.product(*(label.values for label in own)):
            pairs = sorted(zip((label.name for label in own), values, strict=True))
            key = name + "".join(f",{label}={value}" for label, value in pairs)
            if key in told:
                number = reading.number(told[key], high=most[name])
                yield None if number is None else (metric, values, number)
