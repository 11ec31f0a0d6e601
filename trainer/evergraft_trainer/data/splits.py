"""Which sample belongs to which split: given by the dataset, by the spec, or by a stable hash of its key.

Pure functions of keys, labels and groups; no content is looked at, so every worker comes to the same answer, and a
sample keeps its split when others are added around it. Called by ``dataset`` before anything is decoded.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from evergraft.api.splits import SplitPart, parse_split
from evergraft.errors import DataError
from evergraft_trainer.data.listing import Listing

SPLITS: Final = ("train", "validation", "test")
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test",),
}


def assign(listing: Listing, given: Mapping[str, str | None]) -> tuple[str, ...]:
    """The split of each sample: "train", "validation", "test", or "" for one that none of them takes.

    - No split in `given` and one group: 80/10/10 of each class, by hash.
    - No split in `given` and several groups: those called train, validation (val, valid) and test.
    - Else what `given` says. A sample that two of them name goes to test before validation before training, so that
      ``train: train, validation: train[90%:]`` means what it looks like.
    - Training but no validation: a tenth of each class of training, by hash, becomes validation.

    Raises:
        DataError: an unknown group, or no training samples.
    """
    groups = sorted(set(listing.groups))
    parts = {split: _parse(text, field=split) for split, text in given.items() if text}
    everything = range(len(listing.keys))
    if not parts:
        if len(groups) == 1:
            return _default(listing, everything)
        parts = _named(groups)
    for split, part in parts.items():
        if part.name not in groups:
            raise DataError(
                f"dataset.splits.{split}: the dataset has no {part.name!r}; it has {_list(groups) or 'no named splits'}"
            )
    if "train" not in parts:
        raise DataError(f"dataset.splits.train: missing; the dataset has {_list(groups)}")
    chosen = [""] * len(listing.keys)
    for split in SPLITS:
        if split in parts:
            for position in _take(listing, parts[split]):
                chosen[position] = split
    if "validation" not in parts:
        _carve(listing, chosen)
    return tuple(chosen)


def bound(count: int, percent: int) -> int:
    """How many of a class's `count` samples come before `percent`: rounded down, but at least one above 0 %.

    So the first share of a class is never empty, and shares that meet at a bound neither overlap nor leave a gap.
    """
    return max(1, count * percent // 100) if percent > 0 and count > 0 else 0


def hash_order(key: str) -> bytes:
    """What samples are sorted by before they are shared out: SHA-256 of the key."""
    return hashlib.sha256(f"evergraft/split/{key}".encode()).digest()


def _parse(text: str, *, field: str) -> SplitPart:
    try:
        return parse_split(text)
    except ValueError as error:
        raise DataError(f"dataset.splits.{field}: {error}") from None


def _named(groups: Sequence[str]) -> dict[str, SplitPart]:
    parts = {}
    for split, aliases in _ALIASES.items():
        found = [alias for alias in aliases if alias in groups]
        if len(found) > 1:
            raise DataError(f"dataset.splits.{split}: the dataset has both {_list(found)}; say which")
        if found:
            parts[split] = SplitPart(name=found[0])
    if "train" not in parts:
        raise DataError(f"dataset.splits.train: none of {_list(groups)} is called train; say which to use")
    return parts


def _by_class(listing: Listing, positions: Iterable[int]) -> Iterable[list[int]]:
    """Positions of each class, in hash order."""
    classes: defaultdict[str, list[int]] = defaultdict(list)
    for position in positions:
        classes[listing.labels[position]].append(position)
    for members in classes.values():
        members.sort(key=lambda position: hash_order(listing.keys[position]))
    return classes.values()


def _take(listing: Listing, part: SplitPart) -> Iterable[int]:
    inside = (position for position, group in enumerate(listing.groups) if group == part.name)
    if (part.start, part.stop) == (0, 100):
        yield from inside
        return
    for members in _by_class(listing, inside):
        yield from members[bound(len(members), part.start) : bound(len(members), part.stop)]


def _default(listing: Listing, positions: Iterable[int]) -> tuple[str, ...]:
    """80/10/10 of each class; a class of two has one for validation, of three also one for test."""
    chosen = ["train"] * len(listing.keys)
    for members in _by_class(listing, positions):
        tenth = _tenth(len(members))
        for position in members[:tenth]:
            chosen[position] = "validation"
        if len(members) > 2:
            for position in members[tenth : 2 * tenth]:
                chosen[position] = "test"
    return tuple(chosen)


def _carve(listing: Listing, chosen: list[str]) -> None:
    training = (position for position, split in enumerate(chosen) if split == "train")
    for members in _by_class(listing, training):
        for position in members[: _tenth(len(members))]:
            chosen[position] = "validation"


def _tenth(count: int) -> int:
    """A tenth of a class, rounded to the nearest, at least one of two."""
    return max((count + 5) // 10, 1 if count > 1 else 0)


def _list(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names if name)
