"""A look at everything every five minutes: what a watch missed is taken in, what vanished unseen is pruned and counted.

A watch that was cut off comes back without the objects that were deleted meanwhile; this is what ends their ghosts.
Also fills the cache before the process first stands for election, and tells how old each kind's view is. Run by the
process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from evergraft_operator.cache import Cache, version_of
from evergraft_operator.client import Client, KubeError
from evergraft_operator.kinds import Kind
from evergraft_operator.metrics import Metrics

logger = logging.getLogger(__name__)

EVERY_S = 300.0
SETTLE_S = 2.0
"""How long a watch may lag behind a list before it counts as having missed something."""


@dataclass
class Relist:
    """Lists `kinds` in `namespaces` (empty: everywhere) into the cache by way of `changed` and `vanished`."""

    client: Client
    cache: Cache
    metrics: Metrics
    kinds: tuple[Kind, ...]
    namespaces: tuple[str, ...]
    changed: Callable[[Kind, dict[str, Any]], object]
    vanished: Callable[[str], object]
    clock: Callable[[], float] = time.monotonic
    settle_s: float = SETTLE_S
    seen: dict[str, float] = field(default_factory=dict)
    """When each kind was last known to be as the API server has it."""
    _doubted: set[str] = field(default_factory=set)
    _doubted_before: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Look at everything every five minutes, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.look()
            except KubeError as error:
                logger.warning("not everything could be listed: %s", error)
            except Exception:
                logger.exception("listing everything failed")

    async def fill(self) -> None:
        """Take everything in for the first time. Raises KubeError."""
        for kind in self.kinds:
            for namespace in self._places(kind):
                async for page in self.client.pages(kind, namespace, labels=kind.selector):
                    for item in page.items:
                        self.changed(kind, item)
                    await asyncio.sleep(0)  # Probes and the Lease must not wait for ten thousand objects.
            self.note(kind)

    async def look(self) -> None:
        """Compare everything with the cache, all kinds at the same time. Raises KubeError when all others are done."""
        self._doubted_before, self._doubted = self._doubted, set()
        done = await asyncio.gather(*map(self._look_at, self.kinds), return_exceptions=True)
        for error in done:
            if error is not None:
                raise error

    def note(self, kind: Kind) -> None:
        """Note that a kind is in step with the API server now."""
        self.seen[kind.plural] = self.clock()

    def tell_age(self) -> None:
        """Set the age of each kind's view."""
        for plural, at in self.seen.items():
            self.metrics.watch_age_seconds.labels(plural).set(self.clock() - at)

    async def _look_at(self, kind: Kind) -> None:
        missed = await asyncio.gather(*(self._compare(kind, namespace) for namespace in self._places(kind)))
        if sum(missed) == 0:
            self.note(kind)

    async def _compare(self, kind: Kind, namespace: str) -> int:
        """List one place; how many objects the watch had missed."""
        listed: set[str] = set()
        behind: list[dict[str, object]] = []
        as_of = 0
        async for page in self.client.pages(kind, namespace, labels=kind.selector):
            as_of = max(as_of, version_of(page.version))
            for item in page.items:
                meta = item.get("metadata", {})
                uid, version = str(meta.get("uid", "")), version_of(meta.get("resourceVersion"))
                listed.add(uid)
                known = self.cache.get(uid)
                if known is None or known.version < version:
                    behind.append(item)
            await asyncio.sleep(0)
        await asyncio.sleep(self.settle_s)
        missed = sum(self._take_in(kind, item) for item in behind)
        return missed + self._prune(kind, namespace, listed, as_of)

    def _take_in(self, kind: Kind, item: dict[str, object]) -> bool:
        """Take in what the watch still has not told; whether there was any."""
        meta = item["metadata"]
        assert isinstance(meta, dict)
        known = self.cache.get(str(meta.get("uid", "")))
        if self.cache.is_gone(uid := str(meta.get("uid", ""))) and not self._back(uid):
            return False
        if known is not None and known.version >= version_of(meta.get("resourceVersion")):
            return False
        self.changed(kind, item)
        return True

    def _back(self, uid: str) -> bool:
        """Whether what counts as gone is there after all: two looks in a row list it, and a late list is only one."""
        self._doubted.add(uid)
        if uid not in self._doubted_before:
            return False
        self.cache.doubt(uid)
        logger.warning("%s counted as gone and is there", uid)
        return True

    def _prune(self, kind: Kind, namespace: str, listed: set[str], as_of: int) -> int:
        """Drop what is not listed and is older than the list; how many those were."""
        ghosts = [
            entry.uid
            for entry in self.cache.each(kind.name)
            if entry.uid not in listed and entry.version <= as_of and namespace in ("", entry.namespace)
        ]
        for uid in ghosts:
            self.vanished(uid)
        self.metrics.cache_pruned.inc(len(ghosts))
        if ghosts:
            logger.warning("%d %s had vanished unseen", len(ghosts), kind.plural)
        return len(ghosts)

    def _places(self, kind: Kind) -> tuple[str, ...]:
        return self.namespaces if self.namespaces and kind.namespaced else ("",)
