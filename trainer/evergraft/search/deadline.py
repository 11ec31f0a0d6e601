"""A search's time limit, told by the store's own timestamps: from search.json's creation to the newest write seen.

No worker's clock is asked, so workers whose clocks differ agree. A passed limit is recorded once, in stop.json, with
the slots that count; from then on the strategy must finish, and a replay does the same. Called by the engine, and by
the beat of a candidate in training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from evergraft import names
from evergraft.graph.route import reading
from evergraft.search.folder import Folder
from evergraft.search.values import SlotRef


@dataclass
class Deadline:
    """The limit of one search in seconds; None for none."""

    folder: Folder
    timeout_s: float | None
    _created: float | None = None
    _newest: float = 0.0

    def passed(self, prefix: str) -> bool:
        """Whether the limit is passed, as far as the newest write seen so far below any asked `prefix` tells."""
        if self.timeout_s is None:
            return False
        start = names.search_key(self.folder.search, prefix)
        seen = (entry.modified for entry in self.folder.store.list(start))
        self._newest = max(self._newest, max(seen, default=0.0))
        return self._newest - self._created_at() > self.timeout_s

    def _created_at(self) -> float:
        if self._created is None:
            key = names.search_key(self.folder.search, "search.json")
            found = [entry.modified for entry in self.folder.store.list(key) if entry.key == key]
            self._created = found[0] if found else float("inf")
        return self._created


@dataclass(frozen=True)
class Stop:
    """A recorded stop: why, in which generation, and whose results of it count; earlier generations count whole."""

    reason: str
    generation: int
    slots: tuple[int, ...]

    def counts(self, ref: SlotRef) -> bool:
        """Whether the result of a slot counts."""
        return ref.generation < self.generation or (ref.generation == self.generation and ref.slot in self.slots)

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"reason": self.reason, "generation": self.generation, "slots": list(self.slots)}

    @classmethod
    def from_json(cls, value: Any) -> Stop:
        """Read the JSON form; raises IntegrityError where a field is missing or wrong."""
        with reading("stop.json"):
            slots = tuple(sorted(int(slot) for slot in value["slots"]))
            return cls(reason=str(value["reason"]), generation=int(value["generation"]), slots=slots)


def time_is_up(timeout_s: float, *, generation: int, slots: Iterable[int]) -> Stop:
    """The stop of a search whose limit is passed in `generation`, with the results of `slots`."""
    return Stop(f"timeouts.search of {timeout_s:g} s is passed", generation, tuple(sorted(slots)))
