"""Asking workers: who is asked, what is believed, and that lies, floods and silence harm nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.evergraft_operator.conftest import serving

from evergraft_operator import labels, progress, reading
from evergraft_operator.cache import Cache
from evergraft_operator.kinds import Key
from evergraft_operator.notes import Notes
from evergraft_operator.progress import Listener, ask, url_of
from evergraft_operator.report import MAX_BYTES, Progress
from evergraft_operator.testing.documents import at, pod_document, task_document

Fields = dict[str, Any]
WORDS: Fields = {
    "format": 1,
    "run": "i1-c1",
    "generation": 1,
    "generations": 4,
    "candidatesDone": 13,
    "bestScore": 0.93,
}
HEARD = Progress(run="i1-c1", generation=2, generations=4, candidates_done=13, best_score=0.93)


def scene(*pods: str, status: Fields | None = None) -> Listener:
    """A Task in training whose Job has these ready pods."""
    cache = Cache()
    task = task_document()
    task["metadata"]["resourceVersion"] = "1"
    cache.see("Task", {**task, "status": {"phase": "Training", **(status or {})}})
    tags = {labels.TASK_UID: "task-uid", labels.ATTEMPT: "1"}
    meta = {"name": "j", "namespace": "vision", "uid": "j1", "resourceVersion": "1", "labels": tags}
    cache.see("Job", {"metadata": meta})
    for name in pods:
        pod = pod_document(name, job="j1", ready=True)
        pod["metadata"]["resourceVersion"] = "1"
        pod["status"]["podIP"] = f"10.0.0.{name[1:]}"
        cache.see("Pod", pod)
    return Listener(cache, Notes(), lambda key: None)


def heard(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Progress | None:
    """What is understood of a worker that answers so."""

    async def scenario() -> Progress | None:
        async with serving(answer) as url, progress.session() as session:
            return await ask(session, url)

    return asyncio.run(scenario())


def test_a_worker_is_understood() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(WORDS)

    assert heard(answer) == HEARD


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b"\xff" * 100,
        json.dumps({**WORDS, "format": 99}).encode(),
        json.dumps({**WORDS, "x": "y" * MAX_BYTES}).encode(),
        b"[" * 4000,
        b"x" * 10_000_000,
    ],
)
def test_nonsense_and_floods_are_nothing(body: bytes) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body)

    assert heard(answer) is None


def test_a_flood_without_end_is_cut_off_early() -> None:
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
            sent += 65536

    begun = time.monotonic()
    assert heard(answer) is None
    assert time.monotonic() - begun < 1
    assert sent < 30_000_000


def test_packed_data_is_not_unpacked() -> None:
    async def answer(_: web.Request) -> web.Response:
        import gzip

        return web.Response(body=gzip.compress(b" " * 50_000_000), headers={"Content-Encoding": "gzip"})

    assert heard(answer) is None


def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        raise web.HTTPFound("/latest/meta-data")

    assert heard(answer) is None
    assert asked == ["/"]


def test_who_does_not_answer_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "TIMEOUT_S", 0.05)

    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(10)
        return web.Response()

    assert heard(answer) is None

    async def scenario() -> Progress | None:
        async with progress.session() as session:
            return await ask(session, "http://127.0.0.1:1/progress")

    assert asyncio.run(scenario()) is None


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("10.1.2.3", "http://10.1.2.3:9090/progress"),
        ("fd00::1", "http://[fd00::1]:9090/progress"),
        ("169.254.169.254", None),
        ("127.0.0.1", None),
        ("::1", None),
        ("0.0.0.0", None),
        ("224.0.0.1", None),
        ("example.org", None),
        ("10.1.2.3:80/x?", None),
        ("fe80::1%eth0", None),
        ("", None),
    ],
)
def test_only_a_pod_s_address_is_asked(address: str, url: str | None) -> None:
    assert url_of(address) == url


def test_one_pod_of_a_search_is_asked_and_another_once_it_is_silent() -> None:
    listener = scene("p2", "p1")

    async def silent(_: web.Request) -> web.Response:
        return web.Response(status=500)

    async def scenario() -> list[str]:
        asked = list[str]()
        async with serving(silent) as url, progress.session() as session:

            def url_for(address: str) -> str:
                asked.append(address)
                return url

            listener.url = url_for
            for _ in range(3):
                await listener.round(session)
        return asked

    assert asyncio.run(scenario()) == ["10.0.0.1", "10.0.0.2", "10.0.0.1"]


def test_searches_that_are_not_at_work_are_not_asked() -> None:
    assert list(scene("p1", status={"phase": "Suspended"}).visits()) == []
    assert list(scene().visits()) == []
    listener = scene("p1")
    listener.cache.see(
        "Job",
        {
            "metadata": {
                "uid": "j1",
                "name": "j",
                "namespace": "vision",
                "resourceVersion": "2",
                "labels": {labels.TASK_UID: "task-uid"},
            },
            "status": {"conditions": [{"type": "Complete", "status": "True"}]},
        },
    )
    assert list(listener.visits()) == []


def test_new_words_are_told_and_the_same_words_are_not() -> None:
    listener, told = scene("p1"), list[Key]()
    listener.news = told.append
    words = dict(WORDS)

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(words)

    async def scenario() -> None:
        async with serving(answer) as url, progress.session() as session:
            listener.url = lambda _: url
            await listener.round(session)
            await listener.round(session)
            words["candidatesDone"] = 14
            await listener.round(session)

    asyncio.run(scenario())
    assert told == [Key("Task", "vision", "cifar10")] * 2


def test_after_a_restart_words_that_the_status_holds_are_as_old_as_it_says() -> None:
    known = {
        "runKey": "i1-c1",
        "attempt": 1,
        "generation": 2,
        "generations": 4,
        "candidatesDone": 13,
        "bestScore": "0.93",
        "lastProgressTime": reading.written(at(60)),
    }
    listener = scene("p1", status={"search": known})
    entry = listener.cache.get("task-uid")
    assert entry is not None
    listener.hear(entry, "j1", HEARD, at(500))
    assert listener.notes.heard["task-uid"][1].at == at(60)
    listener.hear(entry, "j1", Progress(run="i1-c1", generation=3), at(600))
    assert listener.notes.heard["task-uid"][1].at == at(600)


def test_a_long_candidate_gives_a_sign_of_life_once_a_minute() -> None:
    listener = scene("p1")
    entry = listener.cache.get("task-uid")
    assert entry is not None
    seconds = range(0, 200, 15)
    news = [s for s in seconds if listener.hear(entry, "j1", replace(HEARD, samples=s * 100), at(s))]
    assert news == [0, 60, 120, 180]
    stuck = [s for s in seconds if listener.hear(entry, "j1", replace(HEARD, samples=18_000), at(200 + s))]
    assert stuck == []


def test_a_session_carries_nothing_from_one_pod_to_another() -> None:
    async def scenario() -> bool:
        async with progress.session() as session:
            return isinstance(session.cookie_jar, aiohttp.DummyCookieJar) and not session.trust_env

    assert asyncio.run(scenario())
