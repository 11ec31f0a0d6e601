"""What makes a dataset unfit, decided from values: classes, unreadable samples, the same image in two splits.

Each refusal names the file and what to do. Pure; called by ``dataset`` between the scan and the pinning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evergraft.errors import DataError

_SHOWN = 3


@dataclass(frozen=True)
class Sample:
    """One sample that a split uses: its position in the listing, key, label and split."""

    position: int
    key: str
    label: str
    split: str


@dataclass(frozen=True)
class Unreadable:
    """A sample that could not be decoded, and why."""

    sample: Sample
    reason: str


@dataclass(frozen=True)
class LeftOut:
    """A sample dropped because a later split holds the same image: `copy_of` is the key of that one."""

    sample: Sample
    copy_of: str


def check_classes(samples: Iterable[Sample], declared: Sequence[str], *, where: str) -> None:
    """Every label can be learned: two at least, each with a training sample; no split without samples.

    Raises:
        DataError: it cannot.
    """
    seen: dict[str, dict[str, str]] = {"train": {}, "validation": {}, "test": {}}
    for sample in samples:
        seen[sample.split].setdefault(sample.label, sample.key)
    labels = set(declared).union(*seen.values())
    if len(labels) < 2:
        raise DataError(f"{where}: {len(labels)} class ({_some(labels)}); a task needs at least 2, add another class")
    for split in ("train", "validation"):
        if not seen[split]:
            raise DataError(f"{where}: no {split} sample; check dataset.splits.{split}")
    for split in ("validation", "test"):
        extra = sorted(seen[split].keys() - seen["train"].keys())
        if extra:
            raise DataError(
                f"{where}: label {extra[0]!r} occurs only in {split} ({seen[split][extra[0]]}); "
                "add training samples of it or remove it"
            )
    missing = sorted(labels - seen["train"].keys())
    if missing:
        raise DataError(f"{where}: class {_some(missing)} has no training sample; add some or remove the class's name")


def check_unreadable(unreadable: Sequence[Unreadable], total: int, *, limit: float, where: str) -> None:
    """At most the share `limit` of `total` samples is unreadable.

    Raises:
        DataError: more are; the first few are named.
    """
    if len(unreadable) > limit * total:
        first = "; ".join(f"{item.sample.key}: {item.reason}" for item in unreadable[:_SHOWN])
        raise DataError(
            f"{where}: {len(unreadable)} of {total} samples are unreadable ({first}), more than "
            f"dataset.maxBadFraction {limit:g}; repair or remove them, or raise maxBadFraction"
        )


def leave_out(samples: Sequence[Sample], digests: Sequence[bytes], *, limit: float, where: str) -> tuple[LeftOut, ...]:
    """The copies to drop so that no image lies in two splits: training's first, then validation's.

    Raises:
        DataError: an image has two labels across splits, or more than the share `limit` would be dropped.
    """
    same: defaultdict[bytes, list[Sample]] = defaultdict(list)
    for sample, digest in zip(samples, digests, strict=True):
        same[digest].append(sample)
    dropped: list[LeftOut] = []
    for copies in same.values():
        if len({sample.split for sample in copies}) > 1:
            _check_labels(copies, where=where)
            dropped += _earlier_copies(copies)
    dropped.sort(key=lambda item: item.sample.position)
    if len(dropped) > limit * len(samples):
        first = "; ".join(f"{item.sample.key} = {item.copy_of}" for item in dropped[:_SHOWN])
        raise DataError(
            f"{where}: {len(dropped)} of {len(samples)} samples lie in two splits ({first}), more than "
            f"dataset.maxBadFraction {limit:g}; remove the copies, or raise maxBadFraction to leave them out"
        )
    return tuple(dropped)


def _check_labels(copies: Sequence[Sample], *, where: str) -> None:
    for sample in copies:
        other = next((c for c in copies if c.split != sample.split and c.label != sample.label), None)
        if other is not None:
            raise DataError(
                f"{where}: one image with two labels across splits: {sample.key} is {sample.label!r} in "
                f"{sample.split}, {other.key} is {other.label!r} in {other.split}; remove the wrong one"
            )


def _earlier_copies(copies: Sequence[Sample]) -> Iterable[LeftOut]:
    rank = {"train": 0, "validation": 1, "test": 2}
    kept = max(copies, key=lambda sample: rank[sample.split])
    return [LeftOut(sample, copy_of=kept.key) for sample in copies if sample.split != kept.split]


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    shown = ", ".join(map(repr, ordered[:_SHOWN]))
    return shown + (f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else "") if ordered else "none"
