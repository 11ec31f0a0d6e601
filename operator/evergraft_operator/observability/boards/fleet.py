"""Fleet: all Tasks and graphs. For whoever runs the platform, and the first board to look at.

A graph may be in another namespace than the Tasks that grow it, so its own figures are chosen by `graph` alone.
"""

from __future__ import annotations

from evergraft_operator.observability.panels import Board, Panel, Query, Row, Variable

_HERE = 'namespace=~"$namespace"'
_GRAPH = 'graph=~"$graph"'
_OF_GRAPH = f"{_HERE}, {_GRAPH}"


def fleet() -> Board:
    """What is trained, what waits, what is stuck, what it costs, how the graphs grow."""
    return Board(
        uid="evergraft-fleet",
        title="Evergraft / Fleet",
        note="All Tasks and graphs. Start here.",
        variables=(
            Variable("namespace", "evergraft_tasks", "namespace"),
            Variable("graph", 'evergraft_tasks{namespace=~"$namespace"}', "graph"),
        ),
        rows=(
            Row("Now", _now()),
            Row("Tasks and searches", _tasks()),
            Row("Failures and cost", _costs()),
            Row("Work of workers that have ended", _work()),
            Row("Graphs", _graphs()),
        ),
        hours=24,
    )


def _now() -> tuple[Panel, ...]:
    def number(title: str, expr: str, *, note: str = "", bad: float | None = None) -> Panel:
        return Panel(title, (Query(f"{expr} or vector(0)"),), kind="stat", width=4, height=4, note=note, bad=bad)

    def in_phase(phase: str) -> str:
        return f'sum(evergraft_tasks{{{_OF_GRAPH}, phase=~"{phase}"}})'

    return (
        number("Tasks", f"sum(evergraft_tasks{{{_OF_GRAPH}}})"),
        number("Searching", in_phase("Starting|Training|Committing")),
        number("Waiting for room", in_phase("Queued"), note="Quota or nodes; the Task's `waiting` says which."),
        number("Stalled", in_phase("Failed"), note="A person is needed: see the condition Stalled.", bad=1),
        number("Without progress", "sum(evergraft_searches_without_progress)", bad=1),
        number("Graphs not ready", f"sum(evergraft_graph_ready{{{_GRAPH}}} == bool 0)", bad=1),
    )


def _tasks() -> tuple[Panel, ...]:
    return (
        Panel(
            "Tasks by phase",
            (Query(f"sum by (phase) (evergraft_tasks{{{_OF_GRAPH}}})", "{{phase}}"),),
            stacked=True,
        ),
        Panel(
            "Searches an hour",
            (
                Query("sum(increase(evergraft_searches_started_total[1h]))", "started"),
                Query("sum by (outcome) (increase(evergraft_searches_finished_total[1h]))", "{{outcome}}"),
            ),
            note="The whole installation; the variables do not apply.",
        ),
        Panel(
            "How long searches wait and take",
            tuple(
                Query(
                    f"histogram_quantile({share}, sum by (le) (rate(evergraft_search_{what}_seconds_bucket[6h])))",
                    f"{what}, {words}",
                )
                for what in ("wait", "duration")
                for share, words in ((0.5, "half"), (0.9, "nine of ten"))
            ),
            unit="s",
            note="Wait: from Job to first ready worker. Duration: from there to the end. Over six hours.",
        ),
    )


def _costs() -> tuple[Panel, ...]:
    lost = f'sum(increase(evergraft_accelerator_seconds_total{{{_OF_GRAPH}, use="lost"}}[6h]))'
    return (
        Panel(
            "Worker failures an hour",
            (Query(f"sum by (reason) (increase(evergraft_worker_failures_total{{{_HERE}}}[1h])) > 0", "{{reason}}"),),
            stacked=True,
            note="Preempted and NodeLost are the world's and are tried again without limit.",
        ),
        Panel(
            "Accelerator hours an hour",
            (
                Query(
                    f"sum by (resource, use) (rate(evergraft_accelerator_seconds_total{{{_OF_GRAPH}}}[1h])) > 0",
                    "{{resource}} {{use}}",
                ),
            ),
            stacked=True,
            note="Counted when a worker ends, so it comes in steps.",
        ),
        Panel(
            "Lost share of accelerator time",
            (Query(f"{lost} / sum(increase(evergraft_accelerator_seconds_total{{{_OF_GRAPH}}}[6h]))", "lost"),),
            unit="percentunit",
            bad=0.3,
            note="Over six hours.",
        ),
    )


def _work() -> tuple[Panel, ...]:
    def hourly(title: str, what: str, by: str, note: str = "", unit: str = "short") -> Panel:
        query = f"sum by ({by}) (increase(evergraft_finished_{what}_total{{{_OF_GRAPH}}}[1h]))"
        return Panel(title, (Query(query, f"{{{{{by}}}}}"),), stacked=True, note=note, unit=unit)

    def waited(what: str) -> str:
        return f"sum(rate(evergraft_finished_worker_{what}_seconds_total{{{_OF_GRAPH}}}[1h]))"

    whole = "All that a worker did is added when it ends, so it comes in steps. Search shows what runs."
    refused = "None: killed, or no room. Refused: numbers that no worker comes to; the operator's log names the pod."
    return (
        hourly("Samples an hour", "worker_samples", "graph", note=whole),
        hourly("Candidates an hour", "worker_candidates", "outcome"),
        hourly("Commit attempts an hour", "worker_commit_attempts", "outcome", note="Most come in the last seconds."),
        Panel(
            "Worker hours waited an hour",
            (Query(waited("data_wait"), "for data"), Query(waited("idle"), "for a candidate")),
            stacked=True,
        ),
        hourly("Store traffic an hour", "worker_store_bytes", "direction", unit="bytes"),
        hourly("Workers that ended an hour, by their report", "workers", "report", note=refused),
    )


def _graphs() -> tuple[Panel, ...]:
    def growth(title: str, what: str, unit: str = "short") -> Panel:
        query = Query(f"max by (graph) (evergraft_graph_{what}{{{_GRAPH}}})", "{{graph}}")
        return Panel(title, (query,), unit=unit, width=6)

    age = "time() - max by (graph, duty) (evergraft_graph_maintained_timestamp_seconds{" + _GRAPH + "})"
    due = "max by (graph, duty) (evergraft_graph_maintenance_due_timestamp_seconds{" + _GRAPH + "}) - time()"
    return (
        growth("Tasks in the graph", "tasks"),
        growth("Modules", "modules"),
        growth("Parameters", "parameters"),
        growth("Bytes of modules", "bytes", "bytes"),
        growth("Version", "version"),
        Panel(
            "Verified (1) or damaged (0)",
            (Query(f"min by (graph) (evergraft_graph_verified{{{_GRAPH}}})", "{{graph}}"),),
            width=6,
        ),
        Panel("Since maintenance", (Query(age, "{{graph}} {{duty}}"),), unit="s", width=6),
        Panel("Until maintenance", (Query(due, "{{graph}} {{duty}}"),), kind="table", unit="s", width=6),
    )
