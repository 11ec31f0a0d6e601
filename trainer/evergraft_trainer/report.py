"""The final report of a worker: JSON of at most 4,096 bytes, written to a path, as a pod's termination message.

The operator reads it, so it says what the operator must know without opening the store. Called by the worker, and by
the parent of several, which makes one of theirs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from evergraft import canonical
from evergraft.errors import EvergraftError, StoppedError
from evergraft.graph.state import Graph
from evergraft.search.engine import OUTCOMES, Outcome, Request
from evergraft.store.headline import MAX_LISTED, all_totals, route_facts
from evergraft.store.seam import Store

T = TypeVar("T")

_log = logging.getLogger(__name__)

MAX_BYTES = 4096
MAX_REASON = 1000
SPARE = ("counters", "graph", "route")
"""What is left out first where the report would be too long."""

CLOSED = (*OUTCOMES.values(), "failed", "removed", "already")
"""Outcomes of a search that is closed at HEAD."""

CRASHED = 1
"""The exit code of a worker that ended by an error nobody expected."""


def closed(request: Request, outcome: Outcome, graph: Graph, store: Store) -> dict[str, Any]:
    """The report of a search that is closed; `committer` where it was this worker that closed it.

    What cannot be looked up any more is left out: the search is closed all the same.
    """
    task = request.spec.task
    state = graph.task(task)
    kind = outcome.kind
    if kind == "already" and state is not None and state.run == request.run and state.outcome is not None:
        kind = state.outcome  # it is this very run that HEAD has closed
    return {
        **about(request),
        "outcome": kind,
        "reason": outcome.reason,
        "version": outcome.version,
        "route": None if state is None else _known(lambda: route_facts(store, task, state)),
        "graph": _known(lambda: all_totals(store, graph, at_most=MAX_LISTED)),
        "committer": outcome.kind != "already",
        "exitCode": 0,
    }


def _known(look: Callable[[], T]) -> T | None:
    try:
        return look()
    except EvergraftError as error:
        _log.warning("left out of the report: %s", error)
        return None


def about(request: Request | None) -> dict[str, Any]:
    """Which run a report is of; nothing if none was read."""
    if request is None:
        return {}
    return {"task": request.spec.task, "search": request.search, "run": str(request.run)}


def failed(request: Request | None, error: BaseException, *, trace: str = "") -> dict[str, Any]:
    """The report of a worker that ended by an error before it knew its search closed."""
    if isinstance(error, EvergraftError):
        kind = "stopped" if isinstance(error, StoppedError) else "error"
        code = {} if error.code is None else {"code": error.code}
        return {**about(request), "outcome": kind, "reason": str(error), "exitCode": error.exit_code, **code}
    exit_code = 130 if isinstance(error, KeyboardInterrupt) else CRASHED
    kind = "stopped" if exit_code == 130 else "crashed"
    return {**about(request), "outcome": kind, "reason": trace[-MAX_REASON:] or str(error), "exitCode": exit_code}


def encode(report: Mapping[str, Any]) -> bytes:
    """The bytes of a report, at most 4,096: the reason is cut, then what matters least is left out."""
    whole = {"format": canonical.FORMAT, **report}
    whole["reason"] = _cut(str(whole.get("reason", "")), MAX_REASON)
    for spare in (None, *SPARE):
        whole.pop(spare or "", None)
        data = json.dumps(whole, ensure_ascii=True, sort_keys=True).encode()
        if len(data) <= MAX_BYTES:
            return data
    bare = {name: whole[name] for name in ("format", "outcome", "exitCode") if name in whole}
    return json.dumps({**bare, "reason": _cut(whole["reason"], 1000)}, ensure_ascii=True).encode()


def _cut(text: str, max_bytes: int) -> str:
    """The beginning of a text that takes at most so many bytes in ASCII JSON."""
    while (size := len(json.dumps(text))) > max_bytes + 2:
        text = text[: min(len(text) - 1, max(1, len(text) * max_bytes // size))]
    return text


def write(path: Path, data: bytes) -> None:
    """Write the report in place; the path is given by whoever started the worker.

    The work is over by then, so what the disk refuses now (it took the empty file at the start) is told and no more:
    the exit code stays the work's own.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        _log.warning("--report %s: the report cannot be written: %s", path, error.strerror)


@dataclass(frozen=True)
class Ended:
    """A child that has ended: its exit code (128 + n for signal n), and its report, empty if it left none."""

    code: int
    report: Mapping[str, Any]


TELLING = (65, 64, 66)
"""Exit codes that say most, since a person or another device must act; then crashes, then what passes by itself."""
PASSING = (75, 143, 130)


def merged(children: Sequence[Ended]) -> dict[str, Any]:
    """One report of several children: of one whose search is closed if there is any, else of the most telling end.

    Accelerator seconds and counters are sums. A signal that reached a child when its report was there already, its work
    over, says nothing: it ended as it reported.
    """
    children = [replace(child, code=0) if child.report.get("exitCode") == 0 else child for child in children]
    chosen = min(children, key=_rank)
    told = dict(chosen.report) or _unsaid(chosen.code)
    seconds = [child.report.get("acceleratorSeconds") or {} for child in children]
    counters: dict[str, float] = {}
    for child in children:
        for name, value in (child.report.get("counters") or {}).items():
            counters[name] = counters.get(name, 0.0) + float(value)
    return {
        **told,
        "exitCode": chosen.code,
        "acceleratorSeconds": {
            use: round(sum(float(one.get(use, 0.0)) for one in seconds), 3) for use in ("useful", "lost")
        },
        "counters": counters,
    }


def _unsaid(code: int) -> dict[str, Any]:
    """What is known of a child that left no report, such as one that was asked to stop while Python still started."""
    if code in (StoppedError.exit_code, 130):
        return {"outcome": "stopped", "reason": "asked to stop before it had begun"}
    return {"outcome": "crashed", "reason": f"a worker process ended with {code}"}


def _rank(child: Ended) -> tuple[int, int]:
    """Smallest first: closed (the committer before those that only saw it), then as TELLING, a crash, PASSING."""
    if child.code == 0:
        return 0, 0 if child.report.get("committer") else 1
    order = (*TELLING, None, *PASSING)
    return 1, order.index(child.code if child.code in order else None)
