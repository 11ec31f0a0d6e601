"""``data.json``: what a search's dataset consists of, so that every worker sees the same bytes or stops.

Written by the first worker, once the data passed every check: every object with size and SHA-256 (and generation or
ETag where the store has one), labels, counts, each sample's split, what was unreadable or left out and why. A dataset
of more files or samples than one document can pin is refused. Read back from the store it is untrusted. Called by
``dataset``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evergraft import canonical
from evergraft.errors import DataError, FormatError, IntegrityError
from evergraft.graph.route import MISSHAPEN
from evergraft.search.folder import MAX_MANIFEST_BYTES
from evergraft_trainer.data.refusals import LeftOut, Sample, Unreadable
from evergraft_trainer.data.source import Object, Source
from evergraft_trainer.data.splits import SPLITS

MAX_BYTES = MAX_MANIFEST_BYTES - (1 << 10)
"""Of the document; the rest is for what the search's folder adds to it."""

NEEDED = ("train", "validation")
"""The splits that every dataset has."""

_OBJECT_BYTES = len('{"name":"","sha256":"","size":0},') + 64
_SAMPLE_BYTES = len('["",0],')


@dataclass(frozen=True)
class PinnedObject:
    """One object as it was: name, size in bytes, SHA-256, and the store's version of it ({} on file systems)."""

    name: str
    size: int
    sha256: str
    version: Mapping[str, str]


@dataclass(frozen=True)
class Pinned:
    """What a ``data.json`` says, read and checked. `samples` holds (key, label index) by split, in order."""

    format_name: str
    labels: tuple[str, ...]
    objects: tuple[PinnedObject, ...]
    samples: Mapping[str, tuple[tuple[str, int], ...]]


def document(
    *,
    url: str,
    format_name: str,
    labels: Sequence[str],
    source: Source,
    objects: Sequence[Object],
    samples: Sequence[Sample],
    shapes: Sequence[tuple[int, int, int]],
    unreadable: Sequence[Unreadable],
    left_out: Sequence[LeftOut],
) -> dict[str, Any]:
    """The JSON document; `samples` in the order that splits will have, `shapes` (H, W, C) of each."""
    numbers = {label: number for number, label in enumerate(labels)}
    return {
        "format": canonical.FORMAT,
        "url": url,
        "datasetFormat": format_name,
        "objects": [
            {"name": item.name, "size": item.size, "sha256": source.digests[item.name], **item.version}
            for item in objects
        ],
        "labels": list(labels),
        "counts": count(samples, labels),
        "images": _ranges(shapes),
        "samples": {
            split: [[sample.key, numbers[sample.label]] for sample in samples if sample.split == split]
            for split in SPLITS
        },
        "unreadable": [
            {"key": item.sample.key, "split": item.sample.split, "reason": item.reason} for item in unreadable
        ],
        "leftOut": [{"key": item.sample.key, "split": item.sample.split, "copyOf": item.copy_of} for item in left_out],
    }


def check_least(names: Sequence[str], samples: Sequence[Sample], *, where: str) -> None:
    """Refuse objects and samples whose document is sure to be too large, before anything is read of them.

    Raises:
        DataError: it is.
    """
    _check_bytes(least_bytes(names, samples), num_objects=len(names), num_samples=len(samples), where=where)


def least_bytes(names: Sequence[str], samples: Sequence[Sample]) -> int:
    """A lower bound of the document's bytes, close where there are many objects."""
    return sum(_OBJECT_BYTES + len(name) for name in names) + sum(_SAMPLE_BYTES + len(item.key) for item in samples)


def check_whole(value: Mapping[str, Any], *, where: str) -> None:
    """Refuse a document that could not be pinned.

    Raises:
        DataError: it is too large.
    """
    num_samples = sum(map(len, value["samples"].values()))
    _check_bytes(len(canonical.dumps(value)), num_objects=len(value["objects"]), num_samples=num_samples, where=where)


def _check_bytes(num_bytes: int, *, num_objects: int, num_samples: int, where: str) -> None:
    if num_bytes > MAX_BYTES:
        raise DataError(
            f"{where}: {num_objects:,} files and {num_samples:,} samples are too many to pin: data.json would have "
            f"{num_bytes:,} bytes, more than the {MAX_BYTES:,} it may have; store the images in Parquet or npz files, "
            "of which each is pinned whole, or take fewer by dataset.splits"
        )


def count(samples: Sequence[Sample], labels: Sequence[str]) -> dict[str, dict[str, int]]:
    """Samples by split and label; a split without samples is absent."""
    counted = Counter((sample.split, sample.label) for sample in samples)
    present = {sample.split for sample in samples}
    return {split: {label: counted[split, label] for label in labels} for split in SPLITS if split in present}


def parse(value: Mapping[str, Any], *, what: str = "data.json") -> Pinned:
    """Read a stored document, which messages call `what`.

    Raises:
        FormatError: written by a newer version.
        IntegrityError: not a ``data.json``.
    """
    written = value.get("format")
    if isinstance(written, int) and written > canonical.FORMAT:
        raise FormatError(canonical.newer(written, what=what))
    try:
        labels = tuple(str(label) for label in value["labels"])
        pinned = Pinned(
            format_name=str(value["datasetFormat"]),
            labels=labels,
            objects=tuple(_pinned_object(item) for item in value["objects"]),
            samples={
                split: tuple((str(key), int(number)) for key, number in value["samples"][split]) for split in SPLITS
            },
        )
    except MISSHAPEN as error:
        raise IntegrityError(f"{what}: not what this version writes: {type(error).__name__} {error}") from None
    if any(not 0 <= number < len(labels) for part in pinned.samples.values() for _, number in part):
        raise IntegrityError(f"{what}: a sample's label is not among the labels")
    empty = [split for split in NEEDED if not pinned.samples[split]]
    if empty:
        raise IntegrityError(f"{what}: no samples in the split {empty[0]}")
    return pinned


def hold(source: Source, objects: Sequence[PinnedObject]) -> None:
    """Compare what the source lists with what was pinned; later reads are held to the pinned SHA-256.

    Objects added since are no difference: the pinned samples decide what is read.

    Raises:
        DataError: an object is gone, or has another size or version.
    """
    for item in objects:
        here = source.stat(item.name)
        same = here.size == item.size and all(
            here.version.get(key, value) == value for key, value in item.version.items()
        )
        if not same:
            raise DataError(
                f"{source.where(item.name)}: {here.size:,} bytes, {dict(here.version) or 'no version'} where data.json "
                f"pinned {item.size:,} bytes, {dict(item.version) or 'no version'}; put the old file back, or raise "
                "the task's iteration to train on the new data"
            )
        source.digests[item.name] = item.sha256


def _pinned_object(item: Mapping[str, Any]) -> PinnedObject:
    version = {key: str(item[key]) for key in ("generation", "etag") if key in item}
    return PinnedObject(name=str(item["name"]), size=int(item["size"]), sha256=str(item["sha256"]), version=version)


def _ranges(shapes: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
    heights, widths, channels = zip(*shapes, strict=True)
    return {
        "height": [min(heights), max(heights)],
        "width": [min(widths), max(widths)],
        "channels": sorted(set(channels)),
    }
