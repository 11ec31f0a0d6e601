"""Workers with torch as real processes: killed, asked to stop, side by side in one search, watched over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evergraft.store import log
from evergraft.store.files import FileStore
from evergraft.store.verify import verify
from evergraft_trainer.testing.commands import task_file

HERE = Path(__file__).resolve().parent
ROOT = "{backbone: vit, config: {imageSize: 8, patchSize: 4, width: 12, depth: 1, heads: 3}, seed: 0}"
SEARCH = ", parameters: {generations: 2, candidates: 2}, samples: 256, batchSize: 8, validations: 2"
LONG = bool(os.environ.get("EVERGRAFT_TEST_LONG"))

pytestmark = pytest.mark.slow


def evergraft(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "evergraft", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return out


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return new_graph(tmp_path)


def new_graph(folder: Path) -> Path:
    """A graph and a Task over images of two classes, in `folder`."""
    numbers = np.random.default_rng(0)
    images = numbers.integers(0, 200, (80, 8, 8), dtype=np.uint8)
    images[::2, :, :4] += np.uint8(50)
    np.savez(folder / "data.npz", train_images=images, train_labels=np.arange(80) % 2)
    path = task_file(folder, "data.npz", dataset=", splits: {train: 'train[:60%]', validation: 'train[60%:]'}")
    text = path.read_text().replace(
        "strategy: finetune, samples: 64, batchSize: 8, validations: 2", "strategy: mu2net" + SEARCH
    )
    path.write_text(text)
    (folder / "root.yaml").write_text(ROOT)
    finish(evergraft("graph", "init", folder / "graph", "--root", folder / "root.yaml"))
    return folder / "graph"


def modules(graph: Path) -> list[str]:
    """The winner's modules, of a graph that is whole and has exactly one commit after the root's."""
    store = FileStore(graph)
    head = log.read_graph(store)
    assert head.version == 1
    assert verify(store).holds
    state = head.task("default/pets")
    assert state is not None
    assert state.route is not None
    return list(state.route.module_ids())


def worker(graph: Path, *flags: object) -> subprocess.Popen[str]:
    return evergraft("worker", "--graph", graph, "--task", graph.parent / "pets.yaml", *flags)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    graph = new_graph(tmp_path_factory.mktemp("calm"))
    finish(worker(graph))
    return modules(graph)


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("number", range(7, 87, 4) if LONG else (9, 26, 43, 60))
def test_killed_at_an_operation_the_next_worker_has_the_same_winner(
    graph: Path, undisturbed: list[str], number: int
) -> None:
    command = [sys.executable, str(HERE / "torch_worker.py"), str(number), "worker", "--graph", str(graph)]
    killed = subprocess.run([*command, "--task", str(graph.parent / "pets.yaml")], capture_output=True, check=False)
    assert killed.returncode in (-signal.SIGKILL, 0)
    finish(worker(graph))
    assert modules(graph) == undisturbed


def test_run_with_two_workers_has_the_winner_of_one(graph: Path, undisturbed: list[str]) -> None:
    process = evergraft("run", graph.parent / "pets.yaml", "--graph", graph, "--workers", 2, "--json")
    rows = json.loads(finish(process))
    assert rows[0]["outcome"] in ("committed", "already")
    assert modules(graph) == undisturbed


def test_one_pool_searches_several_tasks_at_once(graph: Path) -> None:
    """Both searches are open at one time, and both end on one graph."""
    folder = graph.parent / "tasks"
    folder.mkdir()
    text = (graph.parent / "pets.yaml").read_text().replace("url: data.npz", f"url: {graph.parent / 'data.npz'}")
    for name in ("cats", "dogs"):
        (folder / f"{name}.yaml").write_text(text.replace("name: pets", f"name: {name}"))
    rows = json.loads(finish(evergraft("run", folder, "--graph", graph, "--workers", 2, "--at-once", "--json")))
    assert {row["outcome"] for row in rows} <= {"committed", "already"}
    headers = [json.loads(path.read_text()) for path in graph.glob("searches/*/search.json")]
    assert sorted(header["task"] for header in headers) == ["default/cats", "default/dogs"]
    assert log.read_graph(FileStore(graph)).version == 2
    assert verify(FileStore(graph)).holds


def test_sigterm_saves_releases_and_exits_143_soon(graph: Path, undisturbed: list[str]) -> None:
    stopped = worker(graph)
    wait_for(lambda: list(graph.glob("searches/*/0000-*/claim-1.json")))
    began = time.monotonic()
    stopped.send_signal(signal.SIGTERM)
    finish(stopped, code=143)
    assert time.monotonic() - began < 10
    open_claims = [
        path
        for path in graph.glob("searches/*/*/claim-1.json")
        if not (path.parent / "result.json").exists()
        and not json.loads((path.parent / "beat-1.json").read_text())["released"]
    ]
    assert not open_claims
    finish(worker(graph))
    assert modules(graph) == undisturbed


def test_a_worker_tells_its_metrics_progress_and_end(graph: Path, tmp_path: Path) -> None:
    process = worker(graph, "--status", "127.0.0.1:0", "--report", tmp_path / "report.json")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    lines = [json.loads(line) for line in err.splitlines()]
    assert {line["event"] for line in lines} >= {"search", "data", "generation", "slot", "validation", "result", "done"}
    assert all(line["worker"] for line in lines)
    data = (tmp_path / "report.json").read_bytes()
    assert len(data) <= 4096
    report = json.loads(data)
    assert (report["outcome"], report["task"], report["version"], report["exitCode"]) == (
        "committed",
        "default/pets",
        1,
        0,
    )
    assert report["graph"]["tasks"] == 1
    assert report["counters"]["evergraft_worker_candidates_total,outcome=scored"] == 4


def test_metrics_and_progress_are_served_while_it_works(graph: Path) -> None:
    port = free_port()
    process = worker(graph, "--status", f"127.0.0.1:{port}")
    try:
        progress = json.loads(wait_for(lambda: read(f"http://127.0.0.1:{port}/progress")))
        assert isinstance(progress, dict)
        metrics = wait_for(lambda: read(f"http://127.0.0.1:{port}/metrics"))
        assert b"evergraft_store_requests_total" in metrics
    finally:
        finish(process)


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def read(url: str) -> bytes | None:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2) as answer:
            body: bytes = answer.read()
            return body
    except OSError:
        return None
