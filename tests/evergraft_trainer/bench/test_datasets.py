"""Datasets in the cache: built once, built again where anything changed, refused where pixels are others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evergraft.errors import DataError
from evergraft_trainer.bench import catalog, datasets
from evergraft_trainer.bench.images import Images, digest

from .conftest import tiny


class Builder:
    """Builds `made`, and counts how often."""

    def __init__(self, made: Images) -> None:
        self.made, self.calls = made, 0

    def __call__(self) -> Images:
        self.calls += 1
        return self.made


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    """The builder of a task `stripes`, whose digest is recorded."""
    made = Builder(tiny("stripes"))
    monkeypatch.setenv("EVERGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(catalog.BUILDERS, "stripes", made)
    (tmp_path / "digests.txt").write_text(f"# a remark\n{digest(made.made)}  stripes\n")
    monkeypatch.setattr(datasets, "RECORDED", tmp_path / "digests.txt")
    return made


def prepared() -> datasets.Built:
    return datasets.prepare(["stripes"], tell=lambda _: None)["stripes"]


def test_a_dataset_is_built_once(builder: Builder) -> None:
    first, again = prepared(), prepared()
    assert first == again
    assert builder.calls == 1
    assert first.counts == {"train": 48, "validation": 16, "test": 16}
    held = datasets.arrays(first)
    assert held["labels"].tolist() == ["a", "b"]
    assert held["train_images"].shape == (48, 8, 8)
    assert np.bincount(held["test_labels"]).tolist() == [8, 8]


def test_a_file_that_was_changed_is_built_again(builder: Builder) -> None:
    built = prepared()
    built.path.write_bytes(built.path.read_bytes()[:-1])
    assert prepared() == built
    assert builder.calls == 2


def test_another_library_or_source_means_another_build(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared()
    monkeypatch.setattr(datasets, "versions", lambda: "pillow 99")
    prepared()
    assert builder.calls == 2


def test_other_pixels_than_recorded_are_refused_unless_asked_for(builder: Builder) -> None:
    builder.made = tiny("stripes", seed=1)
    with pytest.raises(DataError, match=r"stripes: other pixels than digests\.txt records"):
        prepared()
    told: list[str] = []
    found = datasets.prepare(["stripes"], tell=told.append, any_data=True)
    assert found["stripes"].digest in told[-1]


def test_digests_are_recorded_as_they_are_read(builder: Builder, tmp_path: Path) -> None:
    before = datasets.recorded()
    datasets.record({"stripes": prepared()})
    assert datasets.recorded() == before
