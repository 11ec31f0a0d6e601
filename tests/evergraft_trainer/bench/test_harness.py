"""Runs over a tiny stream, trained for real: recorded once, taken up after a cut, the same on another machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evergraft.errors import UserError
from evergraft_trainer.bench import methods, records
from evergraft_trainer.bench.datasets import Built
from evergraft_trainer.bench.harness import Meter, Sitting, places_of
from evergraft_trainer.bench.images import Classes, Images
from evergraft_trainer.bench.learner import ProductLearner
from evergraft_trainer.bench.packages import cache_folder
from evergraft_trainer.bench.records import Run

from .conftest import TASKS, build, tiny

GRAFT = Run("graft", "a", 0, quick=False)


def steps(sitting: Sitting, run: Run) -> tuple[records.Step, ...]:
    return records.steps_of(sitting.results / run.place)


def without_times(step: records.Step) -> records.Step:
    return replace(step, cpu_seconds=0.0, wall_seconds=0.0)


def noisy(task: str) -> Images:
    """Two classes that noise all but hides: what is learned of them changes from one training to the next."""
    numbers = np.random.default_rng(len(task))

    def some(count: int) -> Classes:
        levels = {"a": 0, "b": 25} if task == TASKS[0] else {"a": 25, "b": 0}
        return {
            label: list((level + numbers.integers(0, 230, (count, 8, 8))).astype(np.uint8))
            for label, level in levels.items()
        }

    return Images(train=some(48), validation=some(64), test=some(64))


def test_a_chain_is_learned_and_recorded(stream: Mapping[str, Built], sitting: Sitting) -> None:
    sitting.run(GRAFT, stream)
    first, second = steps(sitting, GRAFT)
    assert [first.task, second.task] == list(TASKS)
    assert (first.parent, second.parent) == ("root", TASKS[0])
    assert first.samples == second.samples == 256
    # The second task looks at two routes, its parent and the root.
    assert second.forward_samples > first.forward_samples > 0
    assert second.flops > first.flops > 0
    assert first.test_quality > 0.8
    end = records.read_end(sitting.results / GRAFT.place)
    assert end is not None
    assert (end.answers_checked, end.answers_identical) == (2, 2)
    assert end.test_quality == {step.task: step.test_quality for step in (first, second)}


def test_what_is_recorded_is_not_run_again(
    stream: Mapping[str, Built], sitting: Sitting, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run("linear", "a", 0, quick=False)
    sitting.run(run, stream)

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("learned again")

    monkeypatch.setattr(ProductLearner, "learn", never)
    sitting.run(run, stream)


@pytest.mark.parametrize("method", ["graft", "replay"])
def test_a_run_cut_off_between_tasks_goes_on_and_ends_the_same(
    stream: Mapping[str, Built], sitting: Sitting, tmp_path: Path, method: str
) -> None:
    run = Run(method, "a", 0, quick=False)
    whole = replace(sitting, results=tmp_path / "whole")
    whole.run(run, stream)
    shutil.rmtree(tmp_path / "cache")
    halved = {**stream, TASKS[1]: replace(stream[TASKS[1]], path=tmp_path / "nowhere.npz")}
    with pytest.raises(Exception, match=r"nowhere\.npz"):
        sitting.run(run, halved)
    assert [step.task for step in steps(sitting, run)] == [TASKS[0]]
    sitting.run(run, stream)
    assert list(map(without_times, steps(sitting, run))) == list(map(without_times, steps(whole, run)))
    ends = [records.read_end(place.results / run.place) for place in (sitting, whole)]
    assert ends[0] == ends[1] is not None


class CutError(Exception):
    """Raised where a test ends a sitting."""


def test_what_a_sitting_spent_counts_also_where_it_was_killed_in_the_middle_of_a_task(
    stream: Mapping[str, Built], sitting: Sitting, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run("lora", "a", 0, quick=False)
    with monkeypatch.context() as patch:
        # As by SIGKILL: no handler runs after the second validation, and whoever dies writes nothing.
        noted: list[int] = []
        note = Meter.note
        patch.setattr(Meter, "note", lambda meter: note(meter) if len(noted) < 2 else None)

        def hear(event: str, fields: Mapping[str, object]) -> None:
            noted.extend([1] if event == "validation" else [])
            if len(noted) == 2:
                raise CutError

        with pytest.raises(CutError):
            replace(sitting, emit=hear).run(run, stream)
    (file,) = cache_folder().glob("runs/*/spent-00.json")
    cpu, wall = json.loads(file.read_text())
    assert cpu > 0
    sitting.run(run, stream)
    first = steps(sitting, run)[0]
    assert first.cpu_seconds >= round(cpu, 2)
    assert first.wall_seconds >= round(wall, 2)


def test_on_another_machine_earlier_tasks_are_learned_again_and_must_agree(
    stream: Mapping[str, Built], sitting: Sitting, tmp_path: Path
) -> None:
    sitting.run(GRAFT, stream)
    folder = sitting.results / GRAFT.place
    last = records.step_file(folder, 1, TASKS[1])
    before = last.read_text()
    last.unlink()
    shutil.rmtree(tmp_path / "cache")
    sitting.run(GRAFT, stream)
    again = records.read_step(last)
    assert again is not None
    last.write_text(before)
    known = records.read_step(last)
    assert known is not None
    assert without_times(again) == without_times(known)
    first = records.read_step(records.step_file(folder, 0, TASKS[0]))
    assert first is not None
    (folder / records.END).unlink()
    for profile, why in ((first.profile, "the code has changed"), ("another", "this machine computes otherwise")):
        records.write(records.step_file(folder, 0, TASKS[0]), replace(first, quality=0.123, profile=profile))
        shutil.rmtree(tmp_path / "cache")
        with pytest.raises(UserError, match=rf"recorded quality 0\.123, learned again .*: {why}"):
            sitting.run(GRAFT, stream)


def test_keys_follow_what_decides(stream: Mapping[str, Built], sitting: Sitting, tmp_path: Path) -> None:
    def keys(run: Run, data: Mapping[str, Built]) -> list[str]:
        return [
            place.key
            for place in places_of(run, {task: built.digest for task, built in data.items()}, root=sitting.root)
        ]

    other = {**stream, TASKS[0]: build(tmp_path / "other", TASKS[0], tiny(TASKS[0], seed=1))}
    linear = Run("linear", "a", 0, quick=False)
    # A chain depends on what came before; a child of the root only on its own data.
    assert all(one != two for one, two in zip(keys(GRAFT, stream), keys(GRAFT, other), strict=True))
    assert [one == two for one, two in zip(keys(linear, stream), keys(linear, other), strict=True)] == [False, True]
    assert keys(GRAFT, stream) != keys(replace(GRAFT, seed=1), stream)
    twice = keys(Run("graft-twice", "a", 0, quick=False), stream)
    assert len(twice) == len(set(twice)) == 4
    before = keys(linear, stream)
    sitting.root.write_text(sitting.root.read_text() + "# a remark decides nothing\n")
    assert keys(linear, stream) == before
    sitting.root.write_text(sitting.root.read_text().replace("seed: 3", "seed: 4"))
    assert set(keys(linear, stream)).isdisjoint(before)


def test_a_second_pass_that_betters_nothing_adds_nothing(stream: Mapping[str, Built], sitting: Sitting) -> None:
    run = Run("graft-twice", "a", 0, quick=False)
    sitting.run(run, stream)
    first, second, *again = steps(sitting, run)
    assert [first.parent, second.parent] == ["root", TASKS[0]]
    # Both tasks are learned perfectly at once, so the second pass keeps their routes.
    assert first.quality == second.quality == 1
    assert [step.parameters_added for step in again] == [0, 0]
    assert [step.parameters_total for step in again] == [first.parameters_total, second.parameters_total]
    assert all(step.why.startswith("no candidate beat the present route") for step in again)
    assert all(step.samples == 256 for step in again)


@pytest.mark.parametrize("method", ["graft-twice", "replay"])
def test_results_that_were_lost_are_told_again_as_they_were(
    stream: Mapping[str, Built], sitting: Sitting, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was learned since, by a later pass or by a backbone that forgets, is not taken for it."""
    monkeypatch.setitem(methods.METHODS, method, replace(methods.METHODS[method], samples=128))
    run = Run(method, "a", 0, quick=False)
    hard = {task: build(tmp_path / "hard", task, noisy(task)) for task in TASKS}
    sitting.run(run, hard)
    other = replace(sitting, results=tmp_path / "other")
    other.run(run, hard)
    assert list(map(without_times, steps(other, run))) == list(map(without_times, steps(sitting, run)))


