"""What is summed up from result files, against sums done by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evergraft.errors import UserError
from evergraft_trainer.bench import records
from evergraft_trainer.bench.catalog import QUICK
from evergraft_trainer.bench.page import BEGIN, END, rewrite
from evergraft_trainer.bench.picture import draw, gains, spread
from evergraft_trainer.bench.records import End as Ending
from evergraft_trainer.bench.records import Run, Step
from evergraft_trainer.bench.report import recorded, summarise

ROOT = 1000


def put(
    results: Path, method: str, test: list[float], end: list[float] | None = None, *, added: int = 100, order: str = "a"
) -> None:
    """Record a run of the quick subset."""
    run = Run(method, order, 0, quick=True)
    for position, value in enumerate(test):
        task = QUICK[position % len(QUICK)]
        made = Step("k", position, task, 0.5, value, added, ROOT, 64, 32, 10**9, 1.0, 1.0, "root", "", "p")
        records.write(records.step_file(results / run.place, position, task), made)
    if end is not None:
        kept = dict(zip(QUICK, end, strict=True))
        checked = 0 if method == "replay" else len(end)
        records.write(
            results / run.place / records.END, Ending(records.end_key(["k"] * len(test)), kept, checked, checked)
        )


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


def test_what_passes_cost_is_summed(tmp_path: Path) -> None:
    put(tmp_path, "graft-twice", [0.5] * 12)
    (row,) = summarise(recorded(tmp_path, quick=True), root_parameters=ROOT)
    assert (row.steps, row.of) == (12, 12)
    assert (row.samples, row.forward_samples, row.gflops, row.cpu_seconds) == (128, 64, 2, 2)
    assert row.parameters_added == 200


def test_an_end_of_other_steps_says_nothing(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.5] * 6, [0.5] * 6)
    first = records.step_file(tmp_path / "a-quick" / "graft" / "s0", 0, QUICK[0])
    step = records.read_step(first)
    assert step is not None
    records.write(first, replace(step, key="of another version", test_quality=0.9))
    (row,) = summarise(recorded(tmp_path, quick=True), root_parameters=ROOT)
    assert (row.end, row.forgetting, row.answers_identical) == (None, None, None)


def test_a_folder_that_is_no_order_is_left_alone(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.5], order="backup")
    assert recorded(tmp_path, quick=True) == []


def test_gains_are_over_all_that_either_order_has(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.9] * 6)
    put(tmp_path, "lora", [0.5] * 6)
    put(tmp_path, "lora", [0.5], order="b")
    assert gains("graft", "a", recorded(tmp_path, quick=True)) == [pytest.approx(40)] * 6


def test_names_keep_their_order_and_their_distance() -> None:
    assert spread([1.0, 5.0], 1) == [1.0, 5.0]
    assert spread([5.0, 5.0, 1.0], 1) == [4.5, 5.5, 1.0]
    assert spread([3.0, 3.5, 4.0], 1) == pytest.approx([2.5, 3.5, 4.5])
    assert spread([], 1) == []


def test_a_picture_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.9])
    found = recorded(tmp_path, quick=True)
    with pytest.raises(UserError, match=r"stream\.xyz: expected a file that ends in \.png"):
        draw(summarise(found, root_parameters=ROOT), found, tmp_path / "stream.xyz")


def test_results_of_another_version_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.9] * 6)
    assert recorded(tmp_path, quick=True, keys=lambda _run: {"other"}) == []
    (found,) = recorded(tmp_path, quick=True, keys=lambda _run: {"k"})
    assert len(found.steps) == 6


def test_only_the_table_of_a_page_is_rewritten(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.6] * 6, [0.6] * 6)
    put(tmp_path, "replay", [0.6] * 6, [0.5] * 6)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nan old table\n{END}\nafter\n")
    rows = summarise(recorded(tmp_path, quick=True), root_parameters=ROOT)
    rewrite(page, rows)
    first = page.read_text()
    assert first.startswith(f"before\n{BEGIN}\n| method |")
    assert first.endswith(f"|\n{END}\nafter\n")
    assert "| `graft` | a | 0 | 6 of 6 | 0.600 | 0.600 | 0, same bits | 100 (10.0%) | 0.00 | 32 | 1 |" in first
    assert "| `replay` | a | 0 | 6 of 6 | 0.600 | 0.500 | 0.100 |" in first
    rewrite(page, rows)
    assert page.read_text() == first


def test_a_page_without_a_place_for_the_table_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{END}\n{BEGIN}\n")
    with pytest.raises(UserError, match="has no lines"):
        rewrite(page, [])
    assert page.read_text() == f"{END}\n{BEGIN}\n"
    with pytest.raises(UserError, match="cannot be read"):
        rewrite(tmp_path / "nowhere.md", [])
