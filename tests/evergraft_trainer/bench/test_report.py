"""What is summed up from result files, against sums done by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from evergraft_trainer.bench import records
from evergraft_trainer.bench.catalog import QUICK
from evergraft_trainer.bench.picture import draw, gains
from evergraft_trainer.bench.records import End, Run, Step
from evergraft_trainer.bench.report import recorded, summarise

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


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.9] * 6)
    put(tmp_path, "lora", [0.5] * 5)
    found = recorded(tmp_path, quick=True)
    draw(summarise(found, root_parameters=ROOT), found, tmp_path / "p" / "stream.svg")
    assert "lora (a), 5 of 6" in (tmp_path / "p" / "stream.svg").read_text()
    assert gains("graft", "a", found) == [pytest.approx(40)] * 5
