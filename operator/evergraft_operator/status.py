"""The status of a Task: read with suspicion, built whole, never larger than 8 KB.

It is the operator's only memory of a Task: the newest run and attempt, how it ended, what failed, the route. Every
text in it has a limit in bytes. Called by ``reconcile`` and ``deletion``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evergraft import names
from evergraft.names import RunKey
from evergraft_operator import conditions, failures, reading, report
from evergraft_operator.conditions import Condition
from evergraft_operator.observed import Job, counts
from evergraft_operator.reading import Moment
from evergraft_operator.report import Heard, RouteReport

Fields = dict[str, Any]

MAX_WAITING_BYTES = 256
MAX_IMAGE = 512
_HEX = re.compile(r"[0-9a-f]{1,64}")


@dataclass(frozen=True)
class Search:
    """The newest search of a Task. `outcome` is None while it is open; `job` its attempt's Job, if one was made."""

    run: RunKey
    attempt: int = 0
    outcome: str | None = None
    image: str | None = None
    job: str | None = None
    spec_hash: str | None = None
    base: int | None = None
    started: Moment | None = None
    generation: int | None = None
    generations: int | None = None
    candidates_done: int | None = None
    candidates: int | None = None
    best_score: float | None = None
    progressed: Moment | None = None


@dataclass(frozen=True)
class Route:
    """The serving route, and when it was first heard of."""

    report: RouteReport
    committed: Moment | None = None


@dataclass(frozen=True)
class Previous:
    """A status as it stands."""

    search: Search | None = None
    route: Route | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    useful_s: int = 0
    lost_s: int = 0
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    phase: str = ""
    waiting: str = ""


def read(value: Mapping[str, Any]) -> Previous:
    """Parse a status; of what makes no sense nothing is kept."""
    seconds = reading.mapping(value, "acceleratorSeconds")
    return Previous(
        search=_read_search(reading.mapping(value, "search")),
        route=_read_route(reading.mapping(value, "route")),
        failures=failures.known(counts(reading.mapping(value, "failures"))),
        useful_s=reading.whole(seconds.get("useful"), high=10**15) or 0,
        lost_s=reading.whole(seconds.get("lost"), high=10**15) or 0,
        conditions=conditions.read(value),
        phase=reading.text(value.get("phase"), 16),
        waiting=reading.text(value.get("waiting"), 1000),
    )


def _read_search(value: Mapping[str, Any]) -> Search | None:
    run = report.run_key(value.get("runKey"))
    if run is None:
        return None
    outcome = reading.text(value.get("outcome"), 16)
    spec_hash = reading.text(value.get("specHash"), 64)
    numbers = ("baseVersion", "generation", "generations", "candidatesDone", "candidates")
    base, generation, generations, done, candidates = (reading.whole(value.get(name)) for name in numbers)
    return Search(
        run=run,
        attempt=reading.whole(value.get("attempt"), high=10**9) or 0,
        outcome=outcome if outcome in report.OUTCOMES else None,
        image=reading.text_or_none(value.get("image"), MAX_IMAGE),
        job=reading.text_or_none(value.get("jobName"), 63),
        spec_hash=spec_hash if _HEX.fullmatch(spec_hash) else None,
        base=base,
        started=reading.moment(value.get("startTime")),
        generation=generation,
        generations=generations,
        candidates_done=done,
        candidates=candidates,
        best_score=reading.number(value.get("bestScore"), high=1.0),
        progressed=reading.moment(value.get("lastProgressTime")),
    )


def _read_route(value: Mapping[str, Any]) -> Route | None:
    found = report.route_report({**value, "run": value.get("runKey")})
    return None if found is None else Route(found, reading.moment(value.get("committedTime")))


