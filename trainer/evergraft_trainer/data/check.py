"""``evergraft data check URL``: every check of a dataset, and nothing else.

Called by the command line, which prints the report or the refusal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evergraft.api.resolved import ResolvedDataset
from evergraft_trainer.data.dataset import open_dataset


def check(spec: ResolvedDataset, *, storage_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the dataset at `spec.url` is, as JSON types; nothing is written.

    ``{url, format, labels, counts, samples, objects, bytes, images, unreadable, leftOut}``: `samples` a total by
    split, `images` the ranges of height, width and channels, `unreadable` and `leftOut` with key, split and reason.

    Raises:
        DataError: the dataset is unfit; the message names the file and the fix.
        PermissionDeniedError, StoreUnavailableError: it cannot be read.
    """
    document = open_dataset(spec, cache_bytes=0, storage_options=storage_options).manifest()
    return {
        "url": document["url"],
        "format": document["datasetFormat"],
        "labels": document["labels"],
        "counts": document["counts"],
        "samples": {split: sum(counts.values()) for split, counts in document["counts"].items()},
        "objects": len(document["objects"]),
        "bytes": sum(item["size"] for item in document["objects"]),
        "images": document["images"],
        "unreadable": document["unreadable"],
        "leftOut": document["leftOut"],
    }
