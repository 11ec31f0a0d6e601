"""When to try a commit that others are trying too: the more there are, the more rarely, and who lost often goes first.

Every commit needs the next version's one name, so of n writers that all try at once n - 1 waste their round trips,
and slow down the one. Each process estimates from its own luck how many there are, and spreads its attempts so that
about every second one lands. Kept per URL, so that who has just landed does not cut in; forgotten after a pause.
Called by the log alone; correctness rests on the conditional create, never on this.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from evergraft.store.retry import Retry

GROWTH = 1.5
"""A lost race makes the crowd seem larger by this factor and a landed commit smaller, so half of the attempts land."""

MAX_CROWD = 256.0
PATIENCE = 8
"""Lost races after which a writer waits half as long as the crowd would have it."""

FORGOTTEN_S = 2.0
"""Without an attempt for so long, a process expects to be alone again."""


@dataclass
class Turns:
    """What one process believes of one URL: `crowd` writers at once, a create's `cost_s`, `rate` commits a second."""

    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    crowd: float = 1.0
    cost_s: float = 0.0
    rate: float = 0.0
    _looked_s: float = 0.0
    _last_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def wait(self, lost: int, *, patience: Retry) -> None:
        """Sleep before an attempt of a commit that has lost so many races; not at all if nobody else seems to try.

        No single wait is longer than `patience.cap_s`.
        """
        with self._lock:
            if self.clock() - self._last_s > FORGOTTEN_S:
                self.crowd = 1.0
            longest = (self.crowd - 1.0) * self.cost_s * PATIENCE / (PATIENCE + lost)
        if longest > 0.0:
            patience.sleep(min(longest * patience.chance(), patience.cap_s))

    def expected(self) -> int:
        """How many commits others made since HEAD was last seen, so that they are read in one trip; 0 if unknown."""
        with self._lock:
            since_s = self.clock() - self._looked_s
            return 0 if since_s > FORGOTTEN_S else min(MAX_EXPECTED, int(self.rate * since_s))

    def saw(self, commits: int) -> None:
        """HEAD has been seen, with so many commits of others since the last time."""
        with self._lock:
            now = self.clock()
            since_s = max(now - self._looked_s, 1e-3)
            latest = 0.0 if since_s > FORGOTTEN_S else commits / since_s
            self.rate += 0.3 * (latest - self.rate)
            self._looked_s = now

    def note(self, *, landed: bool, seconds: float) -> None:
        """How an attempt went, and how long it took from the look at HEAD to the answer."""
        with self._lock:
            self.crowd = max(1.0, self.crowd / GROWTH) if landed else min(MAX_CROWD, self.crowd * GROWTH)
            slower = seconds > self.cost_s > 0.0
            self.cost_s = self.cost_s + 0.1 * (seconds - self.cost_s) if slower else seconds
            self._last_s = self.clock()


MAX_EXPECTED = 32

_turns: dict[str, Turns] = {}


def turns_at(url: str) -> Turns:
    """What this process believes of `url`."""
    return _turns.setdefault(url, Turns())
