"""Operator: its own health. For whoever was woken by an alert about it."""

from __future__ import annotations

from evergraft_operator.observability.panels import Board, Panel, Query, Row, Variable, quantiles

_OPERATOR = 'namespace=~"$namespace", instance=~"$instance"'
_RATE = "$__rate_interval"


def operator() -> Board:
    """The operator's own health: who leads, does it keep up, what does the API server say."""
    return Board(
        uid="evergraft-operator",
        title="Evergraft / Operator",
        note="The operator's processes.",
        variables=(
            Variable("namespace", "evergraft_leader", "namespace"),
            Variable("instance", 'evergraft_leader{namespace=~"$namespace"}', "instance"),
        ),
        rows=(Row("Work", _work()), Row("API server", _kube()), Row("Process", _process())),
    )


def _work() -> tuple[Panel, ...]:
    return (
        Panel(
            "Leaders",
            (Query(f"sum(evergraft_leader{{{_OPERATOR}}})", "leaders"),),
            kind="stat",
            width=4,
            bad=2,
            note="One is right.",
        ),
        Panel(
            "Reconciles a second",
            (
                Query(
                    f"sum by (outcome) (rate(evergraft_reconcile_total{{{_OPERATOR}}}[{_RATE}]))",
                    "{{outcome}}",
                ),
            ),
            width=10,
            stacked=True,
        ),
        Panel(
            "Duration of a reconcile", quantiles("evergraft_reconcile_duration_seconds", _OPERATOR), unit="s", width=10
        ),
        Panel(
            "Waiting for a reconcile",
            (Query(f"sum(evergraft_queue_depth{{{_OPERATOR}}})", "objects"),),
            width=12,
        ),
        Panel("Time in the queue", quantiles("evergraft_queue_wait_seconds", _OPERATOR), unit="s", width=12),
    )


def _kube() -> tuple[Panel, ...]:
    return (
        Panel(
            "Requests a second",
            (
                Query(
                    f"sum by (verb, resource) (rate(evergraft_kube_requests_total{{{_OPERATOR}}}[{_RATE}])) > 0",
                    "{{verb}} {{resource}}",
                ),
            ),
            width=6,
        ),
        Panel(
            "Refused or failed, a second",
            (
                Query(
                    "sum by (code, resource)"
                    f' (rate(evergraft_kube_requests_total{{{_OPERATOR}, code!~"2.."}}[{_RATE}])) > 0',
                    "{{code}} {{resource}}",
                ),
            ),
            width=6,
            note="404 and 409 happen in the course of things; 403 means missing rights, 429 throttling.",
        ),
        Panel(
            "Since anything was heard",
            (Query(f"max by (resource) (evergraft_watch_age_seconds{{{_OPERATOR}}})", "{{resource}}"),),
            unit="s",
            width=6,
            bad=600,
        ),
        Panel(
            "Objects pruned an hour",
            (Query(f"sum(increase(evergraft_cache_pruned_total{{{_OPERATOR}}}[1h]))", "pruned"),),
            width=6,
            note="They vanished while a watch was down; the list of every 5 minutes found out.",
        ),
    )


def _process() -> tuple[Panel, ...]:
    up = f"and on (instance) evergraft_leader{{{_OPERATOR}}}"
    return (
        Panel(
            "Lag of the event loop",
            quantiles("evergraft_event_loop_lag_seconds", _OPERATOR),
            unit="s",
            width=6,
            bad=1,
        ),
        Panel("Memory", (Query(f"process_resident_memory_bytes {up}", "{{instance}}"),), unit="bytes", width=6),
        Panel("Processors", (Query(f"rate(process_cpu_seconds_total[{_RATE}]) {up}", "{{instance}}"),), width=6),
        Panel("Version", (Query(f"sum by (version) (evergraft_build_info{{{_OPERATOR}}})", "{{version}}"),), width=6),
    )