def with_progress(search: Search, heard: Heard | None) -> Search:
    """The search with what a worker says of it; nothing said, or of another run, changes nothing."""
    if heard is None or heard.progress.run not in (None, str(search.run)):
        return search
    told, since = heard.progress, search.progressed

    def newer(value: Any, before: Any) -> Any:
        return before if value is None else value

    return replace(
        search,
        base=newer(told.base, search.base),
        generation=newer(told.generation, search.generation),
        generations=newer(told.generations, search.generations),
        candidates_done=newer(told.candidates_done, search.candidates_done),
        candidates=newer(told.candidates, search.candidates),
        best_score=newer(told.best_score, search.best_score),
        progressed=max(since, heard.at) if since else heard.at,
    )


def same_words(one: Search, other: Search) -> bool:
    """Whether both say the same of a search's progress, as a status would write it."""
    return _search_fields(one, "") == _search_fields(other, "")


@dataclass(frozen=True)
class Content:
    """All that a Task's status says; `build` writes it."""

    conditions: Iterable[Condition]
    task: str
    search: Search | None = None
    route: Route | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    useful_s: int = 0
    lost_s: int = 0
    waiting: str = ""
    replicas: int | None = None
    job: Job | None = None
    selector: str = ""
    deleting: bool = False


def build(content: Content, previous: Previous, *, generation: int, now: Moment) -> Fields:
    """The whole status, empty parts left out."""
    settled = conditions.settle(previous.conditions, content.conditions, generation=generation, now=now)
    fields: Fields = {
        "observedGeneration": generation,
        "phase": conditions.phase(conditions.read({"conditions": settled}), deleting=content.deleting),
        "waiting": reading.capped(reading.text(content.waiting, 1000), MAX_WAITING_BYTES),
        "progress": _progress(content.search),
        "score": _score(content.search, content.route),
        "search": _search_fields(content.search, content.task),
        "route": _route_fields(content.route),
        "workers": _worker_fields(content),
        "failures": failures.known(content.failures),
        "acceleratorSeconds": _present({"useful": content.useful_s or None, "lost": content.lost_s or None}),
        "conditions": settled,
    }
    return {name: value for name, value in fields.items() if value not in ({}, "", None)}


def _progress(search: Search | None) -> str:
    if search is None or search.outcome is not None or search.generation is None or search.generations is None:
        return ""
    return f"{search.generation}/{search.generations}"


def _score(search: Search | None, route: Route | None) -> str | None:
    """The best score of the search while it runs, else that of the committed route."""
    if search is not None and search.outcome is None and search.best_score is not None:
        return _decimal(search.best_score)
    return _decimal(route.report.score) if route is not None else None


def _search_fields(search: Search | None, task: str) -> Fields:
    if search is None:
        return {}
    return _present(
        {
            "id": names.search_id(task, search.run),
            "runKey": str(search.run),
            "attempt": search.attempt or None,
            "outcome": search.outcome,
            "specHash": search.spec_hash,
            "baseVersion": search.base,
            "image": search.image,
            "jobName": search.job,
            "startTime": _time(search.started),
            "generation": search.generation,
            "generations": search.generations,
            "candidatesDone": search.candidates_done,
            "candidates": search.candidates,
            "bestScore": _decimal(search.best_score),
            "lastProgressTime": _time(search.progressed),
        }
    )


def _route_fields(route: Route | None) -> Fields:
    if route is None:
        return {}
    told = route.report
    return _present(
        {
            "id": told.id,
            "version": told.version,
            "runKey": told.run,
            "quality": _decimal(told.quality),
            "score": _decimal(told.score),
            "testQuality": _decimal(told.test_quality),
            "parentTask": told.parent_task and reading.capped(told.parent_task, 253),
            "parametersAdded": told.parameters_added,
            "stoppedEarly": told.stopped_early,
            "committedTime": _time(route.committed),
        }
    )


def _worker_fields(content: Content) -> Fields:
    if content.replicas is None:
        return {}
    job = content.job
    return {
        "desired": content.replicas,
        "active": job.active if job else 0,
        "ready": job.ready if job else 0,
        "selector": content.selector,
    }


def _present(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


def _decimal(value: float | None) -> str | None:
    """Six digits: more say nothing, and a status should not change for them."""
    return None if value is None else f"{value:.6f}".rstrip("0").rstrip(".")


def _time(value: Moment | None) -> str | None:
    return reading.written(value) if value else None
