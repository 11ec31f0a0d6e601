"""One thread that calls back at intervals, for every claim that this process holds.

A thread for each claim would cost a candidate that takes moments more than the rest of its orchestration. The thread
begins with the first caller and ends when there has been none for a moment. Called by `Duty`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

LONGEST_SLEEP_S = 1.0
"""The thread looks for new callers so often, and ends when there was none for so long."""

_log = logging.getLogger(__name__)


class Pulse:
    """Calls each of its callers every so many seconds, one after another."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[int, tuple[float, float, Callable[[], None]]] = {}
        self._last = 0
        self._calling = 0
        self._wakes = 0.0
        self._thread: threading.Thread | None = None

    def start(self, call: Callable[[], None], *, every_s: float) -> int:
        """Call `call` every so many seconds from now on; returns what `stop` wants."""
        with self._changed:
            self._last += 1
            first = time.monotonic() + every_s
            self._due[self._last] = (first, every_s, call)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="beats", daemon=True)
                self._thread.start()
            elif first < self._wakes:
                self._changed.notify_all()
            return self._last

    def stop(self, number: int) -> None:
        """Call no more; a call that goes on now has ended when this returns."""
        with self._changed:
            self._due.pop(number, None)
            while self._calling == number:
                self._changed.wait()

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                number = min(self._due, key=lambda one: self._due[one][0], default=0)
                if number and self._due[number][0] <= now:
                    self._call(number)
                    continue
                self._wakes = min(self._due[number][0] if number else now + LONGEST_SLEEP_S, now + LONGEST_SLEEP_S)
                self._changed.wait(self._wakes - now)
                if not number and not self._due:
                    self._thread = None
                    return

    def _call(self, number: int) -> None:
        """Call one that is due, without holding the lock, and say when it is due again."""
        _, every_s, call = self._due[number]
        self._calling = number
        self._changed.release()
        try:
            call()
        except Exception:  # noqa: BLE001 - the others' beats must go on
            _log.exception("a beat failed")
        finally:
            self._changed.acquire()
            self._calling = 0
            if number in self._due:
                self._due[number] = (time.monotonic() + every_s, every_s, call)
            self._changed.notify_all()
