"""Splits: disjoint, stable, stratified, and what expressions mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergraft.errors import DataError
from evergraft_trainer.data.listing import Listing, sort_labels
from evergraft_trainer.data.splits import assign, bound


def _listing(labels: Sequence[str], groups: Sequence[str] | None = None, *, prefix: str = "k") -> Listing:
    names = tuple(f"{prefix}/{number}" for number in range(len(labels)))
    return Listing(
        keys=names, labels=tuple(labels), groups=tuple(groups or [""] * len(labels)), owners=names, fetch=_never
    )


def _never(position: int) -> bytes:
    raise AssertionError(f"splits looked at the content of sample {position}")


_LABELS = st.lists(st.sampled_from("abc"), min_size=1, max_size=80)


@given(_LABELS)
def test_by_default_each_class_is_shared_out_80_10_10(labels: list[str]) -> None:
    chosen = assign(_listing(labels), {})
    for label, count in Counter(labels).items():
        parts = Counter(split for split, own in zip(chosen, labels, strict=True) if own == label)
        assert parts["train"] >= 1
        assert parts["validation"] >= (count > 1)
        assert parts["test"] >= (count > 2)
        assert abs(parts["validation"] - count / 10) <= 1
        assert abs(parts["test"] - count / 10) <= 1
        assert sum(parts.values()) == count


@given(_LABELS, st.randoms(use_true_random=False))
def test_the_split_of_a_sample_does_not_depend_on_the_order_of_listing(labels: list[str], random: object) -> None:
    listing = _listing(labels)
    order = list(range(len(labels)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = Listing(
        keys=tuple(listing.keys[i] for i in order), labels=tuple(labels[i] for i in order),
        groups=listing.groups, owners=listing.owners, fetch=_never,
    )  # fmt: skip
    one = dict(zip(listing.keys, assign(listing, {}), strict=True))
    assert one == dict(zip(shuffled.keys, assign(shuffled, {}), strict=True))


def test_the_hash_is_the_same_for_ever() -> None:
    chosen = assign(_listing(["a"] * 20), {})
    assert [number for number, split in enumerate(chosen) if split == "validation"] == [1, 12]
    assert [number for number, split in enumerate(chosen) if split == "test"] == [4, 14]


@given(_LABELS, st.integers(1, 99))
def test_parts_that_meet_neither_overlap_nor_leave_a_gap(labels: list[str], percent: int) -> None:
    listing = _listing(labels, ["all"] * len(labels))
    given_splits = {"train": f"all[:{percent}%]", "validation": f"all[{percent}%:]", "test": None}
    chosen = assign(listing, given_splits)
    for label, count in Counter(labels).items():
        parts = Counter(split for split, own in zip(chosen, labels, strict=True) if own == label)
        assert (parts["train"], parts["validation"]) == (bound(count, percent), count - bound(count, percent))
        assert parts["train"] >= 1


@given(st.integers(0, 1000), st.integers(0, 100), st.integers(0, 100))
def test_bounds_grow(count: int, one: int, two: int) -> None:
    low, high = sorted([one, two])
    assert 0 == bound(count, 0) <= bound(count, low) <= bound(count, high) <= bound(count, 100) == count


def test_a_part_named_twice_goes_to_the_later_split() -> None:
    listing = _listing(["a"] * 40, ["train"] * 30 + ["test"] * 10)
    chosen = assign(listing, {"train": "train", "validation": "train[90%:]", "test": "test"})
    assert Counter(chosen) == {"train": 27, "validation": 3, "test": 10}
    same = assign(listing, {"train": "train[:90%]", "validation": "train[90%:]", "test": "test"})
    assert chosen == same


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_named_groups_are_taken_as_given(name: str) -> None:
    groups = ["train"] * 4 + [name] * 2 + ["test"] * 2 + ["extra"] * 2
    chosen = assign(_listing(["a"] * 10, groups), {})
    assert chosen == ("train",) * 4 + ("validation",) * 2 + ("test",) * 2 + ("",) * 2


def test_without_validation_a_tenth_of_each_class_of_training_becomes_it() -> None:
    labels, groups = ["a", "b"] * 30, ["train"] * 40 + ["test"] * 20
    chosen = assign(_listing(labels, groups), {})
    counted = Counter(zip(labels, chosen, strict=True))
    assert counted["a", "validation"] == counted["b", "validation"] == 2
    assert counted["a", "train"] == counted["b", "train"] == 18
    assert chosen[40:] == ("test",) * 20
    assert assign(_listing(labels, groups), {"train": "train", "test": "test"}) == chosen


@pytest.mark.parametrize(
    ("groups", "given_splits", "message"),
    [
        (["x", "y"], {}, r"none of 'x', 'y' is called train"),
        (["train", "val", "valid"], {}, r"both 'val', 'valid'"),
        (["x", "y"], {"train": "z"}, r"splits\.train: the dataset has no 'z'; it has 'x', 'y'"),
        ([""], {"train": "z"}, r"it has no named splits"),
        (["x"], {"train": "x[90%:10%]"}, r"splits\.train: .*must grow"),
        (["x"], {"train": "x[90:]"}, r"splits\.train: .*is no split"),
        (["x"], {"validation": "x"}, r"splits\.train: missing"),
    ],
)
def test_refusals_name_the_field(groups: list[str], given_splits: dict[str, str | None], message: str) -> None:
    with pytest.raises(DataError, match=message):
        assign(_listing(["a"] * len(groups), groups), given_splits)


def test_labels_sort_by_number_if_all_are_numbers() -> None:
    assert sort_labels({"10", "9", "-1"}) == ("-1", "9", "10")
    assert sort_labels({"10", "9", "b"}) == ("10", "9", "b")
    assert sort_labels({"10", "09"}) == ("09", "10")
    assert sort_labels({"10", "٣"}) == ("10", "٣")
