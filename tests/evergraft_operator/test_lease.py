"""The Lease: one leader, deadlines on a fake clock, a forced double leader that cannot write."""

from __future__ import annotations

import asyncio
import copy
import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergraft_operator import reading
from evergraft_operator.client import TIMEOUT_S, ConflictedError, UnreachableError
from evergraft_operator.lease import DURATION_S, RENEW_DEADLINE_S, RETRY_S, Lease, NotLeadingError, stand


@dataclass
class Store:
    """A Lease in memory, with the API server's optimistic locking."""

    lease: dict[str, Any] | None = None
    version: int = 0
    down: bool = False

    async def read(self) -> dict[str, Any] | None:
        self._reach()
        return copy.deepcopy(self.lease)

    async def create(self, spec: dict[str, Any]) -> None:
        self._reach()
        if self.lease is not None:
            raise ConflictedError("exists")
        self._put(spec)

    async def replace(self, lease: Mapping[str, Any], spec: dict[str, Any]) -> None:
        self._reach()
        if self.lease is None or lease["metadata"] != self.lease["metadata"]:
            raise ConflictedError("changed")
        self._put(spec)

    def _put(self, spec: dict[str, Any]) -> None:
        self.version += 1
        self.lease = {"metadata": {"resourceVersion": str(self.version)}, "spec": copy.deepcopy(spec)}

    def _reach(self) -> None:
        if self.down:
            raise UnreachableError("no answer")


@dataclass
class World:
    """A store, a clock, and candidates whose own wall clocks are wrong."""

    store: Store = field(default_factory=Store)
    now: float = 1000.0

    def candidate(self, name: str, *, skew_s: float = 0) -> Lease:
        start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        return Lease(
            self.store,
            name,
            clock=lambda: self.now,
            today=lambda: start + datetime.timedelta(seconds=self.now + skew_s),
        )


def attempt(lease: Lease) -> bool:
    return asyncio.run(lease.attempt())


def test_the_first_leads_and_the_second_waits() -> None:
    world = World()
    first, second = world.candidate("a"), world.candidate("b")
    assert (attempt(first), attempt(second)) == (True, False)
    first.check()
    with pytest.raises(NotLeadingError):
        second.check()


def test_a_leader_that_renews_leads_on_and_one_that_is_silent_is_succeeded() -> None:
    world = World()
    first, second = world.candidate("a"), world.candidate("b", skew_s=-86_400)
    attempt(first)
    for _ in range(20):
        world.now += RETRY_S
        assert (attempt(first), attempt(second)) == (True, False)
    silent = world.now
    while not attempt(second):
        world.now += RETRY_S
    assert DURATION_S < world.now - silent <= DURATION_S + 2 * RETRY_S
    assert (first.leads, attempt(first)) == (False, False)
    assert world.store.lease is not None
    assert world.store.lease["spec"]["leaseTransitions"] == 1


def test_no_write_that_a_leader_begins_can_land_under_the_next() -> None:
    """The last moment to begin one, and the longest it takes, end before anybody else may begin."""
    assert RENEW_DEADLINE_S + TIMEOUT_S < DURATION_S
    world = World()
    first, second = world.candidate("a"), world.candidate("b")
    attempt(first)
    attempt(second)
    begun = world.now
    world.now = begun + RENEW_DEADLINE_S - 0.001
    first.check()
    world.now = begun + RENEW_DEADLINE_S
    with pytest.raises(NotLeadingError):
        first.check()
    world.now = begun + RENEW_DEADLINE_S + TIMEOUT_S
    assert not attempt(second)


def test_the_deadline_counts_from_before_the_request() -> None:
    world = World()
    first = world.candidate("a")
    slow = world.store.create

    async def create(spec: dict[str, Any]) -> None:
        world.now += 8
        await slow(spec)

    world.store.create = create  # type: ignore[method-assign]
    begun = world.now
    assert attempt(first)
    world.now = begun + RENEW_DEADLINE_S
    assert not first.leads


