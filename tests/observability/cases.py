"""For every alert: samples at which it fires, and samples close to those at which it does not.

Series are written as promtool reads them, one value a minute (`0x9` repeats a zero nine times, `0+60x5` counts up).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OPERATOR = 'namespace="evergraft", instance="a"'
STANDBY = 'namespace="evergraft", instance="b"'
GRAPH = 'namespace="ml", graph="ml/default"'


@dataclass(frozen=True)
class Case:
    """`quiet` at `minute`, or firing once for each of `labels`."""

    name: str
    series: Mapping[str, str]
    minute: int
    labels: tuple[Mapping[str, str], ...] = ()


def fires(name: str, series: Mapping[str, str], *, minute: int, **labels: str) -> Case:
    return Case(name, series, minute, (labels,))


def quiet(name: str, series: Mapping[str, str], *, minute: int) -> Case:
    return Case(name, series, minute)


def leader(first: str, second: str) -> dict[str, str]:
    return {f"evergraft_leader{{{OPERATOR}}}": first, f"evergraft_leader{{{STANDBY}}}": second}


def waits(*, fast: str, slow: str) -> dict[str, str]:
    """Waits in the queue, counted up to 1 s and up to 300 s."""
    edges = {"1.0": fast, "60.0": fast, "300.0": slow, "+Inf": slow}
    return {f'evergraft_queue_wait_seconds_bucket{{{OPERATOR}, le="{edge}"}}': value for edge, value in edges.items()}


def store(errors: str, good: str) -> dict[str, str]:
    where = 'namespace="vision", instance="w", op="get"'
    return {
        f'evergraft_store_requests_total{{{where}, outcome="error"}}': errors,
        f'evergraft_store_requests_total{{{where}, outcome="ok"}}': good,
    }


def seconds(useful: str, lost: str) -> dict[str, str]:
    where = 'namespace="vision", graph="ml/default", resource="GPU", instance="a"'
    return {
        f'evergraft_accelerator_seconds_total{{{where}, use="useful"}}': useful,
        f'evergraft_accelerator_seconds_total{{{where}, use="lost"}}': lost,
    }


def one(name: str, labels: str, values: str) -> dict[str, str]:
    return {f"{name}{{{labels}}}": values}


def tasks(phase: str, values: str) -> dict[str, str]:
    return one("evergraft_tasks", f'namespace="vision", graph="ml/default", phase="{phase}"', values)


def commits(outcome: str, values: str) -> dict[str, str]:
    return one("evergraft_commit_attempts_total", f'namespace="vision", instance="w", outcome="{outcome}"', values)


def memory(values: str) -> dict[str, str]:
    return one("evergraft_worker_failures_total", 'namespace="vision", reason="OutOfMemory", instance="a"', values)


def due(values: str) -> dict[str, str]:
    return one("evergraft_graph_maintenance_due_timestamp_seconds", f'{GRAPH}, duty="collect"', values)


AGES = 'namespace="evergraft", instance="a", resource="jobs"'
SILENT = "evergraft_searches_without_progress"

CASES: Mapping[str, tuple[Case, ...]] = {
    "EvergraftNoLeader": (
        fires("both stand by", leader("1x3 0x9", "0x13"), minute=7, namespace="evergraft"),
        fires("nobody answers", {}, minute=3),
        fires(
            "one of two installations is gone",
            one("evergraft_leader", 'namespace="a"', "1x5 stale") | one("evergraft_leader", 'namespace="b"', "1x40"),
            minute=30,
            namespace="a",
        ),
        quiet("the other takes over", leader("1x5 0x9", "0x6 1x9"), minute=12),
        quiet("a change of leader", leader("1x5 0x9", "0x5 0 1x9"), minute=7),
    ),
    "EvergraftTwoLeaders": (
        fires("both lead", leader("1x9", "1x9"), minute=3, namespace="evergraft"),
        quiet("one leads", leader("1x9", "0x9"), minute=9),
        quiet(
            "each of two installations has one",
            one("evergraft_leader", 'namespace="a"', "1x9") | one("evergraft_leader", 'namespace="b"', "1x9"),
            minute=9,
        ),
    ),
    "EvergraftWatchStale": (
        fires(
            "nothing for 20 minutes",
            one("evergraft_watch_age_seconds", AGES, "0+60x20"),
            minute=17,
            namespace="evergraft",
            resource="jobs",
        ),
        quiet(
            "the list of every 5 minutes works", one("evergraft_watch_age_seconds", AGES, "0+60x9 0+60x9"), minute=18
        ),
    ),
    "EvergraftQueueBacklog": (
        fires("waits of minutes", waits(fast="0+10x40", slow="0+20x40"), minute=40, namespace="evergraft"),
        fires(
            "nothing is taken",
            one("evergraft_queue_depth", OPERATOR, "501x40") | one("evergraft_queue_depth", STANDBY, "0x40"),
            minute=40,
            namespace="evergraft",
        ),
        quiet("waits under a second", waits(fast="0+10x40", slow="0+10x40"), minute=40),
        quiet("a burst", one("evergraft_queue_depth", OPERATOR, "0x10 9000x7 0x30"), minute=40),
    ),
    "EvergraftTaskStalled": (
        fires("one is stalled", tasks("Failed", "1x9"), minute=6, namespace="vision", graph="ml/default"),
        quiet("one is queued", tasks("Queued", "1x9"), minute=9),
        quiet("it was mended", tasks("Failed", "1x3 0x9"), minute=9),
    ),
    "EvergraftSearchNoProgress": (
        fires("one tells nothing", one(SILENT, OPERATOR, "1x15"), minute=12, namespace="evergraft"),
        quiet("it went on", one(SILENT, OPERATOR, "1x8 0 1x8"), minute=15),
    ),
    "EvergraftStoreErrors": (
        fires("one in ten", store("0+10x40", "0+90x40"), minute=30, namespace="vision"),
        quiet("one in fifty", store("0+2x40", "0+98x40"), minute=30),
        quiet("nothing is asked", store("5x40", "5x40"), minute=30),
    ),
    "EvergraftCommitUnknown": (
        fires("one was", commits("unknown", "0x5 1x20"), minute=8, namespace="vision"),
        fires(
            "a worker was that has ended",
            commits("unknown", "0x4 stale")
            | one(
                "evergraft_finished_worker_commit_attempts_total", 'namespace="vision", outcome="unknown"', "0x5 1x20"
            ),
            minute=8,
            namespace="vision",
        ),
        quiet("others were first", commits("lost", "0+5x20"), minute=15),
        quiet("long ago", commits("unknown", "0 1x40"), minute=40),
    ),
    "EvergraftLostOver30Percent": (
        fires("two of five hours", seconds("0+36x400", "0+24x400"), minute=395, namespace="vision"),
        quiet("one of five", seconds("0+48x400", "0+12x400"), minute=395),
        quiet("little was spent at all", seconds("0+0.1x400", "0+0.9x400"), minute=395),
    ),
    "EvergraftOOMRepeated": (
        fires("three in an hour", memory("0x5 1x5 2x5 3x50"), minute=40, namespace="vision"),
        quiet("two in an hour", memory("0x5 1x5 2x60"), minute=40),
        quiet("three in three hours", memory("0x5 1x60 2x60 3x60"), minute=180),
    ),
    "EvergraftMaintenanceOverdue": (
        fires("due at the start", due("0x400"), minute=380, namespace="ml", graph="ml/default", duty="collect"),
        quiet("done every four hours", due("0x240 14400x240"), minute=480),
        quiet("six hours are given", due("0x400"), minute=365),
    ),
    "EvergraftGraphVerifyFailed": (
        fires(
            "damage", one("evergraft_graph_verified", GRAPH, "1x5 0x5"), minute=6, namespace="ml", graph="ml/default"
        ),
        quiet("all is well", one("evergraft_graph_verified", GRAPH, "1x9"), minute=9),
    ),
}
