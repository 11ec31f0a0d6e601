"""One operator process put together: what it holds, how it starts, what it does while it leads, how it stops.

A standby watches and remembers, reconciles nothing and writes nothing. On taking the lead everything is listed once
more and every key goes on the queue. Made by the handlers at kopf's startup, stopped at its cleanup.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import secrets
import socket
import time
from collections.abc import Coroutine, Mapping
from typing import Any

from kubernetes.aio.client import ApiClient, Configuration

from evergraft_operator import fleet, lease, progress, recorder, routing
from evergraft_operator.apply import Applier
from evergraft_operator.cache import Cache, Change
from evergraft_operator.client import Client, KubeError
from evergraft_operator.controller import Controller
from evergraft_operator.kinds import GRAPH, NAMESPACE, POD, TASK, WATCHED, Key, Kind
from evergraft_operator.metrics import Metrics
from evergraft_operator.notes import Notes
from evergraft_operator.observe import Observer
from evergraft_operator.observed import Thing
from evergraft_operator.probes import Probes
from evergraft_operator.queue import Queue
from evergraft_operator.relist import Relist
from evergraft_operator.settings import Settings
from evergraft_operator.tally import Tally

logger = logging.getLogger(__name__)

FIRST_LOOK_S = 2.0
STOP_S = 20.0
SHOW_S = 15.0
LAG_S = 1.0
STUCK_S = 120.0
"""How long the Lease may not have been attempted before the process counts as stuck."""
WATCH = "watcher for "
"""How kopf's watches are named as tasks."""


