"""Claims held against result files whose sums are done by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evergraft_trainer.bench import records
from evergraft_trainer.bench.catalog import ORDERS
from evergraft_trainer.bench.claims import figures
from evergraft_trainer.bench.records import End, Run, Step
from evergraft_trainer.bench.report import recorded, summarise

ROOT = 1000
TASKS = 25


def put(results: Path, method: str, test: list[float], *, added: int = 100, order: str = "a", seed: int = 0) -> None:
    """Record a run of the stream, in the order given; its end where it is whole."""
    run = Run(method, order, seed, quick=False)
    names = ORDERS[order]
    for position, value in enumerate(test):
        task = names[position % TASKS]
        made = Step("k", position, task, 0.5, value, added, ROOT, 64, 32, 10**9, 1.0, 1.0, "root", "", "p")
        records.write(records.step_file(results / run.place, position, task), made)
    if len(test) >= TASKS:
        kept = dict(zip(names, test[-TASKS:], strict=True))
        records.write(results / run.place / records.END, End(records.end_key(["k"] * len(test)), kept, TASKS, TASKS))


def by_name(results: Path) -> dict[str, dict[str, Any]]:
    found = recorded(results, quick=False)
    return {line["figure"]: line for line in figures(summarise(found, root_parameters=ROOT), found)}


def of(results: Path, start: str) -> dict[str, Any]:
    (line,) = (line for name, line in by_name(results).items() if name.startswith(start))
    return line


@pytest.mark.parametrize(("graft", "holds"), [(0.65, True), (0.63, False)])
def test_the_bar_is_held_against_the_better_peer(tmp_path: Path, graft: float, holds: bool) -> None:
    put(tmp_path, "graft", [graft] * TASKS)
    put(tmp_path, "lora", [0.5] * TASKS)
    put(tmp_path, "finetune", [0.6] * TASKS)
    line = of(tmp_path, "graft over the better of")
    assert line["peer"] == "finetune"
    assert line["value"] == pytest.approx((graft - 0.6) * 100)
    assert line["holds"] is holds


def test_only_tasks_that_all_have_are_compared(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.9, 0.1, 0.1])
    put(tmp_path, "lora", [0.5, 0.5])
    put(tmp_path, "finetune", [0.5])
    line = of(tmp_path, "graft over the better of")
    assert line["figure"].endswith("1 results in common")
    assert line["value"] == pytest.approx(40)


def test_what_learns_alone_is_a_peer_in_either_order(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.9] * TASKS, order="b")
    put(tmp_path, "lora", [0.5] * TASKS)
    put(tmp_path, "finetune", [0.6] * TASKS)
    put(tmp_path, "sequential", [0.7] * TASKS)
    assert of(tmp_path, "graft over the better of")["value"] == pytest.approx(30)
    assert not any(name.startswith("graft over sequential") for name in by_name(tmp_path))


def test_every_seed_shows_in_the_spread(tmp_path: Path) -> None:
    for seed, value in enumerate((0.7, 0.8, 0.9)):
        put(tmp_path, "graft", [value] * TASKS, seed=seed)
        put(tmp_path, "sequential", [0.7] * TASKS, seed=seed)
    line = of(tmp_path, "graft over sequential")
    assert (line["value"], line["spread"], line["runs"]) == (pytest.approx(10), [0, 20], 3)


def test_a_second_pass_is_held_against_the_first(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.6] * TASKS)
    put(tmp_path, "graft-twice", [0.6] * TASKS + [0.63] * TASKS, added=50)
    line = of(tmp_path, "graft-twice over graft")
    assert (line["value"], line["holds"]) == (pytest.approx(3), True)


def test_too_many_parameters_are_seen(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.9] * TASKS, added=251)
    put(tmp_path, "graft-6", [0.9] * TASKS, added=120)
    assert of(tmp_path, "parameters added a task of the root's, graft,")["holds"] is False
    assert of(tmp_path, "parameters added a task of the root's, graft-6")["holds"] is True


def test_an_unfinished_run_says_how_far_it_is_and_claims_no_memory(tmp_path: Path) -> None:
    put(tmp_path, "graft", [0.9, 0.8])
    names = by_name(tmp_path)
    assert any("2 of 25 tasks so far" in name for name in names)
    assert not any("forgetting" in name for name in names)
