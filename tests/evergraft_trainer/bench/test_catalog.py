"""The stream's tables: what ships is whole, and nothing that is tested is trained on anywhere."""

from __future__ import annotations

import re

import pytest

from evergraft_trainer.bench import catalog, datasets, pictures
from evergraft_trainer.bench.alphabets import ALPHABETS
from evergraft_trainer.bench.scripts import class_name

SUFFIXES = re.compile(r"(-|_)?(Regular|Bold|Italic|Medium|R|B|RI|RB)$|-medium$", re.IGNORECASE)


def family(face: str) -> str:
    """A font's family: its file name without the style."""
    return SUFFIXES.sub("", face).lower()


def test_there_are_at_least_24_tasks_and_every_one_has_a_digest() -> None:
    assert len(catalog.BUILDERS) >= 24
    assert set(datasets.recorded()) == set(catalog.BUILDERS)


@pytest.mark.parametrize("order", ["a", "b"])
def test_an_order_has_every_task_once(order: str) -> None:
    assert sorted(catalog.ORDERS[order]) == sorted(catalog.BUILDERS)


def test_the_orders_differ_in_what_comes_first_and_last() -> None:
    first, second = catalog.ORDERS["a"], catalog.ORDERS["b"]
    assert set(first[:3]).isdisjoint(second[:3])
    assert set(first[-3:]).isdisjoint(second[-3:])


def test_the_quick_subset_keeps_its_order() -> None:
    assert catalog.order_of("a", quick=True) == catalog.QUICK
    assert set(catalog.order_of("b", quick=True)) == set(catalog.QUICK)
    assert len(catalog.QUICK) == 6


def test_a_family_that_tests_trains_nowhere() -> None:
    tests = {family(face) for script in ALPHABETS.values() for face in script.test}
    others = {family(face) for script in ALPHABETS.values() for face in (*script.train, *script.validation)}
    assert tests & others == set()


def test_within_a_task_validation_is_of_other_families_than_training() -> None:
    for name, script in ALPHABETS.items():
        assert {family(face) for face in script.train}.isdisjoint(map(family, script.validation)), name


def test_fonts_that_the_root_saw_are_left_out() -> None:
    faces = [face for script in ALPHABETS.values() for face in script.faces()]
    assert [face for face in faces if face.startswith(("DejaVu", "STIX", "cmr", "cmb", "cms", "cmt"))] == []


def test_scripts_that_the_root_was_trained_on_are_left_out() -> None:
    from examples.roots.prepare import SIGNS

    written = {sign for script in ALPHABETS.values() if isinstance(script.letters, str) for sign in script.letters}
    ranges = [pair for script in ALPHABETS.values() if not isinstance(script.letters, str) for pair in script.letters]
    assert written.isdisjoint(SIGNS)
    assert [sign for sign in SIGNS if any(first <= ord(sign) <= last for first, last in ranges)] == []


def test_no_emoji_and_no_branch_is_in_two_tasks() -> None:
    emoji = [name for task in pictures.EMOJI.values() for name in task.subcategories]
    branches = [name for task in pictures.CLIP_ARTS.values() for name in task.branches]
    assert len(emoji) == len(set(emoji))
    assert len(branches) == len(set(branches))
    assert all(task.drawn != task.redrawn for task in pictures.EMOJI.values())


def test_a_class_is_named_in_plain_letters() -> None:
    assert class_name("क") == "devanagari-letter-ka"


@pytest.mark.parametrize(("one", "other"), [("spider_01.png", "spider_02.png"), ("Bear1_ganson.png", "bear_big.png")])
def test_drawings_of_one_name_stay_in_one_split(one: str, other: str) -> None:
    assert pictures.split_of(one) == pictures.split_of(other)


def test_drawings_fall_into_all_splits() -> None:
    from collections import Counter

    names = (f"{chr(97 + a)}{chr(97 + b)}_x.png" for a in range(26) for b in range(26))
    shares = Counter(map(pictures.split_of, names))
    assert 0.4 < shares["train"] / 676 < 0.6
    assert 0.25 < shares["test"] / 676 < 0.45
    assert shares["validation"] > 50
