"""Try again what the world made fail: with a capped, jittered backoff, and counted.

Called by the object store around each request and by the log around lost races. Time and chance are arguments,
so that tests need neither.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Counters:
    """Counts of what happened, by name, safe for threads; metrics read them."""

    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, name: str, number: int = 1) -> None:
        """Count `number` more of `name`."""
        with self._lock:
            self.counts[name] += number


COUNTERS = Counters()
"""This process's counts: ``retry get``, ``lost race``, ``unknown answer``, …"""


@dataclass(frozen=True)
class Retry:
    """How patient to be: `attempts` in all, waiting at most `first_s`, doubled each time, at most `cap_s`."""

    attempts: int = 6
    first_s: float = 0.1
    cap_s: float = 8.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    chance: Callable[[], float] = field(default=random.random, repr=False)

    def wait(self, attempt: int) -> None:
        """Sleep before attempt number `attempt` + 1 (counted from 0): between half and all of the doubled time."""
        longest = min(self.cap_s, self.first_s * 2.0 ** min(attempt, 30))
        self.sleep(longest * (0.5 + 0.5 * self.chance()))
