"""Kubernetes Events about Tasks and ModuleGraphs: each reason and message at most once in ten minutes for an object.

An Event's name follows from what it says, so that a repetition, also by another process, finds the one before and
raises its count. Events are for people: one that cannot be written is logged and holds nothing up. Called by the
applier.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from evergraft import canonical
from evergraft_operator import reading
from evergraft_operator.client import Client, ConflictedError, KubeError
from evergraft_operator.events import Event
from evergraft_operator.kinds import EVENT, Kind
from evergraft_operator.observed import Thing

Fields = dict[str, Any]
logger = logging.getLogger(__name__)

QUIET_S = 600.0
MAX_REMEMBERED = 10_000
COMPONENT = "evergraft-operator"


class Recorder:
    """Writes Events as `identity`."""

    def __init__(
        self,
        client: Client,
        identity: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self._client = client
        self._identity = identity
        self._clock = clock
        self._today = today
        self._told: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    async def record(self, kind: Kind, thing: Thing, event: Event) -> None:
        """Write one Event, unless it was written in the last ten minutes. Raises NotLeadingError only."""
        now = self._clock()
        key = event.key(thing.uid)
        if now - self._told.get(key, float("-inf")) < QUIET_S:
            return
        try:
            await self._write(kind, thing, event)
        except KubeError as error:
            logger.warning("no Event %s: %s", event.reason, error)
            return
        self._remember(key, now)

    async def _write(self, kind: Kind, thing: Thing, event: Event) -> None:
        document = self.document(kind, thing, event)
        name = document["metadata"]["name"]
        try:
            await self._client.create(EVENT, thing.namespace, document)
        except ConflictedError:
            await self._repeat(thing.namespace, name)

    async def _repeat(self, namespace: str, name: str) -> None:
        """Raise the count of an Event that is there, unless it was told just now."""
        async for page in self._client.pages(EVENT, namespace, fields=f"metadata.name={name}", at_most=1):
            for found in page.items:
                last = reading.moment(found.get("lastTimestamp"))
                if last is not None and (self._today() - last).total_seconds() < QUIET_S:
                    return
                count = (reading.whole(found.get("count")) or 1) + 1
                patch = {"count": count, "lastTimestamp": reading.written(self._today())}
                await self._client.merge(EVENT, namespace, name, patch)

    def document(self, kind: Kind, thing: Thing, event: Event) -> Fields:
        """The Event as Kubernetes keeps it."""
        time_now = reading.written(self._today())
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{thing.name}.{canonical.digest(list(event.key(thing.uid)))[:16]}",
                "namespace": thing.namespace,
            },
            "involvedObject": {
                "apiVersion": kind.api_version,
                "kind": kind.name,
                "namespace": thing.namespace,
                "name": thing.name,
                "uid": thing.uid,
            },
            "reason": event.reason,
            "message": event.message,
            "type": event.type,
            "count": 1,
            "firstTimestamp": time_now,
            "lastTimestamp": time_now,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._identity,
        }

    def _remember(self, key: tuple[str, str, str], now: float) -> None:
        self._told[key] = now
        self._told.move_to_end(key)
        while len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)  # One forgotten too early is found by its name.
