"""The operator's two ports: `/healthz` and `/readyz` for the kubelet, `/metrics` for Prometheus.

Healthy is a process whose event loop answers and whose workers get on; ready one that reaches the API server and has
seen everything, also as a standby. Started by the process before anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from evergraft_operator.settings import Address


@dataclass
class Probes:
    """The servers. `sick` and `unready` say what is wrong, empty for nothing; `refresh` is called before a scrape."""

    registry: CollectorRegistry
    sick: Callable[[], str]
    unready: Callable[[], str]
    refresh: Callable[[], None]
    _runners: list[web.AppRunner] = field(default_factory=list)

    async def start(self, *, metrics: Address, probes: Address) -> None:
        """Listen. Raises OSError if a port is taken."""
        checks = web.Application()
        checks.router.add_get("/healthz", self._health)
        checks.router.add_get("/readyz", self._readiness)
        figures = web.Application()
        figures.router.add_get("/metrics", self._metrics)
        for application, address in ((checks, probes), (figures, metrics)):
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            self._runners.append(runner)
            await web.TCPSite(runner, address.host or None, address.port).start()

    async def stop(self) -> None:
        """Listen no more."""
        for runner in self._runners:
            await runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        return _answer(self.sick())

    async def _readiness(self, _: web.Request) -> web.Response:
        return _answer(self.unready())

    async def _metrics(self, _: web.Request) -> web.Response:
        self.refresh()
        headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        return web.Response(body=generate_latest(self.registry), headers=headers)


def _answer(wrong: str) -> web.Response:
    return web.Response(text=wrong or "ok", status=503 if wrong else 200)
