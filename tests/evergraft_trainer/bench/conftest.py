"""A stream of two tiny tasks, a tiny root, and a cache of their own for tests of the benchmark stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evergraft.search.events import silent
from evergraft_trainer.bench import catalog, images, methods
from evergraft_trainer.bench.datasets import Built
from evergraft_trainer.bench.harness import Sitting
from evergraft_trainer.bench.images import Classes, Images

ROOT = "backbone: vit\nconfig: {imageSize: 8, patchSize: 4, width: 16, depth: 1, heads: 2, channels: 1}\nseed: 3\n"
TASKS = ("stripes", "dots")


def tiny(task: str, *, seed: int = 0, channels: tuple[int, ...] = ()) -> Images:
    """Two classes of bright and dark pictures with noise; the order of brightness is the task's own."""
    numbers = np.random.default_rng([seed, len(task)])

    def some(count: int) -> Classes:
        levels = {"a": 60, "b": 180} if task == TASKS[0] else {"a": 180, "b": 60}
        shape = (count, 8, 8, *channels)
        return {
            label: list((level + numbers.integers(0, 60, shape)).astype(np.uint8)) for label, level in levels.items()
        }

    return Images(train=some(24), validation=some(8), test=some(8))


def build(folder: Path, task: str, made: Images) -> Built:
    """A dataset as `datasets` keeps it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{task}.npz"
    images.write(made, path)
    counts = {split: made.count(split) for split in images.SPLITS}
    return Built(task=task, path=path, digest=images.digest(made), classes=len(made.train), counts=counts)


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Built]:
    """Two tasks as order a, methods of 256 samples, and an empty cache."""
    monkeypatch.setenv("EVERGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(catalog.ORDERS, "a", TASKS)
    for name, method in list(methods.METHODS.items()):
        monkeypatch.setitem(methods.METHODS, name, replace(method, samples=256))
    return {
        TASKS[0]: build(tmp_path / "data", TASKS[0], tiny(TASKS[0])),
        TASKS[1]: build(tmp_path / "data", TASKS[1], tiny(TASKS[1], channels=(3,))),
    }


@pytest.fixture
def sitting(tmp_path: Path) -> Sitting:
    """Results in a folder of their own."""
    (tmp_path / "root.yaml").write_text(ROOT)
    return Sitting(results=tmp_path / "results", root=tmp_path / "root.yaml", emit=silent)
