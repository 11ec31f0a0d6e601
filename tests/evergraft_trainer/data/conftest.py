"""A maker of datasets for every test of the data package."""

from __future__ import annotations

from pathlib import Path

import pytest

from evergraft_trainer.testing.datasets import DatasetMaker


@pytest.fixture
def make(tmp_path: Path) -> DatasetMaker:
    """A maker of datasets in this test's own folder."""
    return DatasetMaker(tmp_path)
