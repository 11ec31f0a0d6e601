"""The alert rules, one value each: what must be so, for how long, how bad it is, what to tell.

Every expression keeps a `namespace` label where there is one, so that an alert reaches whose it is. The runbook is the
section of docs/runbooks.md of the alert's name. Called by ``__main__``; tried with promtool in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

RUNBOOKS = "docs/runbooks.md"


@dataclass(frozen=True)
class Alert:
    """One rule. `wait` is how long `expr` must hold; `critical` wakes somebody, `warning` is for working hours."""

    name: str
    expr: str
    wait: str
    severity: Literal["critical", "warning"]
    summary: str
    description: str

    def rule(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.wait,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook": f"{RUNBOOKS}#{self.name.lower()}",
            },
        }


ALERTS = (
    Alert(
        "EvergraftNoLeader",
        "sum by (namespace) (evergraft_leader) < 1"
        # Of several installations one may be gone, and its series with it; the others would hide it from absent().
        " or (sum by (namespace) (max_over_time(evergraft_leader[1h])) unless sum by (namespace) (evergraft_leader))"
        " or absent(max_over_time(evergraft_leader[1h]))",
        "2m",
        "critical",
        "No Evergraft operator leads",
        "For 2 minutes no operator has held the lease, or none has answered: Tasks are neither started nor told of. "
        "Workers that run go on and commit by themselves.",
    ),
    Alert(
        "EvergraftTwoLeaders",
        "sum by (namespace) (evergraft_leader) > 1",
        "1m",
        "warning",
        "{{ $value }} Evergraft operators believe that they lead",
        "Names are deterministic and every write is preceded by a live read, so nothing is started twice; but a clock "
        "or the API server is not as it should be.",
    ),
    Alert(
        "EvergraftWatchStale",
        "max by (namespace, resource) (evergraft_watch_age_seconds) > 600",
        "5m",
        "warning",
        "Nothing heard of {{ $labels.resource }} for {{ $value | humanizeDuration }}",
        "No event arrived, and the list that is taken every 5 minutes failed or found what the watch had missed: the "
        "watch is dead, or the API server refuses or does not answer.",
    ),
    Alert(
        "EvergraftQueueBacklog",
        "histogram_quantile(0.99, sum by (namespace, le) (rate(evergraft_queue_wait_seconds_bucket[10m]))) > 60"
        " or max by (namespace) (min_over_time(evergraft_queue_depth[10m])) > 500",
        "15m",
        "warning",
        "The operator does not keep up",
        "Objects wait over a minute for a reconcile, or over 500 have waited for 10 minutes. Statuses lag behind what "
        "workers do.",
    ),
    Alert(
        "EvergraftTaskStalled",
        'sum by (namespace, graph) (evergraft_tasks{phase="Failed"}) > 0',
        "5m",
        "warning",
        "{{ $value }} Tasks of graph {{ $labels.graph }} in {{ $labels.namespace }} are stalled",
        "A person is needed: the condition Stalled of the Task says for what.",
    ),
    Alert(
        "EvergraftSearchNoProgress",
        "max by (namespace) (evergraft_searches_without_progress) > 0",
        "10m",
        "warning",
        "{{ $value }} searches have ready workers and tell nothing new",
        "Their workers run, but for 20 minutes no step, no candidate and no generation was told: they hang, or the "
        "operator cannot reach them.",
    ),
    Alert(
        "EvergraftStoreErrors",
        'sum by (namespace) (rate(evergraft_store_requests_total{outcome="error"}[10m]))'
        " / sum by (namespace) (rate(evergraft_store_requests_total[10m])) > 0.05",
        "10m",
        "warning",
        "{{ $value | humanizePercentage }} of store operations in {{ $labels.namespace }} fail",
        "Workers retry and, if that lasts, end with 75 and are started again; meanwhile they hold their devices.",
    ),
    Alert(
        "EvergraftCommitUnknown",
        'sum by (namespace) (increase(evergraft_commit_attempts_total{outcome="unknown"}[15m])) > 0'
        # Most commits come in a worker's last seconds, after its last scrape; the operator counts from its report.
        " or sum by (namespace)"
        ' (increase(evergraft_finished_worker_commit_attempts_total{outcome="unknown"}[15m])) > 0',
        "0m",
        "warning",
        "A worker in {{ $labels.namespace }} could not learn whether its commit landed",
        "The worker reads the log back and settles it by itself; often, it says that the store loses answers.",
    ),
    Alert(
        "EvergraftLostOver30Percent",
        'sum by (namespace) (increase(evergraft_accelerator_seconds_total{use="lost"}[6h]))'
        " / sum by (namespace) (increase(evergraft_accelerator_seconds_total[6h])) > 0.3"
        " and sum by (namespace) (increase(evergraft_accelerator_seconds_total[6h])) > 3600",
        "30m",
        "warning",
        "{{ $value | humanizePercentage }} of the accelerator time in {{ $labels.namespace }} is lost",
        "Over six hours, more than 30 % of what workers computed was thrown away by crashes and losses.",
    ),
    Alert(
        "EvergraftOOMRepeated",
        'sum by (namespace) (increase(evergraft_worker_failures_total{reason="OutOfMemory"}[1h])) > 2.5',
        "0m",
        "warning",
        "Workers in {{ $labels.namespace }} run out of memory again and again",
        "Three or more in an hour. A search that has had more than three failures of size stalls.",
    ),
    Alert(
        "EvergraftMaintenanceOverdue",
        "time() - max by (namespace, graph, duty) (evergraft_graph_maintenance_due_timestamp_seconds) > 21600",
        "15m",
        "warning",
        "Duty {{ $labels.duty }} of graph {{ $labels.graph }} is {{ $value | humanizeDuration }} overdue",
        "Without collection the store keeps what nobody needs; without verification damage is found late.",
    ),
    Alert(
        "EvergraftGraphVerifyFailed",
        "min by (namespace, graph) (evergraft_graph_verified) == 0",
        "0m",
        "critical",
        "Graph {{ $labels.graph }} is damaged",
        "The newest verification found that something stored is not what it should be. Do not run collection before "
        "it is mended.",
    ),
)


def rules() -> dict[str, Any]:
    """All of them: a rule file, and the spec of a PrometheusRule."""
    return {"groups": [{"name": "evergraft", "rules": [alert.rule() for alert in ALERTS]}]}
