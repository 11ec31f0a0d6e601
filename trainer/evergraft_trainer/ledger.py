"""Accelerator seconds of one worker by use: useful, or lost.

Only time spent on candidates counts; waiting for others, reading and checking data do not. *Useful* is time whose
outcome stays: up to a result that stands or a saved state that another worker can go on from. *Lost* is time whose
outcome is thrown away: of a candidate that another worker took over, and since the last saved state where training
ended in an error. Fed by the worker's trainer and by events; read by the final report.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from evergraft.search.values import SlotRef


@dataclass
class Ledger:
    """Seconds of one device. Time is shared equally by the candidates that are in training side by side."""

    clock: Callable[[], float] = time.monotonic
    _useful: float = 0.0
    _lost: float = 0.0
    _since: float = 0.0
    _safe: dict[SlotRef, float] = field(default_factory=dict)
    _open: dict[SlotRef, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, *slots: SlotRef) -> None:
        """These candidates are in training from now on."""
        with self._lock:
            self._pass()
            self._open.update(dict.fromkeys(slots, 0.0))
            self._safe.update(dict.fromkeys(slots, 0.0))

    def save(self, slot: SlotRef) -> None:
        """The candidate's state is saved: what was spent on it so far stays, unless another takes it over."""
        with self._lock:
            self._pass()
            if slot in self._open:
                self._safe[slot] += self._open[slot]
                self._open[slot] = 0.0

    def settle(self, slot: SlotRef, *, counts: bool) -> None:
        """The candidate is done with here; `counts` unless all that was spent on it is thrown away."""
        with self._lock:
            self._pass()
            spent = self._safe.pop(slot, 0.0) + self._open.pop(slot, 0.0)
            if counts:
                self._useful += spent
            else:
                self._lost += spent

    def end(self, *, saved: bool) -> None:
        """Training ends with candidates unfinished: their states are `saved`, or what came after the last is lost."""
        with self._lock:
            self._pass()
            for slot, spent in self._open.items():
                self._useful += self._safe[slot] + (spent if saved else 0.0)
                self._lost += 0.0 if saved else spent
            self._open.clear()
            self._safe.clear()

    def totals(self) -> dict[str, float]:
        """Seconds by use so far; what is under way counts as useful."""
        with self._lock:
            self._pass()
            under_way = sum(self._safe.values()) + sum(self._open.values())
            return {"useful": round(self._useful + under_way, 3), "lost": round(self._lost, 3)}

    def _pass(self) -> None:
        """Hand the time since the last look to whoever is in training."""
        now = self.clock()
        for slot in self._open:
            self._open[slot] += (now - self._since) / len(self._open)
        self._since = now
