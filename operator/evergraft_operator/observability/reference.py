"""docs/metrics.md from the table of metrics: what each means, its labels, and how many series it can come to.

Called by ``__main__``.
"""

from __future__ import annotations

from collections.abc import Iterable

from evergraft.metrics import MAX_OPEN_VALUES, OPERATOR, PROCESS, WORKER, Label, Metric

_OPEN = {
    "namespace": "the Task's or ModuleGraph's namespace",
    "graph": "`<namespace>/<name>` of the ModuleGraph",
    "version": "the operator's version",
}


def markdown() -> str:
    """The page."""
    capped = (
        "No label names a Task, a search or a pod. What a worker counted last is in its termination message: the "
        "operator adds that up once the worker has ended, as `evergraft_finished_worker_…`. The totals of both make up "
        "what was done, nothing twice; their rates do not, since a worker's whole life is added at its end. A label "
        "value that the table does not know is exposed as `other`, and so is every further value once a process has "
        f"shown {MAX_OPEN_VALUES} of a label that is filled with names. How to scrape: "
        "[observability.md](observability.md)."
    )
    leader = (
        "On the port named `metrics`, path `/metrics`. What describes Tasks and graphs is shown by the leader only. "
        "Metrics carry a `namespace` label of their own: scrape with `honorLabels: true`."
    )
    parts = [
        "# Metrics",
        "Written by `evergraft_operator.observability` from the table in `evergraft.metrics`; edit the table.",
        capped,
        "## Operator",
        leader,
        _table(OPERATOR),
        "Beside them the Prometheus client's own, of which the dashboards use:",
        _table(PROCESS),
        "## Worker",
        "On each worker's status port, path `/metrics`.",
        _table(WORKER),
        "## Labels",
        _labels((*OPERATOR, *WORKER)),
    ]
    return "\n\n".join(parts) + "\n"


def _table(metrics: Iterable[Metric]) -> str:
    rows = [f"| `{metric.name}` | {metric.kind} | {_names(metric)} | {_says(metric)} |" for metric in metrics]
    return "\n".join(["| metric | kind | labels | what it counts |", "| --- | --- | --- | --- |", *rows])


def _names(metric: Metric) -> str:
    return ", ".join(f"`{name}`" for name in metric.label_names) or "–"


def _says(metric: Metric) -> str:
    known = "Unix time" in metric.help or metric.unit in metric.help.lower()
    unit = f", in {metric.unit}" if metric.unit and not known else ""
    edges = f" (buckets to {metric.buckets[-1]:g} s)" if metric.buckets else ""
    return f"{metric.help}{unit}{edges}"


def _labels(metrics: Iterable[Metric]) -> str:
    rows = {}
    for metric in metrics:
        for label in metric.labels:
            name = label.name if label.is_open else f"{label.name} of {metric.name}"
            rows[name] = f"| `{label.name}` {_of(metric, label)}| {_values(label)} |"
    return "\n".join(["| label | values |", "| --- | --- |", *rows.values()])


def _of(metric: Metric, label: Label) -> str:
    return "" if label.is_open else f"of `{metric.name}` "


def _values(label: Label) -> str:
    return _OPEN[label.name] if label.is_open else ", ".join(f"`{value}`" for value in label.values)
