"""A worker's final report: never too long, read by the operator, one of several children's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergraft.errors import (
    DataError,
    EvergraftError,
    ImageVersionError,
    OutOfMemoryError,
    RouteRemovedError,
    SpecDiffersError,
    StoppedError,
    StoreConflictError,
    UserError,
)
from evergraft_operator import report as operator
from evergraft_trainer.report import MAX_BYTES, Ended, encode, failed, merged, write

ROUTE = {"id": "ab" * 32, "quality": 0.9}


@given(
    st.text(max_size=5000),
    st.dictionaries(st.text(min_size=40, max_size=80), st.floats(0, 1e9), max_size=60),
    st.text(max_size=300),
)
def test_a_report_fits_and_says_why(reason: str, counters: dict[str, float], parent: str) -> None:
    whole = {"task": "a/b", "run": "i1-c1", "outcome": "committed", "exitCode": 0, "reason": reason}
    data = encode({**whole, "route": {**ROUTE, "parentTask": parent}, "counters": counters})
    assert len(data) <= MAX_BYTES
    told = operator.worker_report(data.decode())
    assert told is not None
    assert told.outcome == "committed"
    assert reason.startswith(json.loads(data)["reason"])
    assert told.route is not None  # counters go first


@pytest.mark.parametrize(
    ("error", "outcome", "code", "exit_code"),
    [
        (UserError("x"), "error", None, 64),
        (DataError("x"), "error", None, 65),
        (OutOfMemoryError("x"), "error", None, 66),
        (StoppedError("x"), "stopped", None, 143),
        (ImageVersionError("x"), "error", "ImageVersion", 64),
        (SpecDiffersError("x"), "error", "SpecDiffersFromCommitted", 64),
        (RouteRemovedError("x"), "error", "RouteRemoved", 64),
        (StoreConflictError("x"), "error", "StoreConflict", 75),
        (KeyboardInterrupt(), "stopped", None, 130),
        (ZeroDivisionError("x"), "crashed", None, 1),
    ],
)
def test_an_end_by_an_error_is_one_the_operator_knows(
    error: BaseException, outcome: str, code: str | None, exit_code: int
) -> None:
    said = failed(None, error)
    told = operator.worker_report(encode(said).decode())
    assert told is not None
    assert (told.outcome, told.code, said["exitCode"]) == (outcome, code, exit_code)


def test_every_code_is_one_that_the_operator_reads() -> None:
    def below(kind: type[EvergraftError]) -> set[type[EvergraftError]]:
        return {kind, *(found for sub in kind.__subclasses__() for found in below(sub))}

    assert {kind.code for kind in below(EvergraftError)} - {None} == set(operator.CODES)


def child(code: int, outcome: str | None = None, **more: Any) -> Ended:
    return Ended(code, {} if outcome is None else {"outcome": outcome, "reason": outcome, **more})


@pytest.mark.parametrize(
    ("children", "code", "outcome"),
    [
        ((child(143, "stopped"), child(0, "committed")), 0, "committed"),
        ((child(0, "committed"), child(0, "committed", committer=True, version=7)), 0, "committed"),
        ((child(143, "stopped"), child(66, "error"), child(75, "error")), 66, "error"),
        ((child(137), child(143, "stopped")), 137, "crashed"),
        ((child(75, "error"), child(143, "stopped")), 75, "error"),
        ((child(143), child(143)), 143, "stopped"),
        ((child(64, "error"), child(65, "error"), child(137)), 65, "error"),
        ((child(143, "stopped"), child(143, "stopped")), 143, "stopped"),
    ],
)
def test_of_several_ends_the_most_telling_is_the_pod_s(children: tuple[Ended, ...], code: int, outcome: str) -> None:
    for order in (children, children[::-1]):
        found = merged(order)
        assert (found["exitCode"], found["outcome"]) == (code, outcome)
        assert found.get("version") == next(
            (one.report["version"] for one in children if "version" in one.report), None
        )


def test_seconds_and_counters_of_several_are_added_up() -> None:
    one = child(0, "committed", acceleratorSeconds={"useful": 10.5, "lost": 1}, counters={"a": 1, "b": 2})
    two = child(143, "stopped", acceleratorSeconds={"useful": 4, "lost": 0.5}, counters={"b": 3})
    found = merged([one, two, child(137)])
    assert found["acceleratorSeconds"] == {"useful": 14.5, "lost": 1.5}
    assert found["counters"] == {"a": 1.0, "b": 5.0}


def test_a_signal_to_a_child_whose_work_is_over_changes_nothing() -> None:
    over = Ended(StoppedError.exit_code, {"outcome": "committed", "exitCode": 0, "committer": True})
    stopped = Ended(StoppedError.exit_code, {"outcome": "stopped", "exitCode": StoppedError.exit_code})
    found = merged([stopped, over])
    assert (found["exitCode"], found["outcome"]) == (0, "committed")
    assert merged([stopped])["exitCode"] == StoppedError.exit_code


def test_a_disk_that_fails_at_the_end_is_told_and_no_crash(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "gone" / "report.json", b"{}")
    assert "gone/report.json: the report cannot be written: No such file" in caplog.text
