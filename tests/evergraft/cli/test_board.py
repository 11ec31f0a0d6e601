"""The live view's rows from events, with a clock of the test's own."""

from __future__ import annotations

from evergraft.cli.board import Board


def test_a_row_counts_the_samples_of_all_slots_once() -> None:
    board = Board()
    board.see("search", {"task": "a/b", "samples": 1000}, now=0.0)
    board.see("generation", {"task": "a/b", "generation": 0, "candidates": 2}, now=0.0)
    board.see("step", {"task": "a/b", "generation": 0, "slot": 0, "samples": 100}, now=1.0)
    board.see("step", {"task": "a/b", "generation": 0, "slot": 1, "samples": 50, "worker": 1}, now=1.5)
    row = board.see("step", {"task": "a/b", "generation": 0, "slot": 0, "samples": 200}, now=2.0)
    assert row is not None
    assert row.samples == 250
    assert 50 < row.rate <= 150
    left = row.left_s()
    assert left is not None
    assert left == (1000 - 250) / row.rate


def test_a_row_tells_generation_slots_and_the_best_quality() -> None:
    board = Board()
    board.see("search", {"task": "a/b", "samples": 1000}, now=0.0)
    board.see("generation", {"task": "a/b", "generation": 1, "candidates": 4}, now=0.0)
    board.see("result", {"task": "a/b", "generation": 1, "slot": 0, "quality": 0.75}, now=1.0)
    row = board.see("result", {"task": "a/b", "generation": 1, "slot": 1, "quality": 0.5}, now=1.0)
    assert row is not None
    assert row.detail() == "generation 2, 2/4 slots, best 0.7500"
    row = board.see("done", {"task": "a/b", "outcome": "committed", "reason": "best", "seconds": 1.0}, now=2.0)
    assert row is not None
    assert (row.detail(), row.left_s()) == ("committed, quality 0.7500", None)


def test_what_belongs_to_no_task_changes_no_row() -> None:
    board = Board()
    assert board.see("said", {"worker": 1, "line": "hello"}, now=0.0) is None
    assert board.see("step", {"task": "x/y", "samples": 1}, now=0.0) is None
