"""What makes a dataset unfit, as values: each message names the sample and the fix."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergraft.errors import DataError
from evergraft_trainer.data.refusals import (
    Sample,
    Unreadable,
    check_classes,
    check_unreadable,
    leave_out,
)

_RANK = {"train": 0, "validation": 1, "test": 2}


def _samples(*rows: tuple[str, str]) -> list[Sample]:
    """From (split, label) pairs; the key is split/label/number."""
    return [Sample(at, f"{split}/{label}/{at}", label, split) for at, (split, label) in enumerate(rows)]


_GOOD = [("train", "a"), ("train", "b"), ("validation", "a"), ("test", "b")]


def test_a_sound_dataset_passes() -> None:
    check_classes(_samples(*_GOOD), (), where="d")
    check_classes(_samples(*_GOOD[:3]), ("a", "b"), where="d")


@pytest.mark.parametrize(
    ("rows", "declared", "message"),
    [
        ([("train", "a"), ("validation", "a")], (), r"1 class \('a'\); a task needs at least 2"),
        ([], (), r"0 class \(none\)"),
        ([("train", "a"), ("train", "b")], (), r"no validation sample; check dataset\.splits\.validation"),
        ([("validation", "a"), ("validation", "b")], (), r"no train sample"),
        ([*_GOOD, ("test", "c")], (), r"label 'c' occurs only in test \(test/c/4\); add training samples"),
        ([*_GOOD, ("validation", "c")], (), r"label 'c' occurs only in validation"),
        (_GOOD, ("a", "b", "z"), r"class 'z' has no training sample"),
    ],
)
def test_classes_that_cannot_be_learned(rows: list[tuple[str, str]], declared: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_classes(_samples(*rows), declared, where="d")


def test_unreadable_samples_are_borne_up_to_the_limit() -> None:
    bad = [Unreadable(sample, "cut short") for sample in _samples(("train", "a"), ("train", "b"))]
    check_unreadable(bad, 200, limit=0.01, where="d")
    check_unreadable([], 0, limit=0, where="d")
    with pytest.raises(DataError, match=r"2 of 199 .*train/a/0: cut short.*maxBadFraction 0\.01; repair or remove"):
        check_unreadable(bad, 199, limit=0.01, where="d")
    with pytest.raises(DataError, match="1 of 10"):
        check_unreadable(bad[:1], 10, limit=0, where="d")


@given(st.lists(st.tuples(st.sampled_from(list(_RANK)), st.integers(0, 6)), max_size=40))
def test_of_an_image_in_two_splits_only_the_latest_split_keeps_it(rows: list[tuple[str, int]]) -> None:
    samples = _samples(*[(split, "a") for split, _ in rows])
    digests = [bytes([picture]) for _, picture in rows]
    dropped = {item.sample.position: item for item in leave_out(samples, digests, limit=1, where="d")}
    for here, there in product(range(len(rows)), repeat=2):
        later = digests[here] == digests[there] and _RANK[rows[there][0]] > _RANK[rows[here][0]]
        assert not later or here in dropped
    for position, item in dropped.items():
        original = next(sample for sample in samples if sample.key == item.copy_of)
        assert digests[original.position] == digests[position]
        assert _RANK[original.split] > _RANK[item.sample.split]
        assert original.position not in dropped


def test_too_many_copies_across_splits_are_refused() -> None:
    samples = _samples(*_GOOD, ("train", "b"))
    digests = [b"1", b"2", b"3", b"4", b"4"]
    assert len(leave_out(samples, digests, limit=0.2, where="d")) == 1
    with pytest.raises(
        DataError, match=r"1 of 5 samples lie in two splits \(train/b/4 = test/b/3\).*remove the copies"
    ):
        leave_out(samples, digests, limit=0.19, where="d")


def test_one_image_with_two_labels_across_splits_is_refused_whatever_the_limit() -> None:
    with pytest.raises(
        DataError, match=r"two labels across splits: train/a/0 is 'a' in train, test/b/3 is 'b' in test"
    ):
        leave_out(_samples(*_GOOD), [b"1", b"2", b"3", b"1"], limit=1, where="d")


def test_within_one_split_an_image_may_repeat_and_even_disagree() -> None:
    assert leave_out(_samples(*_GOOD), [b"1", b"1", b"2", b"3"], limit=0, where="d") == ()
