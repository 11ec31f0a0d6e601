"""Seconds by use: shared by candidates side by side, lost where what came of them is thrown away."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergraft.search.values import SlotRef
from evergraft_trainer.ledger import Ledger

ONE, TWO = SlotRef(0, 0), SlotRef(0, 1)


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    return Ledger(clock=clock)


def test_a_result_is_useful_and_waiting_is_neither(ledger: Ledger, clock: Clock) -> None:
    clock.now += 50
    ledger.begin(ONE)
    clock.now += 10
    ledger.settle(ONE, counts=True)
    clock.now += 50
    assert ledger.totals() == {"useful": 10.0, "lost": 0.0}


def test_what_another_took_over_is_lost_whole(ledger: Ledger, clock: Clock) -> None:
    ledger.begin(ONE, TWO)
    clock.now += 10
    ledger.save(TWO)
    clock.now += 10
    ledger.settle(ONE, counts=True)
    clock.now += 4
    ledger.settle(TWO, counts=False)
    assert ledger.totals() == {"useful": 10.0, "lost": 14.0}


@pytest.mark.parametrize(("saved", "useful", "lost"), [(True, 14.0, 0.0), (False, 9.0, 5.0)])
def test_an_end_in_mid_training_keeps_what_is_saved(
    ledger: Ledger, clock: Clock, saved: bool, useful: float, lost: float
) -> None:
    ledger.begin(ONE)
    clock.now += 9
    ledger.save(ONE)
    clock.now += 5
    ledger.end(saved=saved)
    assert ledger.totals() == {"useful": useful, "lost": lost}


def test_what_is_under_way_counts_as_useful_for_now(ledger: Ledger, clock: Clock) -> None:
    ledger.begin(ONE)
    clock.now += 9
    assert ledger.totals() == {"useful": 9.0, "lost": 0.0}


@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "save", "good", "bad", "end", "crash"]), st.integers(0, 2)), max_size=30
    )
)
def test_every_second_of_training_is_counted_once(steps: list[tuple[str, int]]) -> None:
    clock, training, expected = Clock(), set[SlotRef](), 0.0
    ledger = Ledger(clock=clock)
    for what, slot in steps:
        ref = SlotRef(0, slot)
        match what:
            case "begin" if ref not in training:
                ledger.begin(ref)
                training.add(ref)
            case "save":
                ledger.save(ref)
            case "good" | "bad":
                ledger.settle(ref, counts=what == "good")
                training.discard(ref)
            case "end" | "crash":
                ledger.end(saved=what == "end")
                training.clear()
        clock.now += 3
        expected += 3 if training else 0
        totals = ledger.totals()
        assert totals["useful"] + totals["lost"] == pytest.approx(expected)
