"""What `/progress` answers, as a fold over events, read by the operator; and where a worker may be told to listen."""

from __future__ import annotations

import json
from typing import Any

from evergraft.api.resolved import ResolvedSearch
from evergraft_operator import report
from evergraft_trainer.standing import Standing
from evergraft_trainer.status_server import MAX_PROGRESS_BYTES, progress_bytes


def begun(**parameters: Any) -> Standing:
    standing = Standing("w1")
    spec = ResolvedSearch(strategy="mu2net", samples=64, batch_size=8, validations=2, parameters=parameters)
    standing.begin(task="a/one", run="i1-c2", search="s", spec=spec)
    return standing


def heard(standing: Standing) -> report.Progress:
    found = report.progress(progress_bytes(standing.document()))
    assert found is not None
    return found


def test_the_operator_reads_how_far_a_search_is() -> None:
    standing = begun(generations=4, candidates=8)
    standing.observe("search", {"task": "a/one"})
    assert heard(standing) == report.Progress(
        run="i1-c2", event="search", generations=4, candidates_done=0, candidates=32
    )
    standing.observe("generation", {"generation": 1, "candidates": 8})
    standing.observe("standing", {"candidatesDone": 9, "bestScore": 0.91, "baseVersion": 41})
    standing.observe("step", {"generation": 1, "slot": 3, "samples": 640})
    standing.observe("timings", {"generation": 1, "slot": 3, "timings": {}})
    assert heard(standing) == report.Progress(
        run="i1-c2",
        event="step",
        generation=2,
        generations=4,
        candidates_done=9,
        candidates=32,
        best_score=0.91,
        base=41,
    )
    assert standing.base_version == 41
    assert standing.document()["samples"] == 640


def test_a_score_that_nobody_knows_is_not_told() -> None:
    standing = begun()
    standing.observe("standing", {"candidatesDone": 0, "bestScore": None, "baseVersion": 0})
    assert heard(standing).best_score is None
    assert standing.base_version == 0


def test_a_strategy_that_plans_more_than_its_parameters_say_is_followed() -> None:
    standing = begun()
    standing.observe("generation", {"generation": 0, "candidates": 2})
    standing.observe("generation", {"generation": 1, "candidates": 1})
    told = heard(standing)
    assert (told.generation, told.generations, told.candidates) == (2, 2, 3)


def test_progress_always_fits() -> None:
    told = {f"field{n}": "x" * 10_000 for n in range(100)}
    data = progress_bytes({"format": 1, **told})
    assert len(data) <= MAX_PROGRESS_BYTES
    assert json.loads(data)["format"] == 1
