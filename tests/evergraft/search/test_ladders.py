"""Ladders: the published rungs, one step at a time, and what a spec may change of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergraft.api.ladders import HYPERPARAMETERS
from evergraft.api.resolved import Hyperparameter
from evergraft.errors import SpecError
from evergraft.search.ladders import BUILT_IN, NAMES, OPTIONAL, Ladder, ladders_of, starts_of, value_of
from evergraft.search.rng import Rng

RATE = BUILT_IN["learningRate"]


class Fixed(Rng):
    """A stream whose every chance turns out as told."""

    def __init__(self, outcome: bool) -> None:
        super().__init__("fixed")
        self._outcome = outcome

    def chance(self, probability: float) -> bool:
        return self._outcome


def test_the_published_starts() -> None:
    assert {name: ladder.start for name, ladder in BUILT_IN.items()} == {
        "mutationRate": 0.2,
        "learningRate": 0.01,
        "warmupRatio": 0.05,
        "momentum": 0.9,
        "nesterov": False,
        "crop": True,
        "cropMinArea": 0.05,
        "cropMinAspect": 0.75,
        "flip": True,
        "brightness": 0.0,
        "contrast": 0.0,
        "saturation": 0.0,
        "hue": 0.0,
    }


def test_the_published_ends() -> None:
    ends = {name: (ladder.values[0], ladder.values[-1]) for name, ladder in BUILT_IN.items()}
    assert ends["learningRate"] == (1e-4, 0.5)
    assert ends["mutationRate"] == (0.1, 0.3)
    assert ends["warmupRatio"] == (0.01, 0.4)
    assert ends["momentum"] == (0.5, 0.99)
    assert ends["cropMinArea"] == (0.01, 1.0)
    assert ends["cropMinAspect"] == (0.25, 1.0)
    assert ends["hue"] == (0.0, 0.2)


@pytest.mark.parametrize("ladder", BUILT_IN.values(), ids=lambda ladder: ladder.name)
def test_every_built_in_ladder_is_in_order_and_legal_in_a_spec(ladder: Ladder) -> None:
    assert list(ladder.values) == sorted(ladder.values)
    assert ladder.start in ladder.values
    allowed = HYPERPARAMETERS[ladder.name]
    assert all(isinstance(value, bool) or allowed.low <= float(value) <= allowed.high for value in ladder.values)


def test_specs_may_name_exactly_the_known_hyperparameters() -> None:
    assert set(NAMES) == set(HYPERPARAMETERS)


def test_learning_rates_go_in_1_2_5_steps() -> None:
    mantissas = {round(float(value) / 10 ** math.floor(math.log10(float(value)) + 1e-9), 6) for value in RATE.values}
    assert mantissas == {1, 2, 5}


def test_a_step_is_one_rung() -> None:
    assert RATE.step(0.01, Fixed(True)) == 0.02
    assert RATE.step(0.01, Fixed(False)) == 0.005


def test_a_step_is_clamped_at_the_ends() -> None:
    assert RATE.step(0.5, Fixed(True)) == 0.5
    assert RATE.step(1e-4, Fixed(False)) == 1e-4


def test_a_switch_steps_up_to_on() -> None:
    assert BUILT_IN["crop"].step(False, Fixed(True)) is True
    assert BUILT_IN["crop"].step(True, Fixed(True)) is True


def test_up_and_down_are_equally_likely() -> None:
    rng = Rng("steps")
    ups = sum(RATE.step(0.01, rng) == 0.02 for _ in range(2000))
    assert 900 < ups < 1100


@given(st.sampled_from(sorted(BUILT_IN)), st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()))
def test_whatever_is_inherited_lands_on_the_ladder(name: str, value: object) -> None:
    ladder = BUILT_IN[name]
    assert any(ladder.place(value) is rung for rung in ladder.values)
    assert ladder.step(value, Rng("any")) in ladder.values


def test_an_inherited_value_lands_on_the_nearest_rung_the_lower_of_two() -> None:
    assert RATE.place(0.0011) == 0.001
    assert RATE.place(7) == 0.5
    assert Ladder("n", "shape", 2, (2, 4)).place(3) == 2


def test_a_switch_is_no_number() -> None:
    assert BUILT_IN["warmupRatio"].place(True) == 0.05
    assert BUILT_IN["crop"].place(0) is True


def test_nothing_inherited_gives_the_start() -> None:
    assert value_of(RATE, {}) == 0.01
    assert value_of(RATE, {"learningRate": 0.2}) == 0.2


def test_a_spec_replaces_a_ladder() -> None:
    ladders = ladders_of([Hyperparameter(name="learningRate", start=0.003, values=(0.001, 0.003))])
    assert ladders["learningRate"] == Ladder("learningRate", "optimizer", 0.003, (0.001, 0.003))
    assert ladders["momentum"] == BUILT_IN["momentum"]


def test_a_start_alone_keeps_the_rungs_or_fixes_the_value() -> None:
    ladders = ladders_of([Hyperparameter(name="learningRate", start=0.05), Hyperparameter(name="momentum", start=0.93)])
    assert ladders["learningRate"].values == RATE.values
    assert ladders["learningRate"].start == 0.05
    assert ladders["momentum"].values == (0.93,)


def test_optional_ladders_are_off_until_the_spec_names_them() -> None:
    assert not set(ladders_of([])) & set(OPTIONAL)
    ladders = ladders_of([Hyperparameter(name="adapterWidth", start=64)])
    assert ladders["adapterWidth"].values == (8, 16, 32, 64, 128)


def test_the_order_of_mutation_does_not_follow_the_spec() -> None:
    items = [Hyperparameter(name="schedule", start="cosine"), Hyperparameter(name="momentum", start=0.9)]
    assert list(ladders_of(items)) == list(ladders_of(reversed(items)))


def test_starts_are_only_those_of_the_spec() -> None:
    assert starts_of([Hyperparameter(name="learningRate", start=0.003)]) == {"learningRate": 0.003}


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"name": "learningrate", "start": 0.1}], r"hyperparameters\[0\]\.name: unknown .* did you mean learningRate"),
        ([{"name": "zzz", "start": 0.1}], "allowed: mutationRate, learningRate"),
        ([{"name": "hue", "start": 0.1}] * 2, r"hyperparameters\[1\]\.name: hue stands twice"),
        (
            [{"name": "hue", "start": 0.3, "values": (0.1, 0.2)}],
            r"\[0\]\.start: 0.3 is none of its values \(0.1, 0.2\)",
        ),
    ],
)
def test_what_a_spec_may_not_say(items: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ladders_of([Hyperparameter(**item) for item in items])
