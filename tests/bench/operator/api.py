"""The API server asked by many requests at a time, as the administrator: what fills a cluster with Tasks in seconds.

Used by every program of this folder; nothing here counts among the operator's requests.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

Object = dict[str, Any]
AT_ONCE = 24
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
GROUP = "/apis/evergraft.dev/v1alpha1"


class Api:
    """An open door to the API server at `host`, with the administrator's certificate in the folder `pki`."""

    def __init__(self, host: str, pki: Path) -> None:
        self._root = f"https://{host}:6443"
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Api:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=AT_ONCE + 2)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        self._session = aiohttp.ClientSession(self._root, connector=connector, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def call(self, method: str, path: str, body: Object | None = None, kind: str = "") -> tuple[int, Object]:
        """Status and answer of one request."""
        assert self._session is not None
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": kind or "application/json", "Accept": "application/json"}
        async with self._session.request(method, path, data=data, headers=headers) as answer:
            text = await answer.read()
            return answer.status, json.loads(text) if text.startswith(b"{") else {"message": text.decode()}

    async def must(self, method: str, path: str, body: Object | None = None, kind: str = "") -> Object:
        """The answer of a request that has to succeed."""
        status, answer = await self.call(method, path, body, kind)
        assert status < 300, (method, path, status, answer.get("message"))
        return answer

    async def text(self, path: str) -> str:
        """What GET `path` answers, such as metrics."""
        assert self._session is not None
        async with self._session.get(path) as answer:
            return await answer.text()

    async def each(self, path: str) -> AsyncIterator[Object]:
        """Every object of a collection, page by page."""
        more = ""
        while True:
            joint = "&" if "?" in path else "?"
            found = await self.must("GET", f"{path}{joint}limit=500&continue={more}")
            for item in found["items"]:
                yield item
            more = found["metadata"].get("continue", "")
            if not more:
                return

    async def watch(self, path: str) -> AsyncIterator[Object]:
        """The events of a watch, from now on, until the API server ends it."""
        assert self._session is not None
        async with self._session.get(path) as answer:
            assert answer.status == 200, await answer.text()
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)


async def together(work: Iterable[Awaitable[object]], at_once: int = AT_ONCE) -> None:
    """Do all of it, a few at a time."""
    turns = asyncio.Semaphore(at_once)

    async def one(item: Awaitable[object]) -> None:
        async with turns:
            await item

    await asyncio.gather(*map(one, work))
