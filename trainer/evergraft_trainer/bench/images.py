"""A built dataset as a value: images and class names of each split, their digest, the npz file that a Task reads.

Called by the builders of the tasks, which make them, and by ``datasets``, which keeps and checks them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
"""One image: H×W, or H×W×3."""

Classes: TypeAlias = Mapping[str, Sequence[Pixels]]
"""The images of each class of one split."""

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Images:
    """Three splits. A class is in `train`, and may be left out of one of the others."""

    train: Classes
    validation: Classes
    test: Classes

    def split(self, name: str) -> Classes:
        """The classes of a split by its name."""
        classes: Classes = getattr(self, name)
        return classes

    def count(self, name: str) -> int:
        """How many images a split has."""
        return sum(map(len, self.split(name).values()))


def digest(images: Images) -> str:
    """SHA-256 over splits, classes and pixels, classes in order of name."""
    total = hashlib.sha256()
    for split in SPLITS:
        classes = images.split(split)
        for label in sorted(classes):
            for pixels in classes[label]:
                total.update(f"{split}/{label} {pixels.shape}\n".encode())
                total.update(np.ascontiguousarray(pixels).tobytes())
    return total.hexdigest()


def write(images: Images, path: Path) -> None:
    """As one npz file: ``<split>_images`` uint8, ``<split>_labels`` int64, ``labels`` fixed-width text."""
    labels = sorted(images.train)
    arrays: dict[str, np.ndarray] = {"labels": np.array(labels)}
    for split in SPLITS:
        pairs = [(pixels, labels.index(label)) for label, items in images.split(split).items() for pixels in items]
        arrays[f"{split}_images"] = np.stack([pixels for pixels, _ in pairs])
        arrays[f"{split}_labels"] = np.array([number for _, number in pairs], dtype=np.int64)
    np.savez_compressed(path, allow_pickle=False, **arrays)
