"""What is summed up from result files, against sums done by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evergraft_trainer.bench import records
from evergraft_trainer.bench.catalog import QUICK
from evergraft_trainer.bench.picture import draw
from evergraft_trainer.bench.records import End, Run, Step
from evergraft_trainer.bench.report import figures, recorded, summarise

ROOT = 1000


def put(results: Path, method: str, test: list[float], end: list[float] | None = None, *, added: int = 100) -> None:
    """Record a run of the quick subset."""
    run = Run(method, "a", 0, quick=True)
    for position, value in enumerate(test):
        made = Step("k", position, QUICK[position], 0.5, value, added, ROOT, 64, 32, 10**9, 1.0, 1.0, "root", "", "p")
        records.write(records.step_file(results / run.place, position, QUICK[position]), made)
    if end is not None:
        kept = dict(zip(QUICK, end, strict=True))
        checked = 0 if method == "replay" else len(end)
        records.write(results / run.place / records.END, End("k", kept, checked, checked))


def by_name(results: Path) -> dict[str, dict[str, Any]]:
    found = recorded(results, quick=True)
    return {line["figure"]: line for line in figures(summarise(found, root_parameters=ROOT), found)}


def test_a_row_is_the_mean_of_its_steps(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.5, 0.7, 0.6, 0.6, 0.6, 0.6], [0.5, 0.7, 0.6, 0.6, 0.6, 0.6])
    (row,) = summarise(recorded(tmp_path, quick=True), root_parameters=ROOT)
    assert row.learned == row.end == pytest.approx(0.6)
    assert (row.forgetting, row.answers_identical) == (0, True)
    assert (row.parameters_added, row.parameters_share) == (100, 0.1)
    assert (row.samples, row.forward_samples, row.gflops, row.cpu_seconds) == (64, 32, 1, 1)
    assert (row.steps, row.of) == (6, 6)
    assert recorded(tmp_path, quick=False) == []


def test_forgetting_counts_losses_and_no_gains(tmp_path: Path) -> None:
    put(tmp_path, "replay", [0.6] * 6, [0.3, 0.9, 0.6, 0.6, 0.6, 0.6])
    (row,) = summarise(recorded(tmp_path, quick=True), root_parameters=ROOT)
    assert row.forgetting == pytest.approx(0.05)
    assert row.answers_identical is None


@pytest.mark.parametrize(("graft", "holds"), [(0.65, True), (0.63, False)])
def test_the_bar_is_held_against_the_better_peer(tmp_path: Path, graft: float, holds: bool) -> None:
    put(tmp_path, "graft", [graft] * 6, [graft] * 6)
    put(tmp_path, "lora", [0.5] * 6)
    put(tmp_path, "finetune", [0.6] * 6)
    line = next(line for name, line in by_name(tmp_path).items() if name.startswith("graft over"))
    assert line["peer"] == "finetune"
    assert line["value"] == pytest.approx((graft - 0.6) * 100)
    assert line["holds"] is holds


def test_only_tasks_that_all_have_are_compared(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.9, 0.1, 0.1])
    put(tmp_path, "lora", [0.5, 0.5])
    put(tmp_path, "finetune", [0.5])
    line = next(line for name, line in by_name(tmp_path).items() if name.startswith("graft over"))
    assert line["figure"].endswith("1 tasks")
    assert line["value"] == pytest.approx(40)


def test_an_unfinished_run_says_how_far_it_is_and_claims_no_memory(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.9, 0.8])
    names = by_name(tmp_path)
    assert any("2 of 6 tasks so far" in name for name in names)
    assert not any("forgetting" in name for name in names)


def test_too_many_parameters_are_seen(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.9] * 6, added=251)
    line = next(line for name, line in by_name(tmp_path).items() if name.startswith("parameters added"))
    assert line["holds"] is False


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.9] * 6)
    put(tmp_path, "lora", [0.5] * 5)
    draw(summarise(recorded(tmp_path, quick=True), root_parameters=ROOT), tmp_path / "p" / "stream.svg")
    assert "lora (a), 5 of 6" in (tmp_path / "p" / "stream.svg").read_text()
