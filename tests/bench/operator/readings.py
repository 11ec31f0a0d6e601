"""What the operator's metrics say between two moments: reconciles, their quantiles, requests by verb and resource."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

Series = Mapping[str, float]
WRITES = ("create", "patch", "update", "delete")
_LABELS = re.compile(r'(\w+)="([^"]*)"')


def between(before: Series, after: Series) -> dict[str, float]:
    """What was added to each series."""
    return {name: value - before.get(name, 0.0) for name, value in after.items()}


def total(series: Series, name: str) -> float:
    """The sum over all labels of a metric."""
    return sum(value for key, value in series.items() if key == name or key.startswith(f"{name}{{"))


def requests(series: Series) -> Counter[tuple[str, str]]:
    """Requests by verb and resource."""
    found: Counter[tuple[str, str]] = Counter()
    for name, value in series.items():
        if name.startswith("evergraft_kube_requests_total{"):
            labels = dict(_LABELS.findall(name))
            found[labels["verb"], labels["resource"]] += round(value)
    return +found


def writes(series: Series) -> Counter[tuple[str, str]]:
    """Writes other than the Lease's, by verb and resource."""
    asked = requests(series).items()
    return Counter({key: count for key, count in asked if key[0] in WRITES and key[1] != "leases"})


def converged(series: Series, keys: int) -> bool:
    """Whether that many reconciles are done and nothing waits for one."""
    return series["evergraft_queue_depth"] == 0 and total(series, "evergraft_reconcile_total") >= keys


def quantile(series: Series, name: str, share: float) -> float:
    """A quantile of a histogram, on a straight line within its bucket; infinite if it is in the last."""
    buckets = []
    for key, value in series.items():
        if key.startswith(f"{name}_bucket{{"):
            buckets.append((float(dict(_LABELS.findall(key))["le"]), value))
    buckets.sort()
    wanted, low, under = share * buckets[-1][1], 0.0, 0.0
    for high, count in buckets:
        if count >= wanted:
            return high if high == float("inf") else low + (high - low) * (wanted - under) / max(count - under, 1e-9)
        low, under = high, count
    return low
