"""Writes prepared datasets as a user's own would lie on disk, once, and tells their content by digests.

The preparation scripts of the demo and of its root call it. A dataset is written beside its place and then renamed,
so an interrupted run leaves nothing half-made; a marker holds what it was made from, so a second run is instant.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, features

Images: TypeAlias = Mapping[str, Mapping[str, Sequence[Image.Image]]]
"""Split to class to its 8-bit grey images, all of one size."""

PACKAGES = ("matplotlib", "mlxtend", "numpy", "pillow", "scikit-learn")
MARKER = ".prepared.json"


@dataclass(frozen=True)
class Dataset:
    """A dataset that can be made: its name, how its images come about, how they are stored."""

    name: str
    make: Callable[[], Images]
    write: Callable[[Images, Path], None]


def prepare(datasets: Sequence[Dataset], folder: Path, *, sources: Sequence[Path], expected: Path) -> None:
    """Make every dataset under the folder, unless it is there already, made from these very sources.

    A digest other than the one in `expected` is a warning: another version of a font renderer draws other pixels,
    and the tasks are as good with them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / MARKER
    recipe = _recipe(sources)
    if _already_made(marker, recipe, folder, datasets):
        print(f"{folder}: {', '.join(dataset.name for dataset in datasets)} are already prepared")
        return
    marker.unlink(missing_ok=True)
    digests = {}
    for dataset in datasets:
        images = dataset.make()
        _replace(dataset, images, folder)
        digests[dataset.name] = digest(images)
        print(f"{folder / dataset.name}: {summary(images)}", flush=True)
    _warn_of_others(digests, read_digests(expected), expected)
    marker.write_text(json.dumps({"recipe": recipe, "digests": digests}, indent=2) + "\n")


def write_folder(images: Images, path: Path) -> None:
    """As an image folder: ``<split>/<class>/<number>.png``."""
    for split, classes in images.items():
        for label, items in classes.items():
            folder = path / split / label
            folder.mkdir(parents=True)
            for number, image in enumerate(items):
                image.save(folder / f"{number:04d}.png")


def write_npz(images: Images, path: Path) -> None:
    """As one npz file, ``data.npz``: ``<split>_images`` N×H×W uint8, ``<split>_labels`` int64, ``labels`` text."""
    path.mkdir(parents=True)
    labels = sorted({label for classes in images.values() for label in classes})
    arrays: dict[str, np.ndarray] = {"labels": np.array(labels)}
    for split, classes in images.items():
        pairs = [(np.asarray(image), labels.index(label)) for label, items in classes.items() for image in items]
        arrays[f"{split}_images"] = np.stack([pixels for pixels, _ in pairs])
        arrays[f"{split}_labels"] = np.array([number for _, number in pairs], dtype=np.int64)
    np.savez_compressed(path / "data.npz", allow_pickle=False, **arrays)


def digest(images: Images) -> str:
    """SHA-256 over splits, classes and decoded pixels, classes in order of name: the same however they are stored."""
    total = hashlib.sha256()
    for split in sorted(images):
        for label in sorted(images[split]):
            for image in images[split][label]:
                total.update(f"{split}/{label} {image.width}x{image.height}\n".encode())
                total.update(image.tobytes())
    return total.hexdigest()


def summary(images: Images) -> str:
    """One line: how many classes, how many images in each split."""
    counts = ", ".join(f"{sum(map(len, classes.values()))} {split}" for split, classes in images.items())
    return f"{len(images['train'])} classes; {counts}"


def read_digests(path: Path) -> Mapping[str, str]:
    """Name to digest, from lines ``<digest>  <name>``; lines that begin with # are remarks."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: value for value, name in (line.split() for line in lines if line and not line.startswith("#"))}


def versions() -> str:
    """The libraries that the pixels depend on, in one line."""
    named = [f"{package} {version(package)}" for package in PACKAGES]
    return ", ".join([*named, f"FreeType {features.version_module('freetype2')}"])


def _recipe(sources: Sequence[Path]) -> str:
    total = hashlib.sha256(versions().encode())
    for source in (Path(__file__), *sources):
        total.update(source.read_bytes())
    return total.hexdigest()


def _already_made(marker: Path, recipe: str, folder: Path, datasets: Sequence[Dataset]) -> bool:
    if not marker.exists() or not all((folder / dataset.name).is_dir() for dataset in datasets):
        return False
    try:
        return bool(json.loads(marker.read_text())["recipe"] == recipe)
    except (ValueError, KeyError, TypeError):
        return False


def _replace(dataset: Dataset, images: Images, folder: Path) -> None:
    partial, final = folder / f".{dataset.name}.partial", folder / dataset.name
    shutil.rmtree(partial, ignore_errors=True)
    dataset.write(images, partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)


def _warn_of_others(digests: Mapping[str, str], expected: Mapping[str, str], path: Path) -> None:
    for line in _differences(digests, expected, path):
        print(line)


def _differences(digests: Mapping[str, str], expected: Mapping[str, str], path: Path) -> Iterator[str]:
    others = sorted(name for name, value in digests.items() if expected.get(name) != value)
    if others:
        yield f"warning: {', '.join(others)}: other pixels than {path.name} records; here with {versions()}"
        yield from (f"  {digests[name]}  {name}" for name in others)
