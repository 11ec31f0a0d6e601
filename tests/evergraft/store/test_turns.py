"""Turns: alone nobody waits; in a crowd attempts spread out, the oldest first; what is believed is forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field

from evergraft.store.retry import Retry
from evergraft.store.turns import FORGOTTEN_S, MAX_CROWD, MAX_EXPECTED, Turns


@dataclass
class Clock:
    """Time that passes only in sleeps; `chance` is always the worst."""

    now_s: float = 100.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    def patience(self, cap_s: float = 60.0) -> Retry:
        return Retry(cap_s=cap_s, sleep=self.sleep, chance=lambda: 1.0)


def lose(turns: Turns, times: int) -> None:
    for _ in range(times):
        turns.note(landed=False, seconds=0.01)


def test_who_is_alone_never_waits() -> None:
    clock = Clock()
    turns = Turns(clock=clock)
    for _ in range(5):
        turns.wait(0, patience=clock.patience())
        turns.note(landed=True, seconds=0.01)
    assert clock.slept == []


def test_the_larger_the_crowd_the_longer_the_wait_and_the_older_the_shorter() -> None:
    clock = Clock()
    turns = Turns(clock=clock)
    lose(turns, 2)
    turns.wait(2, patience=clock.patience())
    lose(turns, 5)
    turns.wait(0, patience=clock.patience())
    turns.wait(7, patience=clock.patience())
    few, young, old = clock.slept
    assert few < old < young


def test_landing_takes_back_what_a_lost_race_made_of_the_crowd() -> None:
    turns = Turns(clock=Clock())
    lose(turns, 3)
    for _ in range(3):
        turns.note(landed=True, seconds=0.01)
    assert turns.crowd == 1.0
    lose(turns, 1000)
    assert turns.crowd == MAX_CROWD


def test_no_wait_is_longer_than_patience_allows_and_a_pause_forgets() -> None:
    clock = Clock()
    turns = Turns(clock=clock)
    lose(turns, 50)
    turns.wait(0, patience=clock.patience(cap_s=0.5))
    assert clock.slept == [0.5]
    clock.now_s += FORGOTTEN_S + 1.0
    turns.wait(0, patience=clock.patience())
    assert clock.slept == [0.5]


def test_others_commits_are_expected_at_the_rate_at_which_they_came() -> None:
    clock = Clock()
    turns = Turns(clock=clock)
    assert turns.expected() == 0
    for _ in range(40):
        turns.saw(10)
        clock.now_s += 1.0
    assert 8 <= turns.expected() <= 10
    clock.now_s += 0.9
    assert 17 <= turns.expected() <= 19
    clock.now_s += 10 * FORGOTTEN_S
    assert turns.expected() == 0
    turns.rate = 1e6
    turns.saw(0)
    clock.now_s += 1.0
    assert turns.expected() == MAX_EXPECTED
