"""What watches an installation, on a real one: Prometheus scrapes the operator and workers, every panel has data.

Debian's Prometheus cannot discover pods, so it is told their addresses by a file. With EVERGRAFT_PICTURES=FOLDER the
boards are drawn as they stood at the end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.absent import absent
from tests.cluster.scene import LONG, QUICK, SYSTEM, Object, Scene, Space
from tests.observability import pictures
from tests.observability.programs import ProgramsMissingError, programs
from tests.observability.prometheus import Prometheus, prometheus
from tests.observability.queries import QUERIES, plain

RULES = Path(__file__).resolve().parents[2] / "charts/evergraft/files/rules/alerts.yaml"
NO_DATA = {
    "fleet: Verified (1) or damaged (0) 0": "the first verification is due a day after a graph was made",
    "fleet: Since maintenance 0": "maintenance is due by the minute at the earliest, and may be under way",
    "operator: Refused or failed, a second 0": "nothing has to be refused",
}
"""Panels that may have nothing to show here, and why."""

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def space(scene: Scene) -> Iterator[Space]:
    """A graph with maintenance; one Task that is done, one that stalls, one that trains."""
    with scene.space("watched", maintenance={"schedule": "* * * * *", "verify": "Daily"}) as made:
        made.wait_graph()
        yield made


@pytest.fixture(scope="module")
def watched(space: Space, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, after it has seen a while of all that."""
    try:
        found = programs()
    except ProgramsMissingError as missing:
        absent(missing)
    with prometheus(found, tmp_path_factory.mktemp("prometheus"), rules=RULES, scrape_s=2.0) as server:
        began = time.monotonic()
        follow(server, space)
        space.task("done", search=QUICK)
        space.task("wrong", dataset={"url": f"{space.data}.missing", **space.access})
        space.task("long", search={**LONG, "strategy": "mu2net"}, timeouts={"search": "10m"})
        space.wait_training("long")
        space.wait_phase("done", "Succeeded", 180)
        space.wait_phase("wrong", "Failed", 180)
        deadline = time.monotonic() + 45
        while time.monotonic() < deadline:
            follow(server, space)
            time.sleep(2)
        yield server
        if folder := os.environ.get("EVERGRAFT_PICTURES"):
            pictures.main(
                server.url, (time.monotonic() - began) / 60, Path(folder), "three Tasks on a cluster of two nodes"
            )


def follow(server: Prometheus, space: Space) -> None:
    """Tell Prometheus where the operator's and the workers' pods are now."""
    targets = {address(pod, "metrics"): {"namespace": SYSTEM} for pod in space.scene.operator_pods()}
    running = [pod for pod in space.pods() if pod["status"].get("phase") == "Running"]
    targets |= {address(pod, "status"): {"namespace": space.name} for pod in running}
    server.watch(targets)


def address(pod: Object, port: str) -> str:
    """Host and port of a pod's named port."""
    ports = [item for container in pod["spec"]["containers"] for item in container.get("ports", [])]
    number = next(item["containerPort"] for item in ports if item["name"] == port)
    return f"{pod['status']['podIP']}:{number}"


@pytest.mark.parametrize("panel", QUERIES)
def test_every_panel_has_data(watched: Prometheus, panel: str) -> None:
    found = watched.query(plain(QUERIES[panel], rate="30s"))
    if not found and panel in NO_DATA:
        pytest.skip(NO_DATA[panel])
    assert found, plain(QUERIES[panel], rate="30s")


def test_figures_are_those_of_the_cluster(watched: Prometheus, space: Space) -> None:
    def value(expr: str) -> float:
        (series,) = watched.query(expr)
        return float(series["value"][1])

    assert value("sum(evergraft_leader)") == 1
    graph = f'graph="{space.name}/default"'
    assert value(f"sum(evergraft_tasks{{{graph}}})") == 3
    assert value(f'sum(evergraft_tasks{{{graph}, phase="Failed"}})') == 1
    assert value(f"max(evergraft_graph_version{{{graph}}})") == space.status("default", "modulegraphs")["version"]
    lost = f'evergraft_worker_failures_total{{namespace="{space.name}", reason="DataError"}}'
    assert value(f"sum({lost})") >= 1
    assert value("sum(evergraft_worker_samples_total)") > 0


def test_a_stall_is_told_and_nobody_is_woken(watched: Prometheus, space: Space) -> None:
    alerts = watched.alerts()
    stalled = [item["labels"] for item in alerts if item["labels"]["alertname"] == "EvergraftTaskStalled"]
    assert {item["namespace"] for item in stalled} >= {space.name}
    assert [item for item in alerts if item["labels"]["severity"] == "critical" and item["state"] == "firing"] == []


def test_nothing_exposed_names_a_task_or_a_pod(watched: Prometheus) -> None:
    """Labels of targets aside, series stay the same in number whatever runs."""
    labels = {label for series in watched.query('{__name__=~"evergraft_.+"}') for label in series["metric"]}
    assert labels & {"task", "pod", "search", "uid", "run"} == set()
