"""How far a search is, as one worker knows it: the JSON that `/progress` answers. A fold over the search's events.

Generations count from 0; candidates are those of the whole search, whoever trains them. Called by the worker, read by
the status server; the operator shows it in a Task's status.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evergraft import canonical
from evergraft.api.resolved import ResolvedSearch

UNTOLD = ("timings", "idle", "standing")
"""Events that are measurements, and no news of their own."""

PASSED_ON = ("generation", "slot", "samples", "quality")


@dataclass
class Standing:
    """The newest of everything that is told. Safe to read from other threads."""

    worker: str
    _fields: dict[str, Any] = field(default_factory=dict)
    _planned: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, *, task: str, run: str, search: str, spec: ResolvedSearch) -> None:
        """What is worked on, and how much of it there may be."""
        generations, candidates = planned(spec)
        with self._lock:
            self._fields |= {"task": task, "run": run, "search": search}
            self._fields |= {"generations": generations, "candidates": candidates, "candidatesDone": 0}

    def observe(self, name: str, fields: Mapping[str, Any]) -> None:
        """Fold one event."""
        with self._lock:
            if name not in UNTOLD:
                self._fields["event"] = name
            self._fields |= {key: fields[key] for key in PASSED_ON if fields.get(key) is not None}
            if name == "generation":
                self._planned[int(fields["generation"])] = int(fields["candidates"])
                for key, seen in (("generations", max(self._planned) + 1), ("candidates", sum(self._planned.values()))):
                    self._fields[key] = max(seen, self._fields.get(key, 0))
            if name == "standing":
                told = {key: fields.get(key) for key in ("candidatesDone", "bestScore", "baseVersion")}
                self._fields |= {key: value for key, value in told.items() if value is not None}

    @property
    def base_version(self) -> int | None:
        """The graph's version that the search decides by, once known."""
        with self._lock:
            return self._fields.get("baseVersion")

    def document(self) -> dict[str, Any]:
        """What `/progress` answers."""
        with self._lock:
            return {"format": canonical.FORMAT, "worker": self.worker, **self._fields}


def planned(spec: ResolvedSearch) -> tuple[int, int]:
    """(generations, candidates in all) that a search may come to; one of one where the parameters do not say."""
    given = spec.parameters
    generations, each = (
        value if isinstance(value, int) and value > 0 else 1
        for value in (given.get("generations"), given.get("candidates"))
    )
    return generations, generations * each
