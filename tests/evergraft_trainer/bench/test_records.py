"""Result files: whole or absent, and worth nothing under another key."""

from __future__ import annotations

from pathlib import Path

import pytest

from evergraft.errors import UserError
from evergraft_trainer.bench import records
from evergraft_trainer.bench.records import End, Run, Step


def step(task: str = "mnist", *, position: int = 0, test: float = 0.9, added: int = 100, key: str = "k") -> Step:
    """A step with figures that are easy to add up."""
    return Step(
        key=key,
        position=position,
        task=task,
        quality=0.8,
        test_quality=test,
        parameters_added=added,
        parameters_total=1000,
        samples=64,
        forward_samples=32,
        flops=2_000_000_000,
        cpu_seconds=1.5,
        wall_seconds=2.0,
        parent="root",
        why="",
        profile="p",
    )


def test_a_step_comes_back_as_it_was_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = records.step_file(tmp_path / "new", 3, "mnist")
    records.write(path, step(position=3))
    assert records.read_step(path, key="k") == step(position=3)
    assert [file.name for file in path.parent.iterdir()] == ["03-mnist.json"]


def test_another_key_or_no_file_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "00-mnist.json"
    assert records.read_step(path) is None
    records.write(path, step())
    assert records.read_step(path, key="other") is None


@pytest.mark.parametrize("text", ["{", '{"format": 2}', '{"format": 1, "key": "k"}', "[]"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "00-mnist.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"00-mnist\.json"):
        records.read_step(path)


def test_an_end_comes_back(tmp_path: Path) -> None:
    end = End(key="k", test_quality={"mnist": 0.5}, answers_checked=1, answers_identical=1)
    records.write(tmp_path / records.END, end)
    assert records.read_end(tmp_path, key="k") == end
    assert records.read_end(tmp_path, key="other") is None


def test_runs_are_found_by_their_folders(tmp_path: Path) -> None:
    runs = [Run("graft", "a", 0, quick=True), Run("lora", "a", 2, quick=False)]
    for run in runs:
        records.write(records.step_file(tmp_path / run.place, 0, "mnist"), step())
    assert sorted(records.runs_in(tmp_path), key=lambda run: run.seed) == runs
