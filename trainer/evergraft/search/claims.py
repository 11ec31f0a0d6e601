"""Claims on slots: how workers share a search without a coordinator, and how a dead one's slot is taken over.

A claim is a create-only object; while its worker lives, a thread renews its beat. A claim whose beat stands still for
four intervals, by the reader's own monotonic clock, is dead; so is one that was released, or whose process ran on
this machine and is gone. Called by the engine through `Crew`.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from evergraft import names
from evergraft.errors import IntegrityError, StoppedError
from evergraft.graph.route import reading
from evergraft.search import host
from evergraft.search.deadline import Deadline
from evergraft.search.duty import Duty
from evergraft.search.folder import Folder
from evergraft.store.searches import WRITE_ID, get_json, put_json_if_absent

CRASHES = 3
"""So many claims in a row that ended neither released nor with a newer state make the slot's result `failed`."""


WORKER = uuid.uuid4().hex
"""This process's name among workers. One process is one worker, so an earlier claim of its own is free to it."""


@dataclass(frozen=True)
class Timing:
    """Seconds: between beats, of silence before a claim counts as dead, first and longest wait of an idle worker, and
    how long one listing may serve.
    """

    beat_s: float = 15.0
    dead_s: float = 60.0
    first_poll_s: float = 0.05
    longest_poll_s: float = 5.0
    fresh_s: float = 1.0


@dataclass
class Seen:
    """What this worker has seen of one place (a slot or the end): `since` is when its beat last changed."""

    result: bool = False
    claim: int = 0
    beat: tuple[int, float] = (0, 0.0)
    since: float = 0.0
    released: bool = False
    worker: str = ""
    process: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class View:
    """What the listing of the prefix `of` showed at a moment of the crew's clock."""

    of: str
    at: float
    places: Mapping[str, Seen]


class Stopping(Protocol):
    """How a process learns that it should stop. `training` is true while someone looks at `asked` by itself."""

    training: bool

    def asked(self) -> bool:
        """Whether to save and end."""
        ...


@dataclass
class Unstoppable:
    """Never asks."""

    training: bool = False

    def asked(self) -> bool:
        """No."""
        return False


