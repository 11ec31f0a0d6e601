"""Mistakes that can be known beforehand: `plan` tells them as `run` does, nothing is written, a spec can be mended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evergraft_trainer.testing.commands import Answer, Run, contents, task_file


def both(run: Run, path: Path, graph: Path) -> str:
    """What `plan` says to a spec that `run` refuses with the same words, neither writing anything."""
    before = contents(graph)
    planned, ran = run("plan", path, "--graph", graph), run("run", path, "--graph", graph)
    assert (planned.code, ran.code) == (64, 64), planned.out + ran.out
    assert contents(graph) == before
    told = planned.err.strip().removeprefix("evergraft: ")
    assert told in ran.err
    return told


def outcome(answer: Answer) -> str:
    assert answer.code == 0, answer.err
    (row,) = json.loads(answer.out)
    return str(row["outcome"])


def state(run: Run, path: Path, graph: Path) -> str:
    answer = run("plan", path, "--graph", graph, "--json")
    assert answer.code == 0, answer.err
    return str(json.loads(answer.out)[0]["state"])


def test_what_cannot_be_built_is_told_before_the_search_is_opened(
    run: Run, graph: Path, images: Path, tmp_path: Path
) -> None:
    wrong = task_file(tmp_path, images, search=", imageSize: 15")
    assert "search.imageSize: 15 is no multiple of the patch size 4" in both(run, wrong, graph)
    right = task_file(tmp_path, images, search=", imageSize: 12")
    assert state(run, right, graph) == "not yet run"
    assert outcome(run("run", right, "--graph", graph, "--json")) == "committed"


def test_another_visibility_is_told_before_anything_is_trained_and_can_be_set_back(
    run: Run, graph: Path, images: Path, tmp_path: Path
) -> None:
    path = task_file(tmp_path, images)
    public = path.read_text()
    run("run", path, "--graph", graph)
    path.write_text(f"{public}  iteration: 2\n  visibility: Private\n")
    assert "spec.visibility is immutable, and version 1 closed a run as Public" in both(run, path, graph)
    path.write_text(f"{public}  iteration: 2\n")
    assert outcome(run("run", path, "--graph", graph, "--json")) in ("committed", "kept")


def test_a_changed_spec_of_a_closed_run_is_told_as_run_tells_it(
    run: Run, graph: Path, images: Path, tmp_path: Path
) -> None:
    run("run", task_file(tmp_path, images), "--graph", graph)
    assert (
        state(run, tmp_path / "pets.yaml", graph)
        == "closed at version 1 (committed); run would report AlreadyCommitted"
    )
    changed = task_file(tmp_path, images, search=", seed: 3")
    assert "run i1-c1 is committed with another metric, dataset or search" in both(run, changed, graph)


def test_after_two_passes_a_changed_spec_is_not_taken_for_done(
    run: Run, graph: Path, images: Path, tmp_path: Path
) -> None:
    assert run("run", task_file(tmp_path, images), "--graph", graph, "--passes", "2").code == 0
    assert outcome(run("run", tmp_path / "pets.yaml", "--graph", graph, "--json")) == "already"
    changed = task_file(tmp_path, images, search=", seed: 3")
    assert "run i1-c2 is committed with another metric, dataset or search" in both(run, changed, graph)


def test_an_open_search_is_shown_as_it_was_started_and_holds_to_its_spec(
    run: Run, graph: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = task_file(tmp_path, images)
    with monkeypatch.context() as patched:
        patched.setattr("evergraft_trainer.trainer.train_group", _cut_off)
        run("run", path, "--graph", graph)
    assert state(run, path, graph) == "open since version 0; run would go on with it"
    changed = task_file(tmp_path, images, search=", seed: 3")
    assert "was started with another metric, dataset or search" in both(run, changed, graph)
    assert outcome(run("run", task_file(tmp_path, images), "--graph", graph, "--json")) == "committed"


def _cut_off(*_: object) -> None:
    from evergraft.errors import StoreUnavailableError

    raise StoreUnavailableError("cut off")


def test_plan_says_that_an_earlier_score_counts_no_longer(run: Run, graph: Path, images: Path, tmp_path: Path) -> None:
    path = task_file(tmp_path, images)
    run("run", path, "--graph", graph)
    path.write_text(f"{path.read_text()}  iteration: 2\n  metric: MacroF1\n")
    told = "the earlier score counts no longer, since data, labels, metric or image size changed"
    assert state(run, path, graph) == f"not yet run; {told}"
    answer = run("run", path, "--graph", graph, "--json")
    assert outcome(answer) == "committed"
    assert json.loads(answer.out)[0]["why"] == f"this task's own route; {told}"
    assert told in run("explain", graph, "pets").out
