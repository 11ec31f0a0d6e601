"""Several devices in one pod: what each process sees, how their metrics and progress become one, how they end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from evergraft_trainer import devices
from evergraft_trainer.devices import Child, Family, pinned
from evergraft_trainer.relay import Relay, furthest
from evergraft_trainer.status_server import Served, status_server
from evergraft_trainer.sums import summed


def test_each_process_sees_one_device() -> None:
    assert pinned("cpu", 1, {}) == {}
    assert pinned("cuda", 1, {}) == {"CUDA_VISIBLE_DEVICES": "1"}
    assert pinned("cuda", 1, {"CUDA_VISIBLE_DEVICES": "GPU-a, GPU-b"}) == {"CUDA_VISIBLE_DEVICES": "GPU-b"}
    chips = [pinned("xla", number, {}) for number in range(4)]
    assert [chip["TPU_VISIBLE_CHIPS"] for chip in chips] == ["0", "1", "2", "3"]
    assert len({chip["TPU_PROCESS_PORT"] for chip in chips}) == 4
    assert {chip["TPU_PROCESS_BOUNDS"] for chip in chips} == {"1,1,1"}


def text_of(count: float, age: float, *steps: float) -> str:
    registry = CollectorRegistry()
    Counter("evergraft_worker_samples_total", "Samples", registry=registry).inc(count)
    Counter("evergraft_x_total", "X", ["op"], registry=registry).labels("get").inc(count)
    Gauge("evergraft_worker_state_age_seconds", "Age", registry=registry).set(age)
    seconds = Histogram("evergraft_worker_step_seconds", "Steps", ["phase"], buckets=[0.1, 1], registry=registry)
    for step in steps:
        seconds.labels("train").observe(step)
    return generate_latest(registry).decode()


def test_counters_and_histograms_are_added_up_gauges_are_the_highest() -> None:
    lines = summed([text_of(3, 9.0, 0.05, 0.5), text_of(4, 2.0, 5.0)]).decode().splitlines()
    assert "evergraft_worker_samples_total 7.0" in lines
    assert 'evergraft_x_total{op="get"} 7.0' in lines
    assert "evergraft_worker_state_age_seconds 9.0" in lines
    assert 'evergraft_worker_step_seconds_bucket{le="0.1",phase="train"} 1.0' in lines
    assert 'evergraft_worker_step_seconds_bucket{le="+Inf",phase="train"} 3.0' in lines
    assert 'evergraft_worker_step_seconds_sum{phase="train"} 5.55' in lines
    assert "# TYPE evergraft_worker_samples_total counter" in lines
    assert "# TYPE evergraft_worker_step_seconds histogram" in lines


def test_one_text_alone_stays_what_it_says() -> None:
    text = text_of(3, 9.0, 0.05)
    assert sorted(summed([text]).decode().splitlines()) == sorted(text.splitlines())
    assert summed([]) == b""


def test_the_progress_is_that_of_the_furthest() -> None:
    told = [
        {"worker": "a", "event": "step", "generation": 0, "candidatesDone": 2, "bestScore": 0.9},
        {"worker": "b", "event": "slot", "generation": 1, "candidatesDone": 4, "bestScore": 0.8, "baseVersion": 3},
    ]
    assert furthest(told) == {**told[1], "bestScore": 0.9}
    assert furthest([])["event"] == "starting"


def test_what_a_worker_said_last_stays_when_it_is_gone(tmp_path: Path) -> None:
    relay = Relay([tmp_path / "0.sock", tmp_path / "1.sock"])
    assert relay.progress()["event"] == "starting"
    assert relay.metrics() == b""
    served = Served(metrics=lambda: text_of(3, 1.0).encode(), progress=lambda: {"worker": "a", "candidatesDone": 1})
    with status_server(served, tmp_path / "0.sock"):
        assert relay.progress() == {"worker": "a", "candidatesDone": 1}
        assert b"evergraft_worker_samples_total 3.0" in relay.metrics()
    assert relay.progress() == {"worker": "a", "candidatesDone": 1}
    assert b"evergraft_worker_samples_total 3.0" in relay.metrics()


STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: {asked})
open(sys.argv[1], "w").close()
time.sleep({seconds})
sys.exit({code})
"""


def start(family: Family, folder: Path, *, seconds: float, code: int = 0, asked: str = "sys.exit(143)") -> None:
    number = len(family.children)
    ready = folder / f"ready{number}"
    source = STUBBORN.format(seconds=seconds, code=code, asked=asked)
    family.children.append(Child(number, folder, subprocess.Popen([sys.executable, "-c", source, str(ready)])))
    deadline = time.monotonic() + 20
    while not ready.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_when_one_fails_the_others_are_asked_to_stop(tmp_path: Path) -> None:
    family = Family()
    start(family, tmp_path, seconds=60)
    start(family, tmp_path, seconds=0.1, code=66)
    assert sorted(one.code for one in family.wait()) == [66, 143]


def test_when_one_has_seen_the_end_the_others_get_time_to_see_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = Family()
    start(family, tmp_path, seconds=1.0)
    start(family, tmp_path, seconds=0.1)
    assert [one.code for one in family.wait()] == [0, 0]
    monkeypatch.setattr(devices, "CLOSING_S", 0.2)
    slow = Family()
    start(slow, tmp_path, seconds=60)
    start(slow, tmp_path, seconds=0.1)
    assert sorted(one.code for one in slow.wait()) == [0, 143]


def test_one_that_does_not_stop_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "CLOSING_S", 0.1)
    monkeypatch.setattr(devices, "STOP_S", 0.3)
    family = Family()
    start(family, tmp_path, seconds=60, asked="None")
    start(family, tmp_path, seconds=0.1, code=1)
    assert sorted(one.code for one in family.wait()) == [1, 128 + signal.SIGKILL]


def test_a_request_to_stop_reaches_all(tmp_path: Path) -> None:
    family = Family()
    for _ in range(2):
        start(family, tmp_path, seconds=60)
    threading.Timer(0.1, family.ask).start()
    assert [one.code for one in family.wait()] == [143, 143]
