"""How a worker logs: one JSON object a line, or plain lines where a person is watching.

Every JSON line says which task, search, attempt and worker it is of, whoever logged it. Called by
``evergraft worker``.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

from evergraft.cli.progress import MEASUREMENTS, Lines
from evergraft.search.events import Emit

FROM_ENVIRONMENT = {
    "uid": "EVERGRAFT_TASK_UID",
    "attempt": "EVERGRAFT_ATTEMPT",
    "device": "EVERGRAFT_WORKER_NUMBER",
}
"""Fields of every line that whoever started the worker knows."""


def worker_log(environment: Mapping[str, str]) -> Emit:
    """An event receiver; what anything else logs goes the same way."""
    if sys.stderr.isatty():
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, force=True)
        return Lines()
    lines = _JsonLines({name: environment[key] for name, key in FROM_ENVIRONMENT.items() if environment.get(key)})
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(lines)
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logger = logging.getLogger("evergraft.events")

    def emit(name: str, fields: Mapping[str, Any]) -> None:
        lines.know(fields)
        level = logging.DEBUG if name in ("step", *MEASUREMENTS) else logging.INFO
        logger.log(level, name, extra={"fields": fields})

    return emit


class _JsonLines(logging.Formatter):
    """Time (UTC), level, event; whose it is, as far as known; the event's own fields: generation, slot …"""

    KNOWN = ("task", "search", "worker")

    def __init__(self, known: Mapping[str, str]) -> None:
        super().__init__()
        self._known: dict[str, Any] = dict(known)

    def know(self, fields: Mapping[str, Any]) -> None:
        """Remember from an event what later lines are of."""
        for name in self.KNOWN:
            if name in fields:
                self._known.setdefault(name, fields[name])

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        time = datetime.datetime.fromtimestamp(record.created, tz=datetime.UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= {"logger": record.name} if record.name != "evergraft.events" else {}
        line |= {"error": self.formatException(record.exc_info)} if record.exc_info else {}
        return json.dumps({**line, **self._known, **getattr(record, "fields", {})}, default=str)
