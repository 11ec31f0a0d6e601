"""Asks running searches how they are: one ready pod each, every 15 seconds, a few at a time.

What a pod says is anybody's word: two seconds, four kilobytes, no redirects, and only at the address its status names.
The same words again are no progress; nor are words that the status holds already, so that a restarted operator writes
nothing. Who does not answer is left alone until next time. Run by the process while it leads.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import aiohttp

from evergraft_operator import report, status
from evergraft_operator.cache import Cache, Entry
from evergraft_operator.facts import JobFacts, PodFacts, TaskFacts
from evergraft_operator.kinds import TASK, Key
from evergraft_operator.notes import Notes
from evergraft_operator.observed import Thing
from evergraft_operator.pods import STATUS_PORT
from evergraft_operator.reading import Moment, seconds_between
from evergraft_operator.report import Heard, Progress
from evergraft_operator.routing import key_of
from evergraft_operator.status import Previous

logger = logging.getLogger(__name__)

EVERY_S = 15.0
TIMEOUT_S = 2.0
AT_ONCE = 32
STEADY_S = 60.0
"""How often a status tells of a candidate that only trains on."""
_AT_WORK = ("Starting", "Training", "Committing")


@dataclass(frozen=True)
class Visit:
    """Whom to ask about which Task's Job."""

    task: str
    job: str
    address: str


@dataclass
class Listener:
    """Keeps `notes.heard`; `news` is told of Tasks of which something new was heard."""

    cache: Cache
    notes: Notes
    news: Callable[[Key], None]
    url: Callable[[str], str | None] = lambda address: url_of(address)  # noqa: PLW0108 - defined below
    _missed: dict[str, int] = field(default_factory=dict)

    async def run(self) -> None:
        """Ask all, every 15 seconds, until cancelled."""
        async with session() as asking:
            while True:
                begun = asyncio.get_running_loop().time()
                try:
                    await self.round(asking)
                except Exception:
                    logger.exception("asking workers for their progress failed")
                await asyncio.sleep(max(1.0, begun + EVERY_S - asyncio.get_running_loop().time()))

    async def round(self, session: aiohttp.ClientSession) -> None:
        """Ask one pod of every running search once."""
        visits = list(self.visits())
        self._missed = {visit.job: self._missed.get(visit.job, 0) for visit in visits}
        turns = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._visit(session, turns, visit) for visit in visits))

    def visits(self) -> Iterator[Visit]:
        """Whom to ask: the same pod as last time, the next one if that did not answer."""
        for entry in self.cache.each(TASK.name):
            facts = entry.facts
            if not isinstance(facts, TaskFacts) or facts.phase not in _AT_WORK:
                continue
            for job in self.cache.found("jobs of task", entry.uid):
                if isinstance(job.facts, JobFacts) and not job.facts.finished and not job.facts.deleting:
                    ready = self._ready(job)
                    if ready:
                        yield Visit(entry.uid, job.uid, ready[self._missed.get(job.uid, 0) % len(ready)])

    def _ready(self, job: Entry) -> list[str]:
        pods = self.cache.found("pods of job", job.uid)
        return [
            pod.facts.address
            for pod in pods
            if isinstance(pod.facts, PodFacts) and pod.facts.ready and pod.namespace == job.namespace
        ]

    async def _visit(self, session: aiohttp.ClientSession, turns: asyncio.Semaphore, visit: Visit) -> None:
        url = self.url(visit.address)
        async with turns:
            told = await ask(session, url) if url is not None else None
        if told is None:
            self._missed[visit.job] += 1
            return
        entry = self.cache.get(visit.task)
        if entry is not None and self.hear(entry, visit.job, told, _now()):
            self.news(key_of(entry))

    def hear(self, task: Entry, job: str, told: Progress, now: Moment) -> bool:
        """Note what was heard; whether it is new."""
        about, before = self.notes.heard.get(task.uid, ("", None))
        if before is not None and about == job and before.progress == told and not _trains_on(before, told, now):
            return False
        known = status.read(Thing.read(task.document()).status)
        at = _known_since(known, told) if before is None else None
        self.notes.heard[task.uid] = (job, Heard(told, at or now))
        return True


def _trains_on(before: Heard, told: Progress, now: Moment) -> bool:
    """Whether the same words are news after all: a candidate got on, and the last sign of it is a while ago."""
    return told.samples != before.progress.samples and seconds_between(before.at, now) >= STEADY_S


def _known_since(known: Previous, told: Progress) -> Moment | None:
    """When these words were heard first, if the status holds them already."""
    search = known.search
    if search is None or search.progressed is None:
        return None
    same = status.with_progress(search, Heard(told, search.progressed))
    return search.progressed if status.same_words(same, search) else None


async def ask(session: aiohttp.ClientSession, url: str) -> Progress | None:
    """What a worker says of its search, None if it says nothing to go by."""
    try:
        async with session.get(url, allow_redirects=False) as answer:
            if answer.status != 200:
                return None
            body = await answer.content.read(report.MAX_BYTES + 1)
            while len(body) <= report.MAX_BYTES and (more := await answer.content.read(report.MAX_BYTES)):
                body += more
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
        return None
    return report.progress(body) if len(body) <= report.MAX_BYTES else None


def url_of(address: str) -> str | None:
    """Where a pod tells its progress; None for what is no pod's address, whoever wrote it."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return None
    if found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified:
        return None
    host = f"[{found}]" if found.version == 6 else str(found)
    return f"http://{host}:{STATUS_PORT}/progress"


def session() -> aiohttp.ClientSession:
    """For asking strangers: short of time, nothing unpacked, nothing remembered."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        connector=aiohttp.TCPConnector(limit=AT_ONCE, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_line_size=2048,
        max_field_size=2048,
        trust_env=False,
    )


def _now() -> Moment:
    """The present, whole seconds."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)