def test_replay_measures_every_test_again(stream: Mapping[str, Built], sitting: Sitting) -> None:
    run = Run("replay", "a", 0, quick=False)
    sitting.run(run, stream)
    end = records.read_end(sitting.results / run.place)
    assert end is not None
    assert end.answers_checked == 0
    assert set(end.test_quality) == set(TASKS)
    first, second = steps(sitting, run)
    assert second.parameters_added == 16 * 2 + 2
    assert end.test_quality[TASKS[1]] == second.test_quality
    assert first.samples == second.samples == 256


def test_a_run_that_is_forgotten_runs_again(
    stream: Mapping[str, Built], sitting: Sitting, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run("linear", "a", 0, quick=False)
    sitting.run(run, stream)
    sitting.forget(run, stream)
    assert steps(sitting, run) == ()
    learned = []
    learn = ProductLearner.learn

    def noted(self: ProductLearner, data: Built, *, turn: int) -> object:
        learned.append(data.task)
        return learn(self, data, turn=turn)

    monkeypatch.setattr(ProductLearner, "learn", noted)
    sitting.run(run, stream)
    assert learned == list(TASKS)


def test_other_data_of_a_task_is_never_answered_from_an_older_graph(
    stream: Mapping[str, Built], sitting: Sitting, tmp_path: Path
) -> None:
    sitting.run(GRAFT, stream)
    before = steps(sitting, GRAFT)
    swapped = tiny(TASKS[1], seed=5)
    dark = {"a": swapped.train["b"], "b": swapped.train["a"]}
    other = {**stream, TASKS[1]: build(tmp_path / "data", TASKS[1], replace(swapped, train=dark))}
    sitting.run(GRAFT, other)
    first, second = steps(sitting, GRAFT)
    assert without_times(first) == without_times(before[0])
    # Trained with its labels the wrong way round, it must fail a test that the older route passes.
    assert second.test_quality < 0.5 < before[1].test_quality
