"""What a run's live view shows, as a fold over its events: one row a task. Pure, but for the clock that is given.

Called by the progress of `run`, which draws the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CLOSED = ("committed", "kept", "already")
"""Outcomes of a task that is as far as it should be."""

RATE_WINDOW_S = 10.0
"""Samples a second are told over about this long."""


@dataclass
class Row:
    """One task. `samples` counts those of all its slots so far, `total` what the search may train."""

    task: str
    total: int
    began: float
    generation: int = 0
    slots: int = 0
    results: int = 0
    best: float | None = None
    note: str = ""
    ended: bool = False
    closed: bool = False
    trained: dict[tuple[int, int], int] = field(default_factory=dict)
    _rate: float = 0.0
    _mark: tuple[float, int] = (0.0, 0)

    @property
    def samples(self) -> int:
        """Samples trained so far, over all slots."""
        return sum(self.trained.values())

    def see(self, slot: tuple[int, int], samples: int, now: float) -> None:
        """A slot has come to `samples`."""
        self.trained[slot] = max(samples, self.trained.get(slot, 0))
        then, before = self._mark
        if now - then >= RATE_WINDOW_S / 10:
            newest = (self.samples - before) / (now - then)
            weight = min(1.0, (now - then) / RATE_WINDOW_S) if self._rate else 1.0
            self._rate = newest if then == 0.0 else self._rate * (1 - weight) + newest * weight
            self._mark = (now, self.samples)

    @property
    def rate(self) -> float:
        """Samples a second, lately."""
        return self._rate

    def left_s(self) -> float | None:
        """Seconds to the end at that rate; None while there is none."""
        return None if self.ended or self._rate <= 0 else max(0, self.total - self.samples) / self._rate

    def detail(self) -> str:
        """The row's right side, in words."""
        if self.ended:
            return self.note if self.best is None else f"{self.note}, quality {self.best:.4f}"
        parts = [f"generation {self.generation + 1}", f"{self.results}/{self.slots} slots"] if self.slots > 1 else []
        parts += [f"best {self.best:.4f}"] if self.best is not None else []
        parts += [f"{self.rate:,.0f}/s"] if self.rate > 0 else []
        return ", ".join(parts) or self.note


@dataclass
class Board:
    """All rows, in the order in which the tasks were begun."""

    rows: dict[str, Row] = field(default_factory=dict)

    def see(self, name: str, fields: Mapping[str, Any], *, now: float) -> Row | None:
        """Fold one event; the row it changed, if any."""
        task = str(fields.get("task", ""))
        if name == "search":
            self.rows[task] = Row(task=task, total=int(fields["samples"]), began=now, _mark=(now, 0))
        row = self.rows.get(task)
        if row is None:
            return None
        if name == "generation":
            row.generation, row.slots, row.results = int(fields["generation"]), int(fields["candidates"]), 0
        elif name in ("step", "validation"):
            row.see((int(fields["generation"]), int(fields["slot"])), int(fields["samples"]), now)
        elif name == "result":
            row.results += 1
        elif name == "done":
            row.ended, row.note = True, str(fields["outcome"])
            row.closed = row.note in CLOSED
        if name in ("validation", "result"):
            row.best = max(float(fields["quality"]), row.best or 0.0)
        return row
