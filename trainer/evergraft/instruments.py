"""Prometheus objects made from the table of metrics, with label values held to what the table allows.

A value that a label does not know, or one too many of an open label, is counted as `other`: no object, however
hostile, can make the operator or a worker expose series without end. Called by the operator's ``Metrics`` and the
worker's ``Telemetry``; needs prometheus_client, which both extras bring.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from typing import Generic, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from evergraft.metrics import MAX_OPEN_VALUES, OTHER, Metric, named

P = TypeVar("P", bound=Counter | Gauge | Histogram)

MAX_BEGUN = 32
"""Series that a counter shows from the start."""


class Family(Generic[P]):
    """A metric with labels."""

    def __init__(self, metric: Metric, parent: P) -> None:
        self.metric = metric
        self._parent: P = parent
        self._seen: set[tuple[str, ...]] = set()
        self._lock = threading.Lock()

    def labels(self, *values: str, **more: str) -> P:
        """The series of these values, given in the table's order or by name; raises ValueError on others' names."""
        named_values = {**dict(zip(self.metric.label_names, values, strict=False)), **more}
        if len(values) + len(more) != len(self.metric.labels) or set(named_values) != set(self.metric.label_names):
            raise ValueError(f"{self.metric.name} has labels {self.metric.label_names}, got {values} and {more}")
        fitted = self._fitted(tuple(named_values[label.name] for label in self.metric.labels))
        return cast("P", self._parent.labels(*self._known(fitted)))

    def _fitted(self, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(label.fit(value) for label, value in zip(self.metric.labels, values, strict=True))

    def begin(self, *open_values: str) -> None:
        """Show every series there can be under these values of the open labels, at zero.

        A counter that is first seen at 1 has not grown as far as Prometheus can tell; one that began at 0 has.
        """
        given = iter(open_values)
        choices = [(next(given),) if label.is_open else label.values for label in self.metric.labels]
        for values in itertools.product(*choices):
            self._parent.labels(*self._known(values))

    def _known(self, values: tuple[str, ...]) -> tuple[str, ...]:
        """The values, those of open labels as `other` once there are too many of them."""
        key = tuple(value for label, value in zip(self.metric.labels, values, strict=True) if label.is_open)
        with self._lock:
            if key in self._seen or len(self._seen) < MAX_OPEN_VALUES:
                self._seen.add(key)
                return values
        pairs = zip(self.metric.labels, values, strict=True)
        return tuple(OTHER if label.is_open else value for label, value in pairs)


class Gauges(Family[Gauge]):
    """A gauge with labels that can be told anew as a whole, so that what is gone vanishes."""

    def __init__(self, metric: Metric, parent: Gauge) -> None:
        super().__init__(metric, parent)
        self._shown: set[tuple[str, ...]] = set()

    def replace(self, series: Mapping[tuple[str, ...], float]) -> None:
        """Show these series and no others; values that fall together are added up.

        Whoever reads meanwhile sees each series either as it was or as it is, never a gap.
        """
        self._seen.clear()
        wanted: dict[tuple[str, ...], float] = {}
        for values, value in sorted(series.items()):
            fitted = self._known(self._fitted(values))
            wanted[fitted] = wanted.get(fitted, 0.0) + value
        for values, value in wanted.items():
            self._parent.labels(*values).set(value)
        for values in self._shown - set(wanted):
            self._parent.remove(*values)
        self._shown = set(wanted)


def counter(name: str, registry: CollectorRegistry) -> Counter:
    """A counter without labels."""
    return Counter(name, _plain(name).help, registry=_quiet(registry))


def gauge(name: str, registry: CollectorRegistry) -> Gauge:
    """A gauge without labels."""
    return Gauge(name, _plain(name).help, registry=_quiet(registry))


def histogram(name: str, registry: CollectorRegistry) -> Histogram:
    """A histogram without labels."""
    metric = _plain(name)
    return Histogram(name, metric.help, buckets=metric.buckets, registry=_quiet(registry))


def counters(name: str, registry: CollectorRegistry) -> Family[Counter]:
    """A counter with labels; one that can only have few series begins with all of them."""
    metric = named(name)
    family = Family(metric, Counter(name, metric.help, metric.label_names, registry=_quiet(registry)))
    if not any(label.is_open for label in metric.labels) and metric.num_series <= MAX_BEGUN:
        family.begin()
    return family


def gauges(name: str, registry: CollectorRegistry) -> Gauges:
    """A gauge with labels."""
    metric = named(name)
    return Gauges(metric, Gauge(name, metric.help, metric.label_names, registry=_quiet(registry)))


def histograms(name: str, registry: CollectorRegistry) -> Family[Histogram]:
    """A histogram with labels."""
    metric = named(name)
    made = Histogram(name, metric.help, metric.label_names, buckets=metric.buckets, registry=_quiet(registry))
    return Family(metric, made)


def _plain(name: str) -> Metric:
    metric = named(name)
    assert not metric.labels, f"{name} has labels"
    return metric


def _quiet(registry: CollectorRegistry) -> CollectorRegistry:
    """Without the series that tell when each series began: they double what is stored and nothing reads them."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return registry
