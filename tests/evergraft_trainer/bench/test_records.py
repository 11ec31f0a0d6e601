"""Result files: whole or absent, and worth nothing under another key."""

from __future__ import annotations

import json
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


@pytest.mark.parametrize(("field", "value"), [("test_quality", "0.9"), ("samples", 64.5), ("task", 3), ("flops", True)])
def test_a_value_of_another_type_is_named(tmp_path: Path, field: str, value: object) -> None:
    path = tmp_path / "00-mnist.json"
    records.write(path, step())
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(UserError, match=rf"00-mnist\.json: {field}: "):
        records.read_step(path)


def test_an_end_whose_figures_are_no_numbers_is_named(tmp_path: Path) -> None:
    (tmp_path / records.END).write_text(
        '{"format": 1, "key": "k", "test_quality": {"mnist": null}, "answers_checked": 0, "answers_identical": 0}'
    )
    with pytest.raises(UserError, match=r"end\.json: test_quality"):
        records.read_end(tmp_path)


def test_results_that_are_no_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    path = records.step_file(tmp_path / "results" / "a", 0, "mnist")
    with pytest.raises(UserError, match=r"cannot be read .* --results"):
        records.read_step(path)
    with pytest.raises(UserError, match=r"cannot be written .* --results"):
        records.write(path, step())


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
