"""Scores: accounted parameters by users, decays, and the same bits on every machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergraft.search.score import accounted_parameters, result_score, route_score, score
from evergraft.search.strategies import get
from evergraft.search.values import Generation, SlotRef
from evergraft.testing.views import made_child, made_result, made_root, made_view

ROOT = made_root()
ONE = made_child("a/one", ROOT, clones=["norm"])


def test_the_root_is_no_user_but_other_tasks_are() -> None:
    assert accounted_parameters(made_view([ROOT]), ROOT.layers) == 10 + 100 + 100 + 4
    assert accounted_parameters(made_view([ROOT, ONE]), ROOT.layers) == 5 + 50 + 50 + 4


def test_private_tasks_count_as_users_although_no_view_shows_them() -> None:
    hidden = replace(ONE, visibility="Private")
    assert accounted_parameters(made_view([ROOT, hidden]), ROOT.layers) == 5 + 50 + 50 + 4


def test_a_module_used_twice_in_a_route_counts_once() -> None:
    view = made_view([ROOT])
    twice = (*ROOT.layers, replace(ROOT.layers[1], name="again"))
    assert accounted_parameters(view, twice) == accounted_parameters(view, ROOT.layers)


def test_without_decays_the_score_is_the_quality_itself() -> None:
    assert score(made_view([ROOT]), ROOT.layers, quality=0.123456789, flops=10**9) == 0.123456789


def test_the_formula() -> None:
    view = made_view([ROOT], size_decay=0.95, compute_decay=0.9)
    # 214 accounted of 200, 3000 FLOPs of 1000.
    assert score(view, ROOT.layers, quality=0.8, flops=3000) == pytest.approx(0.8 * 0.95 ** (214 / 200) * 0.9**3)


def test_the_bits_of_a_score_are_fixed() -> None:
    view = made_view([ROOT], size_decay=0.95, compute_decay=0.9)
    assert score(view, ROOT.layers, quality=0.8, flops=2500).hex() == "0x1.29f0eebbe4ecep-1"


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 5000))
def test_decays_only_ever_lower_a_score(size: float, compute: float, flops: int) -> None:
    view = made_view([ROOT], size_decay=size, compute_decay=compute)
    assert 0 <= score(view, ROOT.layers, quality=0.5, flops=flops) <= 0.5


def test_a_diverged_candidate_scores_nothing_and_a_root_too() -> None:
    view = made_view([ROOT], samples=1000, parameters={"generations": 1, "candidates": 1})
    plan = get("mu2net").next(view)
    assert isinstance(plan, Generation)
    result = made_result(view, SlotRef(0, 0), plan.candidates[0], 0.9)
    assert result_score(view, result) == 0.9
    assert result_score(view, replace(result, diverged=64)) == 0
    assert result_score(view, replace(result, failed="three claims died")) == 0
    assert route_score(view, ROOT) == 0
