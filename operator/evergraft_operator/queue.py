"""The operator's work queue: each key at most once, never twice at the same time, failures later and later.

Keys are taken in the order in which they are due, so that a key that fails or changes all the time holds up no other.
`Schedule` is the whole logic with the time as an argument; `Queue` lets workers wait for it. Filled by the handlers
and the controller, emptied by the controller's workers.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K")

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 300.0
REST_S = 0.2
"""How long a key rests that changed while it was worked on: what comes in bursts is seen together."""
SPARE_ROWS = 1000
"""How many outdated rows may lie in the heap before it is made anew."""


@dataclass
class Schedule(Generic[K]):
    """When which key is due. Times are seconds on one clock."""

    first_backoff_s: float = FIRST_BACKOFF_S
    max_backoff_s: float = MAX_BACKOFF_S
    rest_s: float = REST_S
    _due: dict[K, float] = field(default_factory=dict)
    _heap: list[tuple[float, int, K]] = field(default_factory=list)
    _running: set[K] = field(default_factory=set)
    _failures: dict[K, int] = field(default_factory=dict)
    _number: itertools.count[int] = field(default_factory=itertools.count)

    def add(self, key: K, due: float) -> None:
        """Make `key` due, unless it is so earlier."""
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        if key not in self._running:
            self._push(key)

    def take(self, now: float) -> tuple[K, float] | None:
        """The key that is due the longest and since when; it is being worked on until `done`. None if none is due."""
        self._drop_stale()
        if not self._heap or self._heap[0][0] > now:
            return None
        due, _, key = heapq.heappop(self._heap)
        del self._due[key]
        self._running.add(key)
        return key, due

    def done(self, key: K, now: float) -> None:
        """The work on `key` is over, for now or until it is due again."""
        self._running.discard(key)
        if key in self._due:
            self._due[key] = max(self._due[key], now + self.rest_s)
            self._push(key)

    def failed(self, key: K, now: float) -> float:
        """Try `key` again later, each time twice as late; the seconds until then."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        pause = min(self.max_backoff_s, self.first_backoff_s * 2.0 ** min(count, 32))
        self.add(key, now + pause)
        return pause

    def succeeded(self, key: K) -> None:
        """Forget that `key` failed."""
        self._failures.pop(key, None)

    def next_due(self) -> float | None:
        """When the next key is due, None if none will be."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def depth(self, now: float) -> int:
        """How many keys are due."""
        return sum(due <= now for due in self._due.values())

    def clear(self) -> None:
        """Forget every key, those too whose work was cut off: `done` is not called for them."""
        self._due.clear()
        self._heap.clear()
        self._failures.clear()
        self._running.clear()

    @property
    def running(self) -> int:
        """How many keys are being worked on."""
        return len(self._running)

    def _push(self, key: K) -> None:
        heapq.heappush(self._heap, (self._due[key], next(self._number), key))
        if len(self._heap) > 2 * len(self._due) + SPARE_ROWS:
            # A key that is due in a week and changes every minute would leave a row each time.
            self._heap = [(due, next(self._number), key) for key, due in self._due.items() if key not in self._running]
            heapq.heapify(self._heap)

    def _drop_stale(self) -> None:
        """Drop what was made due earlier since, or waits for its work to end."""
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) == due and key not in self._running:
                return
            heapq.heappop(self._heap)


class QueueClosedError(Exception):
    """No more keys are given out."""


class Queue(Generic[K]):
    """A Schedule that workers wait for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.schedule: Schedule[K] = Schedule()
        self._clock = clock
        self._changed = asyncio.Event()
        self._closed = False

    def add(self, key: K, delay_s: float = 0.0) -> None:
        """Make `key` due in `delay_s`, unless it is so earlier."""
        self.schedule.add(key, self._clock() + delay_s)
        self._changed.set()

    async def take(self) -> tuple[K, float]:
        """The next key, and the seconds it was due before; waits for one. Call `done` when the work is over.

        Raises:
            QueueClosedError: the queue was closed.
        """
        while not self._closed:
            now = self._clock()
            if (found := self.schedule.take(now)) is not None:
                return found[0], now - found[1]
            self._changed.clear()
            due = self.schedule.next_due()
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - now)):
                    await self._changed.wait()
            except TimeoutError:
                pass
        raise QueueClosedError

    def done(self, key: K, *, failed: bool = False) -> None:
        """The work on `key` is over; one that failed is tried again later and later."""
        if failed:
            self.schedule.failed(key, self._clock())
        else:
            self.schedule.succeeded(key)
        self.schedule.done(key, self._clock())
        self._changed.set()

    def depth(self) -> int:
        """How many keys are due."""
        return self.schedule.depth(self._clock())

    def clear(self) -> None:
        """Forget every key, once nobody works on any."""
        self.schedule.clear()

    def close(self) -> None:
        """Give out no more keys."""
        self._closed = True
        self._changed.set()
