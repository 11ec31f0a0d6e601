"""A small API server on loopback: objects, versions, selectors, server-side applied status, and failures on demand.

It speaks HTTP, so that the operator's own client is tested with it. What only the real one does is tested with the
real one, in tests/cluster.
"""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from evergraft_operator.client import Client
from evergraft_operator.metrics import Metrics

Fields = dict[str, Any]
T = TypeVar("T")


def failure(status: int, message: str = "", **headers: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "message": message, "code": status}
    return web.json_response(body, status=status, headers=headers)


@dataclass
class Api:
    """Objects by path. `broken` are answers that come first, whatever is asked; `requests` what was asked.

    `meanwhile` is what others do just before a status is written, `lost` how many answers to that do not arrive,
    `unreadable` what nobody may list, `foreign` what of a status another field manager owns, by the object's path.
    """

    objects: dict[str, Fields] = field(default_factory=dict)
    requests: list[tuple[str, str, Fields]] = field(default_factory=list)
    broken: list[web.Response | float] = field(default_factory=list)
    meanwhile: list[Callable[[], object]] = field(default_factory=list)
    lost: int = 0
    version: int = 100
    refuse: str = ""
    refuse_status: int = 403
    unreadable: str = ""
    foreign: dict[str, Fields] = field(default_factory=dict)

    def put(self, path: str, document: Fields) -> Fields:
        """Place an object as the API server would keep it."""
        self.version += 1
        meta = document.setdefault("metadata", {})
        parts = path.split("/")
        meta.setdefault("name", parts[-1])
        if "namespaces" in parts[:-2]:
            meta.setdefault("namespace", parts[parts.index("namespaces") + 1])
        meta.setdefault("uid", str(uuid.uuid4()))
        meta["resourceVersion"] = str(self.version)
        meta.setdefault("generation", 1)
        self.objects[path] = document
        return document

    def writes(self) -> list[tuple[str, str]]:
        """What was asked that changes something."""
        return [(method, path) for method, path, _ in self.requests if method != "GET"]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read() or b"{}")
        self.requests.append((request.method, request.path, {**body, "?": dict(request.query)}))
        if self.broken:
            first = self.broken.pop(0)
            if isinstance(first, web.Response):
                return first
            await asyncio.sleep(first)
        writes_status = request.path.endswith("/status")
        if writes_status and self.meanwhile:
            self.meanwhile.pop(0)()
        handler: Callable[[web.Request, Fields], web.Response] = getattr(self, f"_{request.method.lower()}")
        answer = handler(request, body)
        if writes_status and self.lost:
            self.lost -= 1
            return failure(504, "no answer in time")
        return answer

    def _get(self, request: web.Request, _: Fields) -> web.Response:
        if request.path in self.objects:
            return web.json_response(self.objects[request.path])
        if request.path == self.unreadable:
            return failure(403, "forbidden")
        kinds = ("tasks", "modulegraphs", "jobs", "pods", "events", "namespaces", "workloads")
        plural = request.path.rpartition("/")[2]
        return self._list(request, plural) if plural in kinds else failure(404, "not found")

    def _list(self, request: web.Request, plural: str) -> web.Response:
        place = request.path.removesuffix(f"/{plural}")
        found = [
            item
            for path, item in sorted(self.objects.items())
            if f"/{plural}/" in path and path.startswith(place) and _meets(item, request.query)
        ]
        start, limit = int(request.query.get("continue") or 0), int(request.query.get("limit", 500))
        meta = {"resourceVersion": str(self.version)}
        if start + limit < len(found):
            meta["continue"] = str(start + limit)
        return web.json_response({"metadata": meta, "items": found[start : start + limit]})

    def _post(self, request: web.Request, body: Fields) -> web.Response:
        path = f"{request.path}/{body['metadata']['name']}"
        if path in self.objects:
            return failure(409, "already exists")
        if self.refuse and "/jobs" in path:
            return failure(self.refuse_status, self.refuse)
        return web.json_response(self.put(path, body), status=201)

    def _put(self, request: web.Request, body: Fields) -> web.Response:
        known = self.objects[request.path]
        if body["metadata"].get("resourceVersion") != known["metadata"]["resourceVersion"]:
            return failure(409, "the object has been modified")
        return web.json_response(self.put(request.path, body))

    def _patch(self, request: web.Request, body: Fields) -> web.Response:
        path = request.path.removesuffix("/status")
        if path not in self.objects:
            return failure(404, "not found")
        known = copy.deepcopy(self.objects[path])
        if (
            body.get("metadata", {}).get("resourceVersion", known["metadata"]["resourceVersion"])
            != (known["metadata"]["resourceVersion"])
        ):
            return failure(409, "the object has been modified")
        if request.path == path:
            known = _merged(known, body)
        else:
            foreign = self.foreign.get(path, {})
            applied = request.content_type == "application/apply-patch+yaml"
            before = foreign if applied else known.get("status", {})
            known["status"] = (_applied if applied else _merged)(before, body["status"])
            self.foreign[path] = _left(foreign, known["status"])
        return web.json_response(self.put(path, known))

    def _delete(self, request: web.Request, body: Fields) -> web.Response:
        known = self.objects.get(request.path)
        if known is None:
            return failure(404, "not found")
        if body["preconditions"]["uid"] != known["metadata"]["uid"]:
            return failure(409, "uid")
        if body["propagationPolicy"] == "Background":
            del self.objects[request.path]
            return web.json_response({"kind": "Status", "status": "Success"})
        known["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
        return web.json_response({"kind": "Job", **self.put(request.path, known)})


def _meets(item: Fields, query: Any) -> bool:
    """Whether an object meets the selectors of a query."""
    tags = item["metadata"].get("labels", {})
    for term in filter(None, query.get("labelSelector", "").split(",")):
        key, _, value = term.partition("=")
        if tags.get(key) != value:
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        name, _, value = term.partition("=")
        found: Any = item
        for step in name.split("."):
            found = found.get(step, {})
        if found != value:
            return False
    return True


def _merged(known: Any, patch: Any) -> Any:
    if not isinstance(patch, dict) or not isinstance(known, dict):
        return patch
    merged = {**known, **{key: _merged(known.get(key), value) for key, value in patch.items()}}
    return {key: value for key, value in merged.items() if value is not None}


def _applied(foreign: Any, applied: Any) -> Any:
    """What an apply by force makes of a status whose other fields are all its own: what another owns stays beside."""
    if isinstance(foreign, dict) and isinstance(applied, dict):
        return {**foreign, **{key: _applied(foreign.get(key), value) for key, value in applied.items()}}
    if isinstance(foreign, list) and isinstance(applied, list):
        types = {item["type"] for item in applied}
        return [*applied, *(item for item in foreign if item["type"] not in types)]
    return applied


def _left(foreign: Fields, status: Fields) -> Fields:
    """What another still owns of a status as it is now: a value by force is no longer its own."""
    left: Fields = {}
    for key, value in foreign.items():
        now = status.get(key)
        if isinstance(value, dict) and isinstance(now, dict):
            left[key] = _left(value, now)
        elif isinstance(value, list) and isinstance(now, list):
            left[key] = [item for item in value if item in now]
        elif value == now:
            left[key] = value
    return left


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """Serve on loopback; the URL."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def connected(api: Api, metrics: Metrics | None = None, **more: Any) -> AsyncIterator[Client]:
    """A client of `api`."""
    async with serving(api.answer) as url:
        configuration = Configuration(host=url)
        configuration.client_session_kwargs = {"trust_env": False}
        client = Client(ApiClient(configuration), metrics or Metrics(), **{"pauses_s": (0.01, 0.01), **more})
        try:
            yield client
        finally:
            await client.close()


@pytest.fixture
def api() -> Api:
    """An empty API server."""
    return Api()


@pytest.fixture
def go() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Runs a coroutine to its end."""
    return asyncio.run
