"""Opening a dataset: read, split, scan, refuse or pin; the entry to this package.

Called by the worker (the first one pins, the others hold to what it pinned), by ``data check`` and by the demo. The
order of the checks is from cheap to dear, so that a wrong folder is refused before anything is decoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergraft.api.resolved import ResolvedDataset
from evergraft.errors import DataError
from evergraft_trainer.data import formats, manifest
from evergraft_trainer.data.images import DecodeCache, Images
from evergraft_trainer.data.listing import Listing, sort_labels
from evergraft_trainer.data.refusals import (
    LeftOut,
    Sample,
    Unreadable,
    check_classes,
    check_unreadable,
    leave_out,
)
from evergraft_trainer.data.scan import Seen, scan
from evergraft_trainer.data.source import Source, open_source
from evergraft_trainer.data.splits import SPLITS, assign

DEFAULT_CACHE_BYTES = 1 << 30


@dataclass(frozen=True)
class Split:
    """One split in its pinned order (by key): `labels` int64 N, `positions` int64 N in the dataset's images."""

    name: str
    keys: tuple[str, ...]
    labels: NDArray[np.int64]
    positions: NDArray[np.int64]
    images: Images

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Sample `index` as uint8 H×W×C, C 1 or 3; shared, not to be written to.

        Raises:
            DataError: its bytes are not those that were pinned.
        """
        return self.images.image(int(self.positions[index]))


@dataclass(frozen=True)
class Dataset:
    """A dataset that passed every check. `labels` in the order of class indices."""

    spec: ResolvedDataset
    labels: tuple[str, ...]
    splits: Mapping[str, Split]
    document: Mapping[str, Any]

    def split(self, name: str) -> Split | None:
        """The split "train", "validation" or "test"; None if the dataset has no such split."""
        return self.splits.get(name)

    @property
    def train(self) -> Split:
        """The training split; every dataset has one."""
        return self.splits["train"]

    @property
    def validation(self) -> Split:
        """The validation split; every dataset has one."""
        return self.splits["validation"]

    def counts(self) -> dict[str, dict[str, int]]:
        """Samples by split and label."""
        return {
            name: dict(zip(self.labels, np.bincount(split.labels, minlength=len(self.labels)).tolist(), strict=True))
            for name, split in self.splits.items()
        }

    def manifest(self) -> dict[str, Any]:
        """What ``data.json`` holds."""
        return dict(self.document)


def open_dataset(
    spec: ResolvedDataset,
    *,
    pinned: Mapping[str, Any] | None = None,
    pinned_as: str = "data.json",
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    storage_options: Mapping[str, Any] | None = None,
) -> Dataset:
    """Open the dataset at `spec.url`.

    Without `pinned` everything is read, decoded and checked once, and ``Dataset.manifest()`` is what to pin. With
    `pinned`, a stored ``data.json`` that messages call `pinned_as`, its samples and splits stand; sizes and store
    versions are compared now, and every read is held to the pinned SHA-256. `cache_bytes` caps the decoded images kept
    in memory; `storage_options` are fields of ``StoreOptions`` (key, secret, token …), for this dataset alone.

    Raises:
        DataError: the data is unfit, or not what was pinned; the file and the fix are named.
        PermissionDeniedError, UserError: the credentials may not read it, or are missing.
        StoreUnavailableError: the source does not answer.
        FormatError, IntegrityError: `pinned` is no ``data.json`` this version reads.
    """
    source = open_source(spec.url, endpoint=spec.endpoint, storage_options=storage_options)
    if pinned is not None:
        return _reopen(spec, source, manifest.parse(pinned, what=pinned_as), pinned, cache_bytes)
    layout = formats.choose(spec.format, source)
    listing = layout.read(source)
    images = _images(source, listing, cache_bytes)
    samples = _split_up(spec, listing)
    check_classes(samples, listing.declared, where=spec.url)
    used = _used_objects(listing, samples)
    manifest.check_least(used, samples, where=spec.url)
    seen = scan(images, [sample.position for sample in samples], remote=source.remote)
    kept, unreadable, left_out = _refuse(spec, listing, samples, seen)
    shapes = {item.position: item.shape for item in seen}
    labels = sort_labels({sample.label for sample in kept})
    document = manifest.document(
        url=spec.url,
        format_name=layout.name,
        labels=labels,
        source=source,
        objects=[source.stat(name) for name in used],
        samples=kept,
        shapes=[shapes[sample.position] for sample in kept],
        unreadable=unreadable,
        left_out=left_out,
    )
    manifest.check_whole(document, where=spec.url)
    return Dataset(spec=spec, labels=labels, splits=_splits(kept, labels, images), document=document)


def _reopen(
    spec: ResolvedDataset, source: Source, pinned: manifest.Pinned, stored: Mapping[str, Any], cache_bytes: int
) -> Dataset:
    manifest.hold(source, pinned.objects)
    listing = formats.choose(pinned.format_name, source).read(source)
    positions = {key: position for position, key in enumerate(listing.keys)}
    names = {item.name for item in pinned.objects}
    samples = []
    for split in SPLITS:
        for key, number in pinned.samples[split]:
            position = positions.get(key)
            if position is None or listing.owners[position] not in names:
                raise DataError(f"{spec.url}: sample {key}, pinned in data.json, is not there; put it back")
            samples.append(Sample(position, key, pinned.labels[number], split))
    splits = _splits(samples, pinned.labels, _images(source, listing, cache_bytes))
    return Dataset(spec=spec, labels=pinned.labels, splits=splits, document=stored)


def _images(source: Source, listing: Listing, cache_bytes: int) -> Images:
    return Images(
        fetch=listing.fetch,
        where=lambda position: source.where(listing.keys[position]),
        cache=DecodeCache(limit_bytes=cache_bytes),
    )


def _split_up(spec: ResolvedDataset, listing: Listing) -> list[Sample]:
    """The samples that some split uses, by key."""
    if not listing.keys:
        raise DataError(f"{spec.url}: holds no images; add some to each class")
    given = {"train": spec.train, "validation": spec.validation, "test": spec.test}
    chosen = assign(listing, given)
    columns = zip(listing.keys, listing.labels, chosen, strict=True)
    samples = [Sample(position, key, label, split) for position, (key, label, split) in enumerate(columns) if split]
    return sorted(samples, key=lambda sample: sample.key)


def _refuse(
    spec: ResolvedDataset, listing: Listing, samples: Sequence[Sample], seen: Sequence[Seen]
) -> tuple[list[Sample], list[Unreadable], tuple[LeftOut, ...]]:
    """The samples that stay, those that cannot be read, and copies left out; or a refusal."""
    pairs = list(zip(samples, seen, strict=True))
    unreadable = [Unreadable(sample, item.unreadable) for sample, item in pairs if item.unreadable]
    check_unreadable(unreadable, len(samples), limit=spec.max_bad_fraction, where=spec.url)
    readable = [(sample, item.digest) for sample, item in pairs if not item.unreadable]
    left_out = leave_out(
        [sample for sample, _ in readable],
        [digest for _, digest in readable],
        limit=spec.max_bad_fraction,
        where=spec.url,
    )
    gone = {item.sample.position for item in left_out}
    kept = [sample for sample, _ in readable if sample.position not in gone]
    check_classes(kept, listing.declared, where=f"{spec.url}: without unreadable samples and copies")
    return kept, unreadable, left_out


def _used_objects(listing: Listing, samples: Sequence[Sample]) -> list[str]:
    return sorted({listing.owners[sample.position] for sample in samples}.union(listing.files))


def _splits(samples: Sequence[Sample], labels: Sequence[str], images: Images) -> dict[str, Split]:
    numbers = {label: number for number, label in enumerate(labels)}
    splits = {}
    for name in SPLITS:
        inside = [sample for sample in samples if sample.split == name]
        if inside:
            splits[name] = Split(
                name=name,
                keys=tuple(sample.key for sample in inside),
                labels=np.array([numbers[sample.label] for sample in inside], dtype=np.int64),
                positions=np.array([sample.position for sample in inside], dtype=np.int64),
                images=images,
            )
    return splits
