"""How a run tells what happens: a bar per task on a terminal, one line an event elsewhere, JSON events on request."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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
        yield _Lines()


def _emit_json(name: str, fields: Mapping[str, Any]) -> None:
    print(json.dumps({"event": name, **fields}), file=sys.stderr, flush=True)


def worker_log() -> Emit:
    """One JSON object a line on standard error, for events and for everything that is logged."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logger = logging.getLogger("evergraft.events")

    def emit(name: str, fields: Mapping[str, Any]) -> None:
        level = logging.DEBUG if name in ("step", "idle") else logging.INFO
        logger.log(level, name, extra={"fields": fields})

    return emit


class _JsonLines(logging.Formatter):
    """Time (UTC), level, event, and the event's own fields: task, search, worker, generation, slot …"""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, tz=datetime.UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= {"logger": record.name} if record.name != "evergraft.events" else {}
        line |= {"error": self.formatException(record.exc_info)} if record.exc_info else {}
        return json.dumps({**line, **getattr(record, "fields", {})}, default=str)


class _Lines:
    """One line an event; steps at most every half minute, so that long training is not silent."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, name: str, fields: Mapping[str, Any]) -> None:
        if name == "step" and time.monotonic() - self._told < STEP_LINES_S:
            return
        self._told = time.monotonic()
        rest = ", ".join(f"{key} {_short(value)}" for key, value in fields.items() if key != "task")
        print(f"{fields.get('task', 'run')}: {name}{': ' if rest else ''}{rest}", file=sys.stderr, flush=True)


def _short(value: object) -> object:
    return f"{value:.4f}" if isinstance(value, float) else value


@contextmanager
def _bars() -> Iterator[Emit]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    rows: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def emit(name: str, fields: Mapping[str, Any]) -> None:
            task = fields.get("task")
            if task is None:
                progress.console.print(f"{name}: " + ", ".join(f"{k} {_short(v)}" for k, v in fields.items()))
            elif name == "search":
                rows[task] = progress.add_task(task, total=fields["samples"], note="")
            elif task in rows:
                _update(progress, rows[task], name, fields)

        yield emit


def _update(progress: Any, row: Any, name: str, fields: Mapping[str, Any]) -> None:
    if name == "step":
        progress.update(row, completed=fields["samples"])
    elif name == "validation":
        progress.update(row, note=f"quality {fields['quality']:.4f}")
    elif name == "done":
        progress.update(row, note=f"{fields['outcome']}: {fields['reason'][:60]}")
        progress.stop_task(row)
