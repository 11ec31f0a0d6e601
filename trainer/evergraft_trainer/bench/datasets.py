"""The stream's datasets on disk: built once into the cache, told by digest, checked against the recorded ones.

Digests stand in ``digests.txt`` beside this module. Other pixels than recorded (another release of a font or of a
renderer) make another benchmark: that is an error unless the caller accepts it, and results are keyed by the digest, so
they never mix. Called by ``harness`` and the command.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import features

from evergraft.canonical import sha256
from evergraft.errors import DataError
from evergraft_trainer.bench.catalog import BUILDERS
from evergraft_trainer.bench.images import SPLITS, digest, write
from evergraft_trainer.bench.packages import cache_folder, make_folder

RECORDED = Path(__file__).with_name("digests.txt")
FILE = "data.npz"
SOURCES = ("alphabets", "classics", "drawing", "images", "pictures", "scripts")
"""The modules that decide the pixels: where one has changed, datasets are built again."""


@dataclass(frozen=True)
class Built:
    """A dataset in the cache: its npz file, the digest of its pixels, and how many images each split has."""

    task: str
    path: Path
    digest: str
    classes: int
    counts: Mapping[str, int]


def prepare(tasks: Sequence[str], *, tell: Callable[[str], None], any_data: bool = False) -> dict[str, Built]:
    """Build what is not in the cache yet; returns the datasets by task.

    Raises:
        UserError: a package cannot be had.
        DataError: other pixels than recorded, unless `any_data`.
    """
    expected = recorded()
    found: dict[str, Built] = {}
    for task in tasks:
        found[task] = _known(task) or _build(task, tell)
        if found[task].digest != expected.get(task):
            where = f"{task}: other pixels than {RECORDED.name} records (here with {versions()})"
            if not any_data:
                raise DataError(
                    f"{where}; results would not compare. Use a machine with the versions that it names, or --any-data"
                )
            tell(f"warning: {where}: {found[task].digest}")
    return found


def recorded() -> Mapping[str, str]:
    """Task to digest, from lines ``<digest>  <task>``; lines that begin with # are remarks."""
    lines = RECORDED.read_text().splitlines() if RECORDED.exists() else []
    return {task: value for value, task in (line.split() for line in lines if line and not line.startswith("#"))}


def record(found: Mapping[str, Built]) -> None:
    """Write the digests as those to hold to."""
    lines = [
        "# SHA-256 of each dataset's pixels: splits, classes and images in order (images.py).",
        f"# Made with {versions()}, Debian 12.",
        *(f"{found[task].digest}  {task}" for task in BUILDERS if task in found),
    ]
    RECORDED.write_text("\n".join(lines) + "\n")


def versions() -> str:
    """The libraries that the pixels depend on, in one line."""
    named = [f"{name} {version(name)}" for name in ("numpy", "pillow")]
    return ", ".join([*named, f"FreeType {features.version_module('freetype2')}"])


def _recipe() -> str:
    """The digest of what decides the pixels: libraries and sources."""
    texts = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in SOURCES]
    return sha256(b"".join([versions().encode(), *texts]))


def _known(task: str) -> Built | None:
    """What the cache holds, if it was built from these very sources and its file is still the same."""
    folder = cache_folder() / "data" / task
    try:
        facts = json.loads((folder / "facts.json").read_text())
        if facts["recipe"] != _recipe() or facts["file"] != sha256((folder / FILE).read_bytes()):
            return None
        return Built(task, folder / FILE, str(facts["digest"]), int(facts["classes"]), dict(facts["counts"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _build(task: str, tell: Callable[[str], None]) -> Built:
    images = BUILDERS[task]()
    folder = cache_folder() / "data" / task
    make_folder(folder)
    partial = folder / f"partial-{os.getpid()}.npz"  # Others may build it at the same time.
    write(images, partial)
    os.replace(partial, folder / FILE)  # noqa: PTH105 - one step, also over an older file
    built = Built(
        task=task,
        path=folder / FILE,
        digest=digest(images),
        classes=len(images.train),
        counts={split: images.count(split) for split in SPLITS},
    )
    facts = {
        "recipe": _recipe(),
        "file": sha256(built.path.read_bytes()),
        "digest": built.digest,
        "classes": built.classes,
        "counts": dict(built.counts),
    }
    partial = folder / f"facts-{os.getpid()}.partial"
    partial.write_text(json.dumps(facts, indent=2) + "\n")
    os.replace(partial, folder / "facts.json")  # noqa: PTH105 - one step, also over an older file
    tell(f"{task}: {built.classes} classes; " + ", ".join(f"{count} {split}" for split, count in built.counts.items()))
    return built


def arrays(built: Built) -> Mapping[str, np.ndarray]:
    """The arrays of a dataset's file."""
    with np.load(built.path) as held:
        return {name: held[name] for name in held.files}
