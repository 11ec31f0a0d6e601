"""The thread of beats: called at intervals, several at once, never after the end, and gone when nobody wants it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from evergraft.search import pulse
from evergraft.search.pulse import Pulse


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_each_is_called_again_and_again_until_it_stops() -> None:
    beats = Pulse()
    slow: list[float] = []
    fast: list[float] = []
    first = beats.start(lambda: slow.append(0), every_s=300)
    second = beats.start(lambda: fast.append(0), every_s=0.002)
    eventually(lambda: len(fast) > 3)
    beats.stop(second)
    count = len(fast)
    third = beats.start(lambda: slow.append(0), every_s=0.002)
    eventually(lambda: len(slow) > 2)
    beats.stop(first)
    beats.stop(third)
    assert len(fast) == count


def test_the_end_waits_for_a_call_that_goes_on() -> None:
    beats = Pulse()
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        began.set()
        assert go_on.wait(20)
        ended.set()

    number = beats.start(call, every_s=0.001)
    assert began.wait(20)
    threading.Timer(0.05, go_on.set).start()
    beats.stop(number)
    assert ended.is_set()


def test_a_call_that_fails_takes_no_other_along(caplog: pytest.LogCaptureFixture) -> None:
    beats = Pulse()
    called: list[int] = []
    numbers = [
        beats.start(lambda: called.append(1 // 0), every_s=0.002),
        beats.start(lambda: called.append(1), every_s=0.002),
    ]
    eventually(lambda: len(called) > 3)
    for number in numbers:
        beats.stop(number)
    assert "a beat failed" in caplog.text


def test_the_thread_ends_when_idle_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "LONGEST_SLEEP_S", 0.01)
    beats = Pulse()
    called: list[int] = []
    for times in (1, 2):
        number = beats.start(lambda: called.append(1), every_s=0.001)
        eventually(lambda times=times: len(called) >= times)  # type: ignore[misc]
        beats.stop(number)
        eventually(lambda: beats._thread is None)
