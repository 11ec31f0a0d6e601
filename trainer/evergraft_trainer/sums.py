"""Metrics of several processes as one: counters and histograms added up, gauges at their highest.

Works on the text that each of them serves. Called by the parent of several workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

Key = tuple[str, tuple[tuple[str, str], ...]]


class _Sum:
    """One family of several texts."""

    def __init__(self, family: Metric) -> None:
        self.name, self.documentation, self.type = family.name, family.documentation, family.type
        self._values: dict[Key, float] = {}

    def add(self, family: Metric) -> None:
        """Take another text's samples in."""
        for sample in family.samples:
            key = (sample.name, tuple(sample.labels.items()))
            if self.type == "gauge":
                self._values[key] = max(sample.value, self._values.get(key, sample.value))
            else:
                self._values[key] = self._values.get(key, 0.0) + sample.value

    def metric(self) -> Metric:
        """The family with its sums."""
        made = Metric(self.name, self.documentation, self.type)
        for (name, labels), value in self._values.items():
            made.add_sample(name, dict(labels), value)
        return made


class _Collected(CollectorRegistry):
    """A registry that holds finished families."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__()
        self._families = tuple(families)

    def collect(self) -> Iterator[Metric]:
        """The families."""
        return iter(self._families)


def summed(texts: Iterable[str]) -> bytes:
    """The text of all `texts` together.

    Raises:
        ValueError: one is not the text of metrics.
    """
    sums: dict[str, _Sum] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            sums.setdefault(family.name, _Sum(family)).add(family)
    return generate_latest(_Collected(one.metric() for one in sums.values()))