def test_whose_clock_stood_still_leads_no_more_once_it_has_read_the_lease() -> None:
    world = World()
    first, second = world.candidate("a"), world.candidate("b")
    frozen = world.now
    first.clock = lambda: frozen
    attempt(first)
    asyncio.run(first.confirm())
    attempt(second)
    world.now += DURATION_S + 1
    assert attempt(second)
    assert first.leads  # As far as it knows.
    with pytest.raises(NotLeadingError):
        asyncio.run(first.confirm())
    assert not first.leads


def test_an_attempt_that_finds_another_holder_ends_the_lead() -> None:
    world = World()
    first, second = world.candidate("a"), world.candidate("b")
    frozen = world.now
    first.clock = lambda: frozen
    attempt(first)
    attempt(second)
    world.now += DURATION_S + 1
    assert attempt(second)
    assert not attempt(first)


def test_who_takes_over_knows_when_the_one_before_was_last_there() -> None:
    world = World()
    first, second = world.candidate("a"), world.candidate("b")
    attempt(first)
    assert first.since == reading.EPOCH
    world.now += RETRY_S
    attempt(first)
    renewed = first.today()
    attempt(second)
    world.now += DURATION_S + 1
    attempt(second)
    assert second.since == renewed
    world.now += RETRY_S
    attempt(second)
    assert second.since == renewed  # Its own renewals change nothing.
    given_back = second.today()
    asyncio.run(second.release())
    world.now += RETRY_S
    attempt(first)
    assert first.since == given_back


def test_a_leader_before_whose_clock_ran_ahead_was_there_until_now() -> None:
    world = World()
    first, second = world.candidate("a", skew_s=86_400), world.candidate("b")
    attempt(first)
    asyncio.run(first.release())
    attempt(second)
    assert second.since == second.today()


def test_without_a_lease_nobody_is_sure_to_lead() -> None:
    world = World()
    first = world.candidate("a")
    attempt(first)
    world.store.lease = None
    with pytest.raises(NotLeadingError):
        asyncio.run(first.confirm())


def test_a_lead_lost_and_won_back_between_two_looks_is_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was at work meanwhile was left undone, so all must be looked at once more."""
    world = World()
    lease, told = world.candidate("a"), list[str]()

    async def pause(_: float) -> None:
        if len(told) >= 3:
            raise asyncio.CancelledError
        world.now += RENEW_DEADLINE_S

    async def started() -> None:
        told.append("started")

    async def stopped() -> None:
        told.append("stopped")

    monkeypatch.setattr("evergraft_operator.lease.asyncio.sleep", pause)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stand(lease, started=started, stopped=stopped))
    assert told == ["started", "stopped", "started"]


def test_a_lease_given_back_is_taken_at_once() -> None:
    world = World()
    first, second = world.candidate("a"), world.candidate("b")
    attempt(first)
    assert not attempt(second)
    asyncio.run(first.release())
    assert not first.leads
    assert attempt(second)


def test_who_does_not_lead_gives_nothing_back() -> None:
    world = World()
    first, second = world.candidate("a"), world.candidate("b")
    attempt(first)
    asyncio.run(second.release())
    assert world.store.lease is not None
    assert world.store.lease["spec"]["holderIdentity"] == "a"


def test_without_an_answer_the_leader_ends_by_itself() -> None:
    world = World()
    first = world.candidate("a")
    attempt(first)
    world.store.down = True
    world.now += RENEW_DEADLINE_S
    with pytest.raises(UnreachableError):
        attempt(first)
    assert not first.leads


def test_a_lease_of_nonsense_is_taken_after_its_time() -> None:
    world = World(Store({"metadata": {}, "spec": {"holderIdentity": 5, "leaseDurationSeconds": "x"}}))
    assert attempt(world.candidate("a"))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 25), st.booleans()), max_size=60))
def test_there_are_never_two_leaders(turns: list[tuple[str, float, bool]]) -> None:
    world = World()
    candidates = {name: world.candidate(name, skew_s=1000 * number) for number, name in enumerate("abc")}
    for name, seconds, down in turns:
        world.now += seconds
        world.store.down = down
        try:
            attempt(candidates[name])
        except UnreachableError:
            assert down
        assert sum(lease.leads for lease in candidates.values()) <= 1
