"""Logs: one JSON line a record, with the Task it is about.

`about` says what is being worked on; every record that is logged meanwhile carries it. Set up by ``__main__``.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import TextIO

MAX_TEXT = 8000
_about: ContextVar[Mapping[str, object]] = ContextVar("about", default={})  # noqa: B039 - never changed in place


@contextlib.contextmanager
def about(**fields: object) -> Iterator[None]:
    """Let records carry these fields; None leaves one out."""
    known = {name: value for name, value in fields.items() if value is not None}
    token = _about.set({**_about.get(), **known})
    try:
        yield
    finally:
        _about.reset(token)


class JsonLines(logging.Formatter):
    """A record as one JSON object: time, level, logger, message, what it is about, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        fields: dict[str, object] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:MAX_TEXT],
            **_about.get(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)[-MAX_TEXT:]
        return json.dumps(fields, ensure_ascii=False, default=str)


def set_up(level: str, stream: TextIO | None = None) -> None:
    """Log from `level` on (debug, info, warning, error) to standard error. Raises ValueError for another word."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f'"{level}" is no log level; use debug, info, warning or error')
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    # kopf says much of every object at every event; what it has to say to us are its warnings.
    quiet = logging.WARNING if number > logging.DEBUG else number
    for name in ("kopf", "asyncio", "aiohttp.access"):
        logging.getLogger(name).setLevel(max(quiet, number))
