"""How a run tells what happens: a bar per task on a terminal, one line an event elsewhere, JSON events on request."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from evergraft.cli.board import Board
from evergraft.search.events import Emit

STEP_LINES_S = 30.0


@contextmanager
def reporter(*, as_json: bool) -> Iterator[Emit]:
    """An event receiver for this process's standard error (bars, lines) or, with `as_json`, JSON lines there."""
    if as_json:
        yield _emit_json
    elif sys.stderr.isatty():
        with _bars() as emit:
            yield emit
    else:
        yield Lines()


MEASUREMENTS = ("timings", "idle", "standing")
"""Events for metrics only."""


def _emit_json(name: str, fields: Mapping[str, Any]) -> None:
    if name in MEASUREMENTS:
        return
    print(json.dumps({"event": name, **fields}), file=sys.stderr, flush=True)


class Lines:
    """One line an event; steps at most every half minute, so that long training is not silent."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, name: str, fields: Mapping[str, Any]) -> None:
        """Tell one event."""
        if name in MEASUREMENTS or (name == "step" and time.monotonic() - self._told < STEP_LINES_S):
            return
        self._told = time.monotonic()
        print(_line(name, fields), file=sys.stderr, flush=True)


def _line(name: str, fields: Mapping[str, Any]) -> str:
    """One event as one line."""
    rest = ", ".join(f"{key} {_short(value)}" for key, value in fields.items() if key != "task")
    return f"{fields.get('task', 'run')}: {name}{': ' if rest else ''}{rest}"


def _short(value: object) -> object:
    return f"{value:.4f}" if isinstance(value, float) else value


@contextmanager
def _bars() -> Iterator[Emit]:
    """A bar a task: samples of all its slots, generation, slots, best quality, samples a second, estimated end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]:>6}"),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    board = Board()
    bars: dict[str, TaskID] = {}
    lock = threading.Lock()
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def emit(name: str, fields: Mapping[str, Any]) -> None:
            with lock:
                row = board.see(name, fields, now=time.monotonic())
                if row is None and name in MEASUREMENTS:
                    return
                if row is None:
                    progress.console.print(_line(name, fields), markup=False)
                    return
                if row.task not in bars:
                    bars[row.task] = progress.add_task(row.task, total=row.total, left="", detail="")
                done = row.total if row.closed else min(row.samples, row.total)
                progress.update(bars[row.task], completed=done, left=_duration(row.left_s()), detail=row.detail())
                if row.ended:
                    progress.stop_task(bars[row.task])

        yield emit


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
