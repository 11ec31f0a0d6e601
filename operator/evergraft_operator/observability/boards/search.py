"""Search: what workers do. For whoever wonders why a search is slow.

Worker metrics name no Task; the namespace and the address come from the target, the graph from the operator's metrics.
"""

from __future__ import annotations

from evergraft_operator.observability.panels import Board, Panel, Query, Row, Variable, quantiles

_OF_GRAPH = 'namespace=~"$namespace", graph=~"$graph"'
_WORKER = 'namespace=~"$namespace", instance=~"$instance"'
_RATE = "$__rate_interval"


def search() -> Board:
    """What workers do: speed, candidates, what they wait for, the store, commits."""
    return Board(
        uid="evergraft-search",
        title="Evergraft / Search",
        note="Workers of running searches, by pod address. What a worker counted last is in its termination message.",
        variables=(
            Variable("namespace", "evergraft_worker_samples_total", "namespace"),
            Variable("graph", 'evergraft_tasks{namespace=~"$namespace"}', "graph"),
            Variable("instance", 'evergraft_worker_samples_total{namespace=~"$namespace"}', "instance"),
        ),
        rows=(Row("Training", _training()), Row("Waiting", _waits()), Row("Store and commits", _store())),
    )


def _training() -> tuple[Panel, ...]:
    return (
        Panel(
            "Samples a second",
            (
                Query(f"sum(rate(evergraft_worker_samples_total{{{_WORKER}}}[{_RATE}]))", "all"),
                Query(
                    f"sum by (instance) (rate(evergraft_worker_samples_total{{{_WORKER}}}[{_RATE}]))", "{{instance}}"
                ),
            ),
        ),
        Panel(
            "Candidates an hour",
            (Query(f"sum by (outcome) (increase(evergraft_worker_candidates_total{{{_WORKER}}}[1h]))", "{{outcome}}"),),
            note="Superseded: another worker took it over while this one seemed dead.",
        ),
        Panel("Step and validation", quantiles("evergraft_worker_step_seconds", _WORKER, by="phase"), unit="s"),
        Panel(
            "Tasks of this graph by phase",
            (Query(f"sum by (phase) (evergraft_tasks{{{_OF_GRAPH}}})", "{{phase}}"),),
            stacked=True,
        ),
        Panel(
            "Accelerator hours an hour, by use",
            (
                Query(
                    f"sum by (use) (rate(evergraft_accelerator_seconds_total{{{_OF_GRAPH}}}[1h]))",
                    "{{use}}",
                ),
            ),
        ),
        Panel(
            "Oldest unsaved work",
            (Query(f"max by (instance) (evergraft_worker_state_age_seconds{{{_WORKER}}})", "{{instance}}"),),
            unit="s",
            note="What a worker would lose if it died now.",
        ),
    )


def _waits() -> tuple[Panel, ...]:
    def share(title: str, what: str, note: str) -> Panel:
        query = Query(
            f"sum by (instance) (rate(evergraft_worker_{what}_seconds_total{{{_WORKER}}}[{_RATE}]))", "{{instance}}"
        )
        return Panel(title, (query,), unit="percentunit", width=12, note=note)

    return (
        share(
            "Share of time waiting for data",
            "data_wait",
            "Steadily above 10 %: the data are slower than the device. Shares of a pod's devices add up.",
        ),
        share("Share of time without a candidate", "idle", "More workers than candidates: fewer replicas would do."),
    )


def _store() -> tuple[Panel, ...]:
    return (
        Panel(
            "Store operations a second",
            (
                Query(
                    f"sum by (op, outcome) (rate(evergraft_store_requests_total{{{_WORKER}}}[{_RATE}])) > 0",
                    "{{op}} {{outcome}}",
                ),
            ),
        ),
        Panel("Store latency", quantiles("evergraft_store_request_duration_seconds", _WORKER, by="op"), unit="s"),
        Panel(
            "Store traffic",
            (Query(f"sum by (direction) (rate(evergraft_store_bytes_total{{{_WORKER}}}[{_RATE}]))", "{{direction}}"),),
            unit="Bps",
        ),
        Panel(
            "Failing store operations",
            (
                Query(
                    f'sum(rate(evergraft_store_requests_total{{{_WORKER}, outcome="error"}}[{_RATE}]))'
                    f" / sum(rate(evergraft_store_requests_total{{{_WORKER}}}[{_RATE}]))",
                    "share",
                ),
            ),
            unit="percentunit",
            width=12,
            bad=0.05,
        ),
        Panel(
            "Commit attempts an hour",
            (Query(f"sum by (outcome) (increase(evergraft_commit_attempts_total{{{_WORKER}}}[1h]))", "{{outcome}}"),),
            width=12,
            note="Lost: another commit was first, and it is tried on top of that. Unknown: settled by reading back.",
        ),
    )