class Process:
    """An operator in one process."""

    def __init__(self, settings: Settings, configuration: Configuration) -> None:
        self.settings = settings
        self.configuration = configuration
        self.metrics = Metrics()
        self.cache = Cache()
        self.notes = Notes()
        self.queue: Queue[Key] = Queue()
        reads = Client(ApiClient(configuration), self.metrics)
        self.client = reads
        identity = f"{settings.process.name or socket.gethostname()}_{secrets.token_hex(4)}"
        self.lease = lease.Lease(lease.KubeLeases(reads.once(), settings.own_namespace), identity)
        writes = reads.guarded(self.lease.check)
        observer = Observer(self.cache, reads, self.notes, settings, self.changed, self.vanished)
        applier = Applier(writes, recorder.Recorder(writes, identity), self.changed, self.vanished)
        self.controller = Controller(self.queue, observer, applier, self.notes, self.metrics, self.lease.confirm)
        self.relist = Relist(
            reads, self.cache, self.metrics, self.kinds, settings.namespaces, self.changed, self.vanished
        )
        self.tally = Tally(self.metrics, self.cache)
        self.listener = progress.Listener(self.cache, self.notes, self.enqueue)
        self.probes = Probes(self.metrics.registry, self.sick, self.unready, self._refresh)
        self.filled = False
        self._tasks: list[asyncio.Task[None]] = []
        self._lead: list[asyncio.Task[None]] = []
        self._ticked = time.monotonic()
        self._watches = 0

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What is watched; namespaces only where the whole cluster is."""
        return WATCHED if self.settings.namespaces else (*WATCHED, NAMESPACE)

    async def start(self) -> None:
        """Listen, wait for the API server and our kinds, see everything, and stand for election."""
        await self.probes.start(metrics=self.settings.process.metrics, probes=self.settings.process.probes)
        await self._first_look()
        self._tasks = [
            self._spawn(
                lease.stand(self.lease, started=self._started, stopped=self._stopped, tick=self._tick), "Lease"
            ),
            self._spawn(self.relist.run(), "relist"),
            self._spawn(self._measure_lag(), "lag"),
        ]

    async def stop(self) -> None:
        """Take no more keys, finish those at work, give the Lease back."""
        self.queue.close()
        if self._lead:
            await asyncio.wait(self._lead[: self.settings.process.workers], timeout=STOP_S)
        await _cancel([*self._lead, *self._tasks])
        try:
            async with asyncio.timeout(lease.RETRY_S):
                await self.lease.release()
        except (KubeError, TimeoutError) as error:
            logger.warning("the Lease could not be given back: %s", error)
        await self.probes.stop()
        await self.client.close()

    def see(self, kind: Kind, event: Mapping[str, Any]) -> None:
        """Take in a watch's event."""
        document = event["object"]
        if event["type"] == "DELETED":
            if kind == POD:
                self.changed(kind, document)  # Its end and its going may come as one event.
            self.vanished(str(document.get("metadata", {}).get("uid", "")))
        else:
            self.changed(kind, document)
        self.relist.note(kind)

    def changed(self, kind: Kind, document: Mapping[str, Any]) -> None:
        """Take in an object as it was seen somewhere, and with it that whoever had its name before is gone."""
        change = self.cache.see(kind.name, document)
        if change is not None and change.ousted is not None:
            self._forget(change.ousted.entry.uid)
            self._route(change.ousted)
        if change is not None and kind == POD and self._lead:
            self.tally.see(document)
        self._route(change)

    def vanished(self, uid: str) -> None:
        """Take in that an object is gone."""
        change = self.cache.lose(uid)
        self._forget(uid)  # Also where the cache knew: a reconcile under way then may have noted something since.
        self._route(change)

    def enqueue(self, key: Key) -> None:
        """Have a key reconciled, if this process leads."""
        if self._lead:
            self.queue.add(key)

    def sick(self) -> str:
        """Why the process should be restarted, empty for no reason."""
        idle = time.monotonic() - self._ticked
        if self.filled and idle > STUCK_S:
            return f"stuck for {idle:.0f} s"
        for task in (*self._tasks, *self._lead):
            if task.done() and not task.cancelled() and task.exception() is not None:
                return f"{task.get_name()} has ended"
        # kopf ends a watch for good at errors that last, and at some that do not; only a new start brings it back.
        ended = self._watches - _count_watches()
        return f"{ended} watches have ended" if ended > 0 else ""

    def unready(self) -> str:
        """What the process still waits for, empty for nothing."""
        return "" if self.filled else "the API server has not been listed yet"

    async def _first_look(self) -> None:
        while not self.filled:
            try:
                if all([await self.client.served(kind) for kind in (TASK, GRAPH)]):
                    await self.relist.fill()
                    self.filled = True
                    self._ticked = time.monotonic()
                    return
                logger.warning("waiting for the CustomResourceDefinitions of %s", TASK.group)
            except KubeError as error:
                logger.warning("waiting for the API server: %s", error)
            await asyncio.sleep(FIRST_LOOK_S)

    async def _started(self) -> None:
        """This process leads: look once more, then work."""
        self.metrics.leader.set(1)
        self.tally.since = self.lease.since
        workers = [self._spawn(self.controller.work(), f"worker {n}") for n in range(self.settings.process.workers)]
        more = ((self._take_over(), "take over"), (self.listener.run(), "listener"), (self._show(), "figures"))
        self._lead = [*workers, *(self._spawn(coroutine, name) for coroutine, name in more)]

    async def _stopped(self) -> None:
        """Another may lead: what is at work is cut off, since it could write nothing any more."""
        self.metrics.leader.set(0)
        lead, self._lead = self._lead, []
        await _cancel(lead)
        self.queue.clear()
        fleet.show(self.metrics, fleet.Figures())

    async def _take_over(self) -> None:
        """Enqueue every key, after a look at everything if there was time to miss something; count who ended then."""
        try:
            await self.relist.look()
        except KubeError as error:
            logger.warning("not everything could be listed: %s", error)
        finally:
            for kind in (GRAPH, TASK):
                for entry in self.cache.each(kind.name):
                    self.enqueue(routing.key_of(entry))
        for entry in self.cache.each(POD.name):
            self.tally.see(entry.document())
            await asyncio.sleep(0)

    async def _show(self) -> None:
        """Tell the gauges about Tasks and graphs every 15 seconds.

        The figures are worked out off the event loop, and shown on it: a thread cannot be cancelled, and one that
        showed them could do so when another leads.
        """
        while True:
            things = [(entry.kind, entry) for kind in (TASK, GRAPH) for entry in self.cache.each(kind.name)]
            tasks = (Thing.read(entry.document()) for kind, entry in things if kind == TASK.name)
            graphs = (Thing.read(entry.document()) for kind, entry in things if kind == GRAPH.name)
            try:
                fleet.show(self.metrics, await asyncio.to_thread(fleet.read, self.metrics, tasks, graphs, _now()))
            except Exception:
                logger.exception("the figures could not be told")
            await asyncio.sleep(SHOW_S)

    async def _measure_lag(self) -> None:
        while True:
            due = time.monotonic() + LAG_S
            await asyncio.sleep(LAG_S)
            self.metrics.event_loop_lag_seconds.observe(max(0.0, time.monotonic() - due))

    def _forget(self, uid: str) -> None:
        self.notes.forget(uid)
        self.tally.forget(uid)

    def _route(self, change: Change | None) -> None:
        if change is None or not self._lead:
            return
        for key in routing.concerned(change, self.cache):
            self.queue.add(key)

    def _refresh(self) -> None:
        self.metrics.queue_depth.set(self.queue.depth())
        self.relist.tell_age()

    def _tick(self) -> None:
        self._ticked = time.monotonic()
        self._watches = max(self._watches, _count_watches())

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return asyncio.create_task(coroutine, name=f"evergraft {name}")


def _count_watches() -> int:
    """How many of kopf's watches are alive."""
    return sum(task.get_name().startswith(WATCH) for task in asyncio.all_tasks())


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            logger.error("a part of the operator had ended", exc_info=result)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)
