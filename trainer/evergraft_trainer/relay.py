"""What several workers of one pod serve, as one: their metrics added up, the progress of the furthest.

Each of them serves on a socket of its own; what one said last is kept, so that its counts do not vanish with it.
Called by the parent of several workers.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evergraft import canonical
from evergraft_trainer.status_server import Served
from evergraft_trainer.sums import summed

PATIENCE_S = 0.7
"""A kubelet waits a second for an answer."""
MAX_BYTES = 1 << 20


@dataclass
class Relay:
    """The sockets of the workers, and what came from each last."""

    sockets: Sequence[Path]
    _last: dict[tuple[Path, str], bytes] = field(default_factory=dict)

    def served(self) -> Served:
        """What the parent serves."""
        return Served(metrics=self.metrics, progress=self.progress)

    def metrics(self) -> bytes:
        """The workers' metrics, added up."""
        return summed(text.decode() for text in self._ask("/metrics"))

    def progress(self) -> Mapping[str, Any]:
        """The progress of the furthest, with the best that any has seen."""
        told = [value for data in self._ask("/progress") if isinstance(value := json.loads(data), dict)]
        return furthest(told)

    def _ask(self, path: str) -> list[bytes]:
        with ThreadPoolExecutor(max_workers=len(self.sockets)) as pool:
            answers = pool.map(lambda place: _get(place, path), self.sockets)
            for place, answer in zip(self.sockets, answers, strict=True):
                if answer is not None:
                    self._last[place, path] = answer
        return [self._last[place, path] for place in self.sockets if (place, path) in self._last]


def furthest(told: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """One progress of several: that of the furthest; counts and scores at their highest."""
    if not told:
        return {"format": canonical.FORMAT, "event": "starting"}
    names = ("generation", "generations", "candidatesDone", "candidates", "bestScore", "baseVersion")
    best = max(told, key=lambda one: (one.get("generation", -1), one.get("candidatesDone", -1)))
    highest = {
        name: max(one[name] for one in told if name in one) for name in names if any(name in one for one in told)
    }
    return {**best, **highest}


class _PathConnection(http.client.HTTPConnection):
    """HTTP over a socket of this machine."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(str(self._path))


def _get(place: Path, path: str) -> bytes | None:
    """The answer of one worker, None if it gives none: it starts, is busy, or has ended."""
    connection = _PathConnection(place)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read(MAX_BYTES) if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
