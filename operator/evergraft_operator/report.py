"""What workers and stewards tell: a termination message of at most 4,096 bytes, and the JSON of `/progress`.

Both are untrusted: a worker's image may be anybody's. Too long, no JSON or of a newer format is nothing heard; a
field that makes no sense is left out. Called by ``runs``, ``stewards`` and ``status``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evergraft import canonical
from evergraft.names import RunKey
from evergraft_operator import reading
from evergraft_operator.reading import Moment

MAX_BYTES = 4096
OUTCOMES = ("committed", "kept", "none", "failed", "removed")
"""How a run ends at HEAD."""
CODES = ("ImageVersion", "SpecDiffersFromCommitted", "RouteRemoved", "StoreConflict")
"""What a report may say more precisely than the exit code does."""
_HEX = re.compile(r"[0-9a-f]{1,64}")


@dataclass(frozen=True)
class RouteReport:
    """A task's serving route. `quality`, `score` and `test_quality` in 0…1."""

    id: str
    version: int | None = None
    run: str | None = None
    quality: float | None = None
    score: float | None = None
    test_quality: float | None = None
    parent_task: str | None = None
    parameters_added: int | None = None
    stopped_early: bool = False


@dataclass(frozen=True)
class Totals:
    """A graph in figures, at `version`."""

    version: int
    tasks: int | None = None
    modules: int | None = None
    parameters: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class WorkerReport:
    """The end of one worker. `outcome` is one of OUTCOMES, or already, error, stopped, crashed."""

    task: str
    run: str
    outcome: str
    reason: str
    code: str | None = None
    version: int | None = None
    base: int | None = None
    route: RouteReport | None = None
    totals: Totals | None = None
    useful_s: int | None = None
    lost_s: int | None = None


@dataclass(frozen=True)
class Progress:
    """What a running worker says of its search. Generations count from 1; candidates are those of the whole search.

    `samples` of its candidate are trained: a sign of life between results, which makes no other words of the same.
    """

    run: str | None = None
    event: str = ""
    generation: int | None = None
    generations: int | None = None
    candidates_done: int | None = None
    candidates: int | None = None
    best_score: float | None = None
    base: int | None = None
    samples: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Heard:
    """`progress` as first heard in these words at `at`: the same words again leave the time alone."""

    progress: Progress
    at: Moment


@dataclass(frozen=True)
class HeadState:
    """What HEAD says of one task; no `run` if it never heard of it."""

    run: RunKey | None = None
    outcome: str | None = None
    task_hash: str | None = None
    route: RouteReport | None = None


def document(message: Any) -> Mapping[str, Any]:
    """The JSON object in a termination message or answer, empty unless it is of a format this version reads."""
    value = reading.json_object(message, max_bytes=MAX_BYTES)
    number = reading.whole(value.get("format", canonical.FORMAT), low=1)
    return value if number is not None and number <= canonical.FORMAT else {}


def worker_report(message: Any) -> WorkerReport | None:
    """A worker's final report, None if the message is none."""
    value = document(message)
    outcome = reading.text(value.get("outcome"), 16)
    if outcome not in (*OUTCOMES, "already", "error", "stopped", "crashed"):
        return None
    run, code = reading.text(value.get("run"), 32), reading.text(value.get("code"), 64)
    seconds = reading.mapping(value, "acceleratorSeconds")
    return WorkerReport(
        task=reading.text(value.get("task")),
        run=run,
        outcome=outcome,
        reason=reading.text(value.get("reason"), 1000),
        code=code if code in CODES else None,
        version=reading.whole(value.get("version")),
        base=reading.whole(value.get("baseVersion")),
        route=route_report(value.get("route"), version=value.get("version"), run=run),
        totals=totals(value.get("graph")),
        useful_s=_whole_seconds(seconds.get("useful")),
        lost_s=_whole_seconds(seconds.get("lost")),
    )


def route_report(value: Any, *, version: Any = None, run: str | None = None) -> RouteReport | None:
    """A route in a report, None if it names none."""
    fields = reading.mapping(value)
    route = reading.text(fields.get("id"), 64)
    if not _HEX.fullmatch(route):
        return None
    return RouteReport(
        id=route,
        version=reading.whole(fields.get("version", version)),
        run=str(key) if (key := run_key(fields.get("run", run))) else None,
        quality=reading.number(fields.get("quality"), high=1.0),
        score=reading.number(fields.get("score"), high=1.0),
        test_quality=reading.number(fields.get("testQuality"), high=1.0),
        parent_task=reading.text_or_none(fields.get("parentTask")),
        parameters_added=reading.whole(fields.get("parametersAdded")),
        stopped_early=fields.get("stoppedEarly") is True,
    )


def totals(value: Any) -> Totals | None:
    """A graph's figures, None without a version."""
    fields = reading.mapping(value)
    version = reading.whole(fields.get("version"))
    if version is None:
        return None
    names = ("tasks", "modules", "parameters", "bytes")
    return Totals(version=version, **{name: reading.whole(fields.get(name)) for name in names})


def progress(message: Any) -> Progress | None:
    """What `/progress` answered, None if that is nothing to go by."""
    value = document(message)
    if not value:
        return None
    generation = reading.whole(value.get("generation"), high=10**9)  # Workers count from 0, people from 1.
    return Progress(
        run=str(key) if (key := run_key(value.get("run"))) else None,
        event=reading.text(value.get("event"), 32),
        generation=None if generation is None else generation + 1,
        generations=reading.whole(value.get("generations"), high=10**9),
        candidates_done=reading.whole(value.get("candidatesDone"), high=10**9),
        candidates=reading.whole(value.get("candidates"), high=10**9),
        best_score=reading.number(value.get("bestScore"), high=1.0),
        base=reading.whole(value.get("baseVersion")),
        samples=reading.whole(value.get("samples")),
    )


def head_state(value: Any) -> HeadState | None:
    """One task in a steward's answer about HEAD; None if it was not read."""
    if not isinstance(value, dict):
        return None
    run, outcome = run_key(value.get("run")), reading.text(value.get("outcome"), 16)
    if run is None:
        return HeadState() if value.get("run") is None else None
    if outcome not in OUTCOMES:
        return None
    task_hash = reading.text(value.get("taskHash"), 64)
    return HeadState(
        run=run,
        outcome=outcome,
        task_hash=task_hash if _HEX.fullmatch(task_hash) and len(task_hash) >= 16 else None,
        route=route_report(value.get("route")),
    )


def run_key(value: Any) -> RunKey | None:
    """A run key such as ``i1-c2``, None if it is none."""
    try:
        return RunKey.parse(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _whole_seconds(value: Any) -> int | None:
    """Rounded up: searches of less than half a second would cost nothing otherwise, however many there are."""
    found = reading.number(value)
    return None if found is None else math.ceil(found)