@dataclass
class Crew:
    """This worker among the others of a search.

    `stop` is asked between steps of training, and told while one goes on. `on_idle` hears of every wait, in seconds.
    `expected` other workers are left their share of the open slots even before any of their claims is seen.
    """

    timing: Timing = field(default_factory=Timing)
    worker: str = WORKER
    stop: Stopping = field(default_factory=Unstoppable)
    on_idle: Callable[[float], None] = lambda seconds: None  # noqa: ARG005 - nobody listens
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    expected: int = 1
    _view: View | None = None
    _overtaken: bool = False
    _seen: dict[str, Seen] = field(default_factory=dict)
    _idle: int = 0
    _held: int = 0

    def look(self, folder: Folder, prefix: str) -> Mapping[str, Seen]:
        """The places below `prefix` of the search's folder, such as ``0002-`` or ``final``. One listing, or none.

        Where candidates take moments, one listing serves several claims: a place that is not free any more cannot be
        claimed, and then it is listed anew.
        """
        start = names.search_key(folder.search, "")
        view = self._view
        if view is not None and view.of == start + prefix and self.clock() - view.at < self.timing.fresh_s:
            return view.places
        objects: dict[str, dict[str, float]] = {}
        for entry in folder.store.list(start + prefix):
            place, _, name = entry.key.removeprefix(start).partition("/")
            objects.setdefault(place, {})[name] = entry.modified
        places = {place: self._update(folder, place, found) for place, found in objects.items()}
        self._view = View(of=start + prefix, at=self.clock(), places=places)
        return places

    def claim(self, folder: Folder, places: Sequence[str], seen: Mapping[str, Seen]) -> tuple[str, int] | None:
        """Claim one of `places` that is free, beginning where this worker's own turn begins.

        None if none is, or if another worker was faster: then look again, after `wait`.
        """
        if self.stop.asked():
            raise StoppedError("asked to stop")
        first = int(self.worker[:8], 16) % max(1, len(places))
        for place in (*places[first:], *places[:first]):
            known = seen.get(place, Seen())
            if self._is_free(known):
                number = known.claim + 1
                if self._create(folder, place, number):
                    self._idle = 0
                    return place, number
                self._overtaken = True
                break
        self._view = None
        return None

    def num_free(self, places: Sequence[str], seen: Mapping[str, Seen]) -> int:
        """How many of `places` could be claimed."""
        return sum(self._is_free(seen.get(place, Seen())) for place in places)

    def any_at_work(self, places: Sequence[str], seen: Mapping[str, Seen]) -> bool:
        """Whether a live claim is held on one of `places`."""
        claimed = (seen[place] for place in places if place in seen)
        return any(known.claim > 0 and not known.result and not self._is_free(known) for known in claimed)

    def has_died(self, folder: Folder, place: str) -> bool:
        """Whether the newest claim seen on `place` is of a process of this machine that is gone."""
        seen = self._seen.get(f"{folder.search}/{place}", Seen())
        return seen.process is not None and host.has_died(seen.process)

    def others(self, folder: Folder) -> int:
        """How many other workers share the search: as many as are expected, or as were seen alive lately."""
        workers = {
            seen.worker
            for place, seen in self._seen.items()
            if place.startswith(f"{folder.search}/") and seen.worker != self.worker and self._was_alive(seen)
        }
        return max(self.expected, len(workers))

    def wait(self) -> None:
        """Sleep before looking again: longer each time nothing was to be done, jittered. Not where others were faster
        just now, for then there may be more to do.
        """
        self._view = None
        if self._overtaken:
            self._overtaken = False
            return
        longest = min(self.timing.longest_poll_s, self.timing.first_poll_s * 2.0 ** min(self._idle, 20))
        self._idle += 1
        seconds = longest * (0.5 + 0.5 * random.random())
        self.sleep(seconds)
        self.on_idle(seconds)

    @contextmanager
    def working(
        self,
        folder: Folder,
        place: str,
        number: int,
        *,
        hang_after_s: float | None = None,
        deadline: Deadline | None = None,
    ) -> Iterator[Duty]:
        """Beats while the block runs; the claim is released if it ends without a result."""
        duty = Duty(
            folder=folder,
            place=place,
            claim=number,
            worker=self.worker,
            beat_s=self.timing.beat_s,
            hang_after_s=hang_after_s,
            asked_to_stop=self.stop.asked,
            deadline=deadline,
        )
        with duty:
            self._held += 1
            self.stop.training = True
            try:
                yield duty
            finally:
                self._held -= 1
                self.stop.training = self._held > 0

    def has_crashed_often(self, folder: Folder, place: str, number: int) -> bool:
        """Whether the `CRASHES` claims before `number` ended without a newer state, and their workers with them.

        A worker that released its claim, or that lived to see it taken over, has not crashed. What a state has come to
        compares with states of the same numeric profile only: under another, a worker begins anew.
        """
        if number <= CRASHES:
            return False
        ends = []
        newest: dict[str, int] = {}
        for claim in (claim for claim in folder.listed(place, "claim") if claim < number):
            state = get_json(folder.store, _key(folder, place, f"state-{claim}.json"), what="state") or {}
            beat = _passing(folder, place, f"beat-{claim}.json")
            with reading(_key(folder, place, f"state-{claim}.json")):
                profile, samples = str(state.get("profile")), int(state.get("samples", -1))
            lived = beat.get("released") is True or beat.get("superseded") is True
            ends.append(lived or samples > newest.get(profile, -1))
            newest[profile] = max(newest.get(profile, -1), samples)
        return len(ends) >= CRASHES and not any(ends[-CRASHES:])

    def _is_free(self, seen: Seen) -> bool:
        if seen.result:
            return False
        silent = self.clock() - seen.since > self.timing.dead_s
        died = seen.process is not None and host.has_died(seen.process)
        return seen.claim == 0 or seen.worker == self.worker or seen.released or silent or died

    def _was_alive(self, seen: Seen) -> bool:
        """Whether a claim's worker was at work not long ago, on a slot that may have its result by now."""
        recent = seen.claim > 0 and self.clock() - seen.since <= 2 * self.timing.dead_s
        return recent and not seen.released and not (seen.process is not None and host.has_died(seen.process))

    def _create(self, folder: Folder, place: str, number: int) -> bool:
        ours = {"worker": self.worker, WRITE_ID: uuid.uuid4().hex, "process": host.identity()}
        try:
            stands = put_json_if_absent(folder.store, _key(folder, place, f"claim-{number}.json"), ours)
        except IntegrityError:  # torn by a power cut: somebody's, and dead
            return False
        return bool(stands.get(WRITE_ID) == ours[WRITE_ID])

    def _update(self, folder: Folder, place: str, found: Mapping[str, float]) -> Seen:
        """Bring what is known of a place up to its listing (name to time of last write)."""
        seen = self._seen.setdefault(f"{folder.search}/{place}", Seen())
        seen.result = "result.json" in found
        if seen.result:
            return seen
        claim = max(_numbers(found, "claim"), default=0)
        beat = (claim, found.get(f"beat-{claim}.json", 0.0))
        if claim != seen.claim:
            claimed = _passing(folder, place, f"claim-{claim}.json")
            seen.worker, process = str(claimed.get("worker")), claimed.get("process")
            seen.process = process if isinstance(process, dict) else None
        if beat != seen.beat or claim != seen.claim:
            value: Mapping[str, Any] = {}
            if beat[1]:
                value = _passing(folder, place, f"beat-{claim}.json")
            seen.released = value.get("released") is True
            seen.since = self.clock()
        seen.claim, seen.beat = claim, beat
        return seen


def _numbers(found: Iterable[str], kind: str) -> Iterator[int]:
    """The numbers n of the objects ``<kind>-<n>.json``."""
    for name in found:
        number = name.removeprefix(f"{kind}-").removesuffix(".json")
        if name == f"{kind}-{number}.json" and number.isdecimal():
            yield int(number)


def _key(folder: Folder, place: str, name: str) -> str:
    return names.search_key(folder.search, f"{place}/{name}")


def _passing(folder: Folder, place: str, name: str) -> Mapping[str, Any]:
    """A claim or a beat; empty if there is none, or if a power cut tore it: it dies by silence like any other."""
    try:
        return get_json(folder.store, _key(folder, place, name), what=name) or {}
    except IntegrityError:
        return {}
