"""What a PromQL expression of ours names: metrics and labels, held against the table.

No parser: Prometheus itself checks the syntax. This finds names that it cannot know to be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from evergraft.metrics import Metric

TARGET = {"namespace", "instance", "job", "pod"}
"""Labels that a scrape adds."""
_METRIC = re.compile(r"\b((?:evergraft|process)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")


def problems(expression: str, metrics: Iterable[Metric]) -> list[str]:
    """Names and values that no metric has; empty if all is well."""
    known = {sample: metric for metric in metrics for sample in metric.samples}
    found, labels = [], set(TARGET)
    for name, matchers in _METRIC.findall(expression):
        if name not in known:
            found.append(f"no metric {name}")
            continue
        metric = known[name]
        labels |= {*metric.label_names, *(("le",) if name.endswith("_bucket") else ())}
        for label, value in _MATCHER.findall(matchers):
            found += [f"{name}: {wrong}" for wrong in _wrong(metric, label, value)]
    for names in _GROUPING.findall(expression):
        found += [f"no label {name}" for name in re.findall(r"\w+", names) if name not in labels]
    return found


def _wrong(metric: Metric, label: str, value: str) -> list[str]:
    own = {item.name: item for item in metric.labels}
    if label not in own:
        return [] if label in TARGET else [f"no label {label}"]
    allowed = own[label].values
    if not allowed or "$" in value or not re.fullmatch(r"[\w|]+", value):
        return []
    return [f"{label} is never {part}" for part in value.split("|") if part not in allowed]
