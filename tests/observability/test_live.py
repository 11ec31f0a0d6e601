"""A real Prometheus scrapes a real worker and the operator's metrics of a fleet: every panel has data."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.observability.programs import free_port
from tests.observability.prometheus import Prometheus, prometheus
from tests.observability.queries import QUERIES, plain

from evergraft_operator.observability.boards import BOARDS

HERE = Path(__file__).resolve().parent
RULES = HERE.parents[1] / "charts/evergraft/files/rules/alerts.yaml"
TASK = """
apiVersion: evergraft.dev/v1alpha1
kind: Task
metadata: {name: pets}
spec:
  dataset: {url: data.npz, splits: {train: 'train[:60%]', validation: 'train[60%:]'}}
  search: {strategy: mu2net, parameters: {generations: 8, candidates: 4}, samples: 500000, batchSize: 8, validations: 8}
"""
ROOT = "{backbone: vit, config: {imageSize: 8, patchSize: 4, width: 12, depth: 1, heads: 3}, seed: 0}"

pytestmark = pytest.mark.slow


def start_worker(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """A real worker on a search that takes longer than the test."""
    numbers = np.random.default_rng(0)
    images = numbers.integers(0, 200, (80, 8, 8), dtype=np.uint8)
    np.savez(folder / "data.npz", train_images=images, train_labels=np.arange(80) % 2)
    (folder / "pets.yaml").write_text(TASK)
    (folder / "root.yaml").write_text(ROOT)
    evergraft = [sys.executable, "-m", "evergraft"]
    graph = str(folder / "graph")
    subprocess.run([*evergraft, "graph", "init", graph, "--root", str(folder / "root.yaml")], check=True, timeout=60)
    command = ["worker", "--graph", graph, "--task", str(folder / "pets.yaml"), "--status", f"127.0.0.1:{port}"]
    return subprocess.Popen([*evergraft, *command], stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def watched(prometheus_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, after it has seen both for a while."""
    folder = tmp_path_factory.mktemp("live")
    ports = free_port(), free_port()
    fleet = subprocess.Popen([sys.executable, str(HERE / "fleet_process.py"), str(ports[0]), "120"])
    worker = start_worker(folder, ports[1])
    try:
        with prometheus(prometheus_programs, folder, rules=RULES) as server:
            server.watch(
                {
                    f"127.0.0.1:{ports[0]}": {"namespace": "evergraft"},
                    f"127.0.0.1:{ports[1]}": {"namespace": "vision"},
                }
            )
            _wait_for_data(server)
            yield server
    finally:
        for process in (fleet, worker):
            process.terminate()
            process.wait(timeout=30)


def _wait_for_data(server: Prometheus) -> None:
    deadline = time.monotonic() + 90
    wanted = ("sum(increase(evergraft_worker_samples_total[10s])) > 0", "sum(evergraft_searches_finished_total) > 3")
    while not all(server.query(expr) for expr in wanted):
        assert time.monotonic() < deadline, server.up()
        time.sleep(1)
    time.sleep(5)


@pytest.mark.parametrize("panel", QUERIES)
def test_every_panel_has_data(watched: Prometheus, panel: str) -> None:
    assert watched.query(plain(QUERIES[panel], rate="10s")), plain(QUERIES[panel], rate="10s")


@pytest.mark.parametrize("name", BOARDS)
def test_every_variable_has_a_choice(watched: Prometheus, name: str) -> None:
    for variable in BOARDS[name]().variables:
        found = {item["metric"].get(variable.label, "") for item in watched.query(plain(variable.metric, rate="10s"))}
        assert found - {""}, variable


def test_labels_of_metrics_win_over_those_of_targets(watched: Prometheus) -> None:
    """The operator stands in namespace evergraft and speaks of Tasks in vision."""
    assert {item["metric"]["namespace"] for item in watched.query("evergraft_tasks")} == {"vision"}
    assert {item["metric"]["namespace"] for item in watched.query("evergraft_leader")} == {"evergraft"}


def test_the_rules_are_evaluated_and_nobody_is_woken(watched: Prometheus) -> None:
    woken = [alert for alert in watched.alerts() if alert["labels"]["severity"] == "critical"]
    assert woken == []
