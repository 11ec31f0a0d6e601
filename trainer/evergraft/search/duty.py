"""One claim at work: its beat, written from a thread, and the question whether to go on.

Training calls `tell` at every step. The thread renews the beat, looks for a higher claim, and ends the process if no
step has come for too long. Called by the engine through `Crew.working`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from evergraft import canonical, names
from evergraft.errors import EvergraftError, NotFoundError, StoppedError, SupersededError
from evergraft.search.deadline import Deadline
from evergraft.search.folder import Folder
from evergraft.search.pulse import Pulse

HUNG_EXIT = 70
"""The exit code of a process that ends itself because its training stands still (EX_SOFTWARE)."""

_PULSE = Pulse()

_log = logging.getLogger(__name__)


@dataclass
class Duty:
    """A held claim, from the first beat to the last. Use as a context."""

    folder: Folder
    place: str
    claim: int
    worker: str
    beat_s: float
    hang_after_s: float | None
    asked_to_stop: Callable[[], bool]
    deadline: Deadline | None = None
    _time_is_up: bool = False
    _samples: int = 0
    _moved: float = field(default_factory=time.monotonic)
    _superseded: bool = False
    _number: int = 0

    def __enter__(self) -> Duty:
        self._number = _PULSE.start(self._pulse, every_s=self.beat_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop beating. An end that was asked for or that the world caused releases the claim, so that another worker
        takes over at once; a crash does not: it counts against the candidate.
        """
        _PULSE.stop(self._number)
        ended = isinstance(error, (EvergraftError, KeyboardInterrupt))
        if isinstance(error, SupersededError):
            self._beat(superseded=True)  # It was slow, not dead.
        elif ended:
            self._beat(released=True)

    def tell(self, samples: int) -> None:
        """Say that training has come to `samples`.

        Raises:
            SupersededError: a higher claim exists; what this one does counts no more.
        """
        self._samples, self._moved = samples, time.monotonic()
        if self._superseded:
            raise SupersededError(f"claim {self.claim} on {self.place} was taken over")

    @property
    def time_is_up(self) -> bool:
        """Whether the search's time limit is passed: the candidate is to end with its best state so far."""
        return self._time_is_up

    @property
    def should_stop(self) -> bool:
        """Whether to save the state and raise `stopped`."""
        return self.asked_to_stop()

    def stopped(self) -> StoppedError:
        """What to raise once the state is saved."""
        return StoppedError(f"asked to stop at sample {self._samples} of {self.place}; the state is saved")

    def _pulse(self) -> None:
        if self.hang_after_s is not None and time.monotonic() - self._moved > self.hang_after_s:
            _log.critical("%s: no step for %.0f s; this worker ends itself", self.place, self.hang_after_s)
            os._exit(HUNG_EXIT)
        self._beat()
        self._superseded = self._superseded or self._is_taken_over()
        self._time_is_up = self._time_is_up or self._has_passed()

    def _beat(self, *, released: bool = False, superseded: bool = False) -> None:
        """Write the beat; a store that fails is no reason to stop: the next beat tries again."""
        value = {
            "format": canonical.FORMAT,
            "worker": self.worker,
            "samples": self._samples,
            "released": released,
            **({"superseded": True} if superseded else {}),
        }
        try:
            self.folder.store.put(self._key("beat", self.claim), canonical.dumps(value))
        except EvergraftError as error:
            _log.warning("%s: beat not written: %s", self.place, error)

    def _is_taken_over(self) -> bool:
        try:
            self.folder.store.get(self._key("claim", self.claim + 1))
        except NotFoundError:
            return False
        except EvergraftError as error:
            _log.warning("%s: higher claims not looked for: %s", self.place, error)
            return False
        return True

    def _has_passed(self) -> bool:
        """Whether the beat just written lies beyond the time limit."""
        try:
            return self.deadline is not None and self.deadline.passed(f"{self.place}/beat-")
        except EvergraftError as error:
            _log.warning("%s: the time limit was not looked at: %s", self.place, error)
            return False

    def _key(self, kind: str, number: int) -> str:
        return names.search_key(self.folder.search, f"{self.place}/{kind}-{number}.json")
