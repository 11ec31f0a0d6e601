"""A tiny graph and task on this machine's disk, and the command line called in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from evergraft.cli import main
from evergraft_trainer.testing.commands import Answer, Run
from evergraft_trainer.testing.datasets import DatasetMaker

ROOT = "{backbone: vit, config: {imageSize: 8, patchSize: 4, width: 12, depth: 1, heads: 3}, seed: 0}"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Answer(code=code, out=said.out, err=said.err)

    return call


@pytest.fixture
def make(tmp_path: Path) -> DatasetMaker:
    """A maker of datasets in this test's own folder."""
    return DatasetMaker(tmp_path)


@pytest.fixture
def graph(tmp_path: Path, run: Run) -> Path:
    """A graph with a root and no task."""
    (tmp_path / "root.yaml").write_text(ROOT)
    answer = run("graph", "init", tmp_path / "graph", "--root", tmp_path / "root.yaml")
    assert answer.code == 0, answer.err
    return tmp_path / "graph"


@pytest.fixture
def images(make: DatasetMaker) -> Path:
    """Two classes of 20 images."""
    return make.folder({"cat": 20, "dog": 20})
