"""A worker in this process: what becomes of memory that runs out, of time that is lost, and of its log."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from evergraft.cli import main
from evergraft.cli.worker_log import worker_log
from evergraft.errors import StoppedError
from evergraft.search.groups import Claimed
from evergraft.search.values import CandidatePlan, SlotRef, SlotResult
from evergraft.store.files import FileStore
from evergraft.testing.graphs import start_graph
from evergraft_trainer import worker
from evergraft_trainer.ledger import Ledger
from evergraft_trainer.testing.commands import task_file
from evergraft_trainer.trainer import TorchTrainer
from evergraft_trainer.worker import TimedTrainer


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before[0], before[1]


@pytest.mark.parametrize(
    "error",
    [torch.cuda.OutOfMemoryError("CUDA out of memory"), RuntimeError("RESOURCE_EXHAUSTED: hbm"), MemoryError()],
)
def test_memory_that_runs_out_anywhere_ends_with_66(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def exhausted(kind: str) -> Any:
        raise error

    monkeypatch.setattr(worker, "open_device", exhausted)
    start_graph(FileStore(tmp_path / "graph"))
    report = tmp_path / "report.json"
    graph = str(tmp_path / "graph")
    code = main(["worker", "--graph", graph, "--task", str(task_file(tmp_path, "x.npz")), "--report", str(report)])
    told = json.loads(report.read_bytes())
    assert (code, told["exitCode"], told["outcome"]) == (66, 66, "error")
    assert (told["task"], told["run"]) == ("default/pets", "i1-c1")
    assert "lower search.batchSize" in told["reason"]


def test_a_bug_is_a_crash_with_its_trace_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "open_device", cast("Callable[[str], Any]", lambda kind: 1 / 0))
    start_graph(FileStore(tmp_path / "graph"))
    report = tmp_path / "report.json"
    arguments = ["--task", str(task_file(tmp_path, "x.npz")), "--report", str(report)]
    with pytest.raises(ZeroDivisionError):
        main(["worker", "--graph", str(tmp_path / "graph"), *arguments])
    told = json.loads(report.read_bytes())
    assert (told["outcome"], told["exitCode"]) == ("crashed", 1)
    assert "ZeroDivisionError" in told["reason"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("end", "useful", "lost"),
    [
        (None, 4.0, 7.0),  # the second was taken over
        (StoppedError("asked"), 11.0, 0.0),
        (RuntimeError("bug"), 4.0, 7.0),
    ],
)
def test_time_is_lost_with_what_it_was_spent_on(end: Exception | None, useful: float, lost: float) -> None:
    """Two candidates share eight seconds; the first has its result then, the second goes on for three more."""
    clock = Clock()

    class Inner:
        def train(self, group: list[Claimed]) -> Iterator[Any]:
            clock.now += 8.0
            yield SlotResult.crashed(SlotRef(0, 0), claim=1)
            clock.now += 3.0
            if end is not None:
                raise end

    ledger = Ledger(clock=clock)
    timed = TimedTrainer(cast("TorchTrainer", Inner()), ledger)
    plan = cast("CandidatePlan", None)
    with contextlib.suppress(StoppedError, RuntimeError):
        list(timed.train([Claimed(SlotRef(0, slot), plan) for slot in (0, 1)]))
    assert ledger.totals() == {"useful": useful, "lost": lost}


def test_every_line_says_whose_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    emit = worker_log({"EVERGRAFT_TASK_UID": "u-1", "EVERGRAFT_ATTEMPT": "2", "HOME": "/tmp"})
    emit("search", {"task": "a/one", "search": "s1", "worker": "w1", "run": "i1-c1"})
    emit("step", {"task": "a/one", "samples": 8})
    emit("slot", {"task": "a/one", "generation": 0, "slot": 3})
    logging.getLogger("evergraft.store").warning("slow")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["search", "slot", "slow"]
    whose = {"task": "a/one", "uid": "u-1", "search": "s1", "attempt": "2", "worker": "w1"}
    assert all(whose.items() <= line.items() for line in lines)
    assert lines[1]["slot"] == 3
    assert lines[2]["logger"] == "evergraft.store"


def test_on_a_terminal_a_person_reads_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    worker_log({})("slot", {"task": "a/one", "generation": 0, "slot": 3})
    assert capsys.readouterr().err == "a/one: slot: generation 0, slot 3\n"
