"""Which process leads: a Lease in the operator's own namespace, and a deadline that every write asks first.

A leader that cannot renew ceases to write 10 seconds before another may take over, and a request takes at most 8: no
write that was begun as leader lands under another. Others' clocks are never compared with ours; a Lease has run out
when nobody was seen to renew it for its whole duration. Run by the process, given back when it stops.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from evergraft_operator import labels, reading
from evergraft_operator.client import Client, ConflictedError, KubeError, MissingError
from evergraft_operator.kinds import LEASE
from evergraft_operator.reading import Moment

Fields = dict[str, Any]
logger = logging.getLogger(__name__)

NAME = "evergraft-operator"
DURATION_S = 30
RENEW_DEADLINE_S = 20.0
RETRY_S = 4.0


class NotLeadingError(Exception):
    """This process does not lead, or cannot be sure of it: it must not write."""


class LeaseStore(Protocol):
    """Where the Lease is; as ``KubeLeases`` does it on the API server."""

    async def read(self) -> Fields | None:
        """The Lease, None if there is none."""

    async def create(self, spec: Fields) -> None:
        """Create it; ConflictedError if somebody else did."""

    async def replace(self, lease: Mapping[str, Any], spec: Fields) -> None:
        """Put `spec` in the place of the Lease as it was read; ConflictedError if it has changed since."""


@dataclass
class Lease:
    """Our part in the election. `identity` is this process's alone.

    `since` is when the leader before this one last renewed or gave back the Lease, by its clock; never later than now.
    """

    store: LeaseStore
    identity: str
    clock: Callable[[], float] = time.monotonic
    today: Callable[[], datetime.datetime] = field(default=lambda: datetime.datetime.now(datetime.UTC))
    since: Moment = reading.EPOCH
    _until: float = float("-inf")
    _seen: Any = None
    _seen_at: float = float("-inf")

    @property
    def leads(self) -> bool:
        """Whether this process may write now."""
        return self.clock() < self._until

    def check(self) -> None:
        """Ask before every write.

        Raises:
            NotLeadingError: it must not be begun.
        """
        if not self.leads:
            raise NotLeadingError(f"{self.identity} does not lead")

    async def confirm(self) -> None:
        """Ask the Lease itself: the clock of a machine that was paused may have stood still.

        Raises:
            NotLeadingError: another has it, or nobody.
            KubeError: it could not be read.
        """
        lease = await self.store.read()
        if lease is None or _spec(lease).get("holderIdentity") != self.identity:
            self._until = float("-inf")
        self.check()

    async def attempt(self) -> bool:
        """Renew the Lease or take it if it is free; whether this process leads now. Raises KubeError."""
        begun = self.clock()
        try:
            if await self._hold(begun):
                self._until = begun + RENEW_DEADLINE_S
        except ConflictedError:
            logger.debug("the Lease was changed by another while it was being renewed")
        return self.leads

    async def release(self) -> None:
        """Give the Lease back, so that the next leader need not wait. Raises KubeError."""
        led, self._until = self.leads, float("-inf")
        lease = await self.store.read() if led else None
        if lease is not None and _spec(lease).get("holderIdentity") == self.identity:
            spec = {**_spec(lease), "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": self._stamp()}
            try:
                await self.store.replace(lease, spec)
            except ConflictedError:
                logger.debug("the Lease was taken before it was given back")

    async def _hold(self, now: float) -> bool:
        lease = await self.store.read()
        if lease is None:
            await self.store.create(self._claim({}))
            return True
        spec = _spec(lease)
        holder = reading.text(spec.get("holderIdentity"))
        if holder not in ("", self.identity) and not self._ran_out(spec, now):
            self._until = float("-inf")  # Whatever our clock says: another would not have it before our time was over.
            return False
        await self.store.replace(lease, self._claim(spec))
        if holder != self.identity:
            self.since = min(reading.moment(spec.get("renewTime")) or reading.EPOCH, self.today())
        return True

    def _ran_out(self, spec: Mapping[str, Any], now: float) -> bool:
        """Whether its holder was not seen to renew it for as long as it lasts."""
        shown = (spec.get("holderIdentity"), spec.get("renewTime"))
        if shown != self._seen:
            self._seen, self._seen_at = shown, now
        duration = reading.whole(spec.get("leaseDurationSeconds"), low=1, high=3600) or DURATION_S
        return now - self._seen_at > duration

    def _claim(self, before: Mapping[str, Any]) -> Fields:
        mine = before.get("holderIdentity") == self.identity
        turns = reading.whole(before.get("leaseTransitions")) or 0
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": DURATION_S,
            "acquireTime": before.get("acquireTime") if mine else self._stamp(),
            "renewTime": self._stamp(),
            "leaseTransitions": turns if mine or not before else turns + 1,
        }

    def _stamp(self) -> str:
        return self.today().strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _spec(lease: Mapping[str, Any]) -> Mapping[str, Any]:
    return reading.mapping(lease, "spec")


@dataclass(frozen=True)
class KubeLeases:
    """The Lease on the API server. Each request is made once: the next attempt is never far."""

    client: Client
    namespace: str

    async def read(self) -> Fields | None:
        """The Lease, None if there is none."""
        try:
            return await self.client.get(LEASE, self.namespace, NAME)
        except MissingError:
            return None

    async def create(self, spec: Fields) -> None:
        """Create it."""
        tags = {labels.MANAGED_BY: labels.MANAGER}
        meta = {"name": NAME, "namespace": self.namespace, "labels": tags}
        await self.client.create(LEASE, self.namespace, {**_HEAD, "metadata": meta, "spec": spec})

    async def replace(self, lease: Mapping[str, Any], spec: Fields) -> None:
        """Put `spec` in its place."""
        document = {**_HEAD, "metadata": lease["metadata"], "spec": spec}
        await self.client.replace(LEASE, self.namespace, NAME, document)


_HEAD = {"apiVersion": LEASE.api_version, "kind": LEASE.name}


async def stand(
    lease: Lease,
    *,
    started: Callable[[], Awaitable[None]],
    stopped: Callable[[], Awaitable[None]],
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Stand for election until cancelled; tell of every turn, and when this process starts and stops to lead."""
    led = False
    while True:
        tick()
        begun = lease.clock()
        if led and not lease.leads:
            led = False  # What was at work has given up; if the lead is won back at once, all begins anew.
            await stopped()
        try:
            # A request that hangs must not hide that the deadline has passed.
            async with asyncio.timeout(RENEW_DEADLINE_S / 2):
                await lease.attempt()
        except (KubeError, TimeoutError) as error:
            logger.warning("the Lease could not be read or renewed: %s", error or "no answer in time")
        if lease.leads != led:
            led = lease.leads
            logger.info("this process leads" if led else "this process does not lead any more")
            await (started() if led else stopped())
        await asyncio.sleep(max(0.0, RETRY_S - (lease.clock() - begun)))
