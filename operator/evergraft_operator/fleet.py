"""What the metrics say of Tasks and ModuleGraphs: gauges from the cache, counters from plans that were applied.

Pure readings of statuses and plans; nothing is asked of anybody. Called by the process while it leads: `read` and
`show` every 15 seconds, `count` once per applied plan. A standby shows nothing, so that sums over replicas are right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from evergraft.metrics import FINISHED
from evergraft_operator import admission, conditions, graphs, graphstatus, labels, reading, status
from evergraft_operator.metrics import Metrics
from evergraft_operator.observed import Thing
from evergraft_operator.plan import Plan
from evergraft_operator.reading import Moment, seconds_between

SILENT_S = 600
"""How long a search may tell nothing new before it counts as without progress."""
_WORKING = ("Training", "Committing")
_TOTALS = ("version", "tasks", "modules", "parameters", "bytes")
_GAUGES = (
    "tasks",
    *(f"graph_{name}" for name in _TOTALS),
    "graph_ready",
    "graph_verified",
    "graph_maintained_timestamp_seconds",
    "graph_maintenance_due_timestamp_seconds",
)

Series = dict[tuple[str, ...], float]


@dataclass(frozen=True)
class Figures:
    """What the gauges are to say: the series of each by its attribute of ``Metrics``, and how many searches are silent.

    Without anything they say nothing, as a standby's do.
    """

    series: Mapping[str, Series] = field(default_factory=dict)
    silent: int = 0


def read(metrics: Metrics, tasks: Iterable[Thing], graphs_known: Iterable[Thing], now: Moment) -> Figures:
    """Work out what the gauges are to say of Tasks and graphs, one object in memory at a time.

    Takes its time, and may do so in a thread: of `metrics` it only begins counters at zero.
    """
    phases, silent = _read_tasks(tasks, now)
    series = {"tasks": phases, **_read_graphs(graphs_known)}
    for namespace, graph in {key[:2] for group in (phases, series["graph_ready"]) for key in group}:
        _begin(metrics, namespace, graph)
    return Figures(series, silent)


def show(metrics: Metrics, figures: Figures) -> None:
    """Set every gauge about Tasks and graphs; what the figures do not say is no longer shown."""
    for name in _GAUGES:
        getattr(metrics, name).replace(figures.series.get(name, {}))
    metrics.searches_without_progress.set(figures.silent)


def count(metrics: Metrics, thing: Thing, plan: Plan, now: Moment) -> None:
    """Add what an applied plan of the Task `thing`, as it stood before, says has happened."""
    if any(_is_first(job) for job in plan.create):
        _begin(metrics, thing.namespace, graph_of(thing))
        metrics.searches_started.inc()
    if plan.waited_s is not None:
        metrics.search_wait_seconds.observe(plan.waited_s)
    if plan.status is None:
        return
    before, after = status.read(thing.status), status.read(plan.status)
    if plan.ended is not None:
        metrics.searches_finished.labels(plan.ended).inc()
        if before.search is not None and before.search.started is not None:
            metrics.search_duration_seconds.observe(max(0.0, seconds_between(before.search.started, now)))
    same = before.search is not None and after.search is not None and before.search.run == after.search.run
    counted = before.failures if same else {}
    for reason, number in after.failures.items():
        if (more := number - counted.get(reason, 0)) > 0:
            metrics.worker_failures.labels(thing.namespace, reason).inc(more)
    spent = {"useful": after.useful_s - before.useful_s, "lost": after.lost_s - before.lost_s}
    for use, seconds in spent.items():
        if seconds > 0:
            series = (thing.namespace, graph_of(thing), plan.accelerator, use)
            metrics.accelerator_seconds.labels(*series).inc(seconds)


def graph_of(task: Thing) -> str:
    """`<namespace>/<name>` of the ModuleGraph that a Task names."""
    ref = reading.mapping(task.spec, "graphRef")
    namespace = reading.text(ref.get("namespace"), 63) or task.namespace
    return f"{namespace}/{reading.text(ref.get('name')) or 'default'}"


def _is_first(job: Mapping[str, object]) -> bool:
    """Whether a Job begins a run, rather than going on with it."""
    marks = reading.mapping(reading.mapping(job, "metadata"), "labels")
    return marks.get(labels.COMPONENT) == labels.WORKER and marks.get(labels.ATTEMPT) == "1"


def _read_tasks(tasks: Iterable[Thing], now: Moment) -> tuple[Series, int]:
    """How many Tasks of each graph are in each phase, and how many searches are silent."""
    phases: Counter[tuple[str, ...]] = Counter()
    silent = 0
    for task in tasks:
        phase = reading.text(task.status.get("phase"), 16) or "Pending"
        phases[task.namespace, graph_of(task), phase] += 1
        silent += phase in _WORKING and _is_silent(task, now)
    return {key: float(number) for key, number in phases.items()}, silent


def _begin(metrics: Metrics, namespace: str, graph: str) -> None:
    """Counters of these start at zero before they grow: a search may be over before the gauges are shown again."""
    metrics.worker_failures.begin(namespace)
    metrics.accelerator_seconds.begin(namespace, graph)
    metrics.finished_workers.begin(namespace, graph)
    for metric in FINISHED.values():
        getattr(metrics, metric.attribute).begin(namespace, graph)


def _is_silent(task: Thing, now: Moment) -> bool:
    search = status.read(task.status).search
    if search is None or search.outcome is not None:
        return False
    since = search.progressed or search.started
    return since is not None and seconds_between(since, now) > SILENT_S


def _read_graphs(things: Iterable[Thing]) -> dict[str, Series]:
    found: dict[str, Series] = {name: {} for name in _GAUGES if name.startswith("graph_")}
    for thing in things:
        key = (thing.namespace, f"{thing.namespace}/{thing.name}")
        known, told = graphstatus.read_status(thing.status), conditions.read(thing.status)
        for name in _TOTALS:
            value = getattr(known.totals, name) if known.totals is not None else None
            if value is not None:
                found[f"graph_{name}"][key] = value
        found["graph_ready"][key] = float("Ready" in told and told["Ready"].holds)
        if "Verified" in told and told["Verified"].status != "Unknown":
            found["graph_verified"][key] = float(told["Verified"].holds)
        times = {"collect": known.collected, "verify": known.verified}
        for name, moments in (("maintained", times), ("maintenance_due", _due(thing, known))):
            for duty, time in moments.items():
                if time is not None:
                    found[f"graph_{name}_timestamp_seconds"][*key, duty] = time.timestamp()
    return found


def _due(thing: Thing, known: graphstatus.GraphStatus) -> dict[str, Moment]:
    spec, _ = admission.read_graph(thing)
    if spec is None or thing.created is None or thing.deleting is not None:
        return {}
    return graphs.maintenance_due(spec, known, created=thing.created)
