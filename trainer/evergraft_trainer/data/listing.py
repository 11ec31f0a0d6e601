"""What a format finds in a source: samples by key, label and group, and a way to fetch each one's content.

The value every format returns and the rest of the package works on, whatever the files look like.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evergraft.errors import DataError
from evergraft_trainer.data.source import Source

MAX_LABEL_CHARS = 200


@dataclass(frozen=True)
class Listing:
    """Samples in the format's own order; nothing is decoded yet.

    `keys` are unique and stable; `groups` are the dataset's own splits ("" where it has none); `owners` the object
    each sample's content lies in; `files` objects that hold many samples, pinned whole. `fetch(i)` gives sample i's
    encoded bytes or its uint8 H×W×C pixels and may be called from any thread. `declared` are labels the dataset
    names whether or not a sample has them.
    """

    keys: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    owners: tuple[str, ...]
    fetch: Callable[[int], bytes | NDArray[np.uint8]]
    files: tuple[str, ...] = ()
    declared: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """One registered way to lay out a dataset. `matches` decides for ``format: Auto``; `read` may refuse."""

    name: str
    matches: Callable[[Source], bool]
    read: Callable[[Source], Listing]


def check_label(label: str, *, where: str) -> str:
    """`label` itself.

    Raises:
        DataError: it is empty, too long or not printable.
    """
    if not label or len(label) > MAX_LABEL_CHARS or not label.isprintable():
        raise DataError(f"{where}: label {label[:40]!r} is not 1…{MAX_LABEL_CHARS} printable characters; rename it")
    return label


def sort_labels(labels: set[str]) -> tuple[str, ...]:
    """Labels in their order in a route: by number if all are decimal integers, else by text."""
    if all(_is_decimal(label) for label in labels):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels))


def _is_decimal(label: str) -> bool:
    digits = label.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and str(int(label)) == label if len(digits) < 20 else False
