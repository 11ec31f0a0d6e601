"""The operator's requests to the API server: plain dicts in and out, 8 seconds a request, counted, retried with a cap.

Watches are kopf's; everything else goes through here. Every write first asks the `guard`, so that none begins after
this process ceased to lead. Objects are created under deterministic names, deleted by uid and applied whole, so that
a request whose answer was lost may be sent again. Called by the observer, the applier, the recorder and the Lease.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException
from yaml import YAMLError

from evergraft.errors import EvergraftError, UserError
from evergraft_operator import reading
from evergraft_operator.kinds import Kind
from evergraft_operator.metrics import Metrics

Fields = dict[str, Any]

TIMEOUT_S = 8
RETRY_PAUSES_S = (0.5, 1.0, 2.0)
MAX_RETRY_AFTER_S = 10.0
PAGE = 250
CONNECTIONS = 32
FIELD_MANAGER = "evergraft-operator"
_WORLD = (401, 408, 429, 500, 502, 503, 504)
"""Answers that say nothing about what was asked."""
UNREADABLE = (ConfigException, OSError, YAMLError, TypeError, KeyError, ValueError, AttributeError)
"""What reading a kubeconfig may raise; the library checks little of its shape."""


class KubeError(EvergraftError):
    """The API server did not do what was asked. `status` is its HTTP code, 0 if it did not answer."""

    exit_code = 75

    def __init__(self, message: str, *, status: int = 0, reason: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


class UnreachableError(KubeError):
    """It did not answer, or had no time for it: later it may."""


class MissingError(KubeError):
    """There is no such object, or no such kind."""


class ConflictedError(KubeError):
    """The object exists already, or is not as it was when it was read."""


class RefusedError(KubeError):
    """It will not have this: forbidden, over quota, denied by a webhook, invalid, or a field that another owns."""


async def load_configuration() -> Configuration:
    """Where the API server is and who we are: in a pod its service account, else the kubeconfig.

    Raises:
        UserError: there is neither, or it cannot be read.
    """
    found = Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
            config.load_incluster_config(client_configuration=found)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(client_configuration=found)  # type: ignore[no-untyped-call]
    except UNREADABLE as error:
        raise UserError(
            f"no cluster to work in: {error}; run it in a pod with a service account, or set KUBECONFIG"
        ) from error
    found.connection_pool_maxsize = CONNECTIONS
    found.client_session_kwargs = {"trust_env": False}
    return found


@dataclass(frozen=True)
class Page:
    """A part of a list; `version` is the resource version that the whole list shows."""

    items: Sequence[Fields]
    version: str


class Client:
    """Requests of one process. Every method raises KubeError or one of its kinds."""

    def __init__(
        self,
        transport: ApiClient,
        metrics: Metrics,
        guard: Callable[[], None] = lambda: None,
        pauses_s: Sequence[float] = RETRY_PAUSES_S,
    ) -> None:
        self._transport = transport
        self._metrics = metrics
        self._guard = guard
        self._pauses_s = pauses_s

    def guarded(self, guard: Callable[[], None]) -> Client:
        """The same client, asking `guard` before it writes; what that raises is let through."""
        return Client(self._transport, self._metrics, guard, self._pauses_s)

    def once(self) -> Client:
        """The same client without a second try."""
        return Client(self._transport, self._metrics, self._guard, ())

    async def get(self, kind: Kind, namespace: str, name: str) -> Fields:
        """The object as it is now."""
        return await self._send("get", kind, kind.path(namespace, name))

    async def served(self, kind: Kind) -> bool:
        """Whether the API server knows the kind."""
        path = kind.path().rpartition("/")[0]
        try:
            found = await self._send("get", kind, path)
        except MissingError:
            return False
        return any(item.get("name") == kind.plural for item in reading.objects(found, "resources"))

    async def pages(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = "", at_most: int | None = None
    ) -> AsyncIterator[Page]:
        """All objects that meet the selectors, page by page; with `at_most` only the first page, of that size."""
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(at_most or PAGE), "continue": ""}
        while True:
            found = await self._send("list", kind, kind.path(namespace), query=query)
            meta = reading.mapping(found, "metadata")
            items = [item for item in found.get("items") or () if isinstance(item, dict)]
            yield Page(items, str(meta.get("resourceVersion", "")))
            query["continue"] = str(meta.get("continue") or "")
            if at_most is not None or not query["continue"]:
                return

    async def create(self, kind: Kind, namespace: str, document: Fields) -> Fields:
        """Create an object; ConflictedError if there is one of that name."""
        return await self._send("create", kind, kind.path(namespace), body=document)

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Fields, *, part: str = "") -> Fields:
        """Change a few fields, of the status as its `part`; a resourceVersion in the patch makes it conditional."""
        content = "application/merge-patch+json"
        return await self._send("patch", kind, kind.path(namespace, name, part), body=patch, content=content)

    async def apply_status(self, kind: Kind, namespace: str, document: Fields) -> Fields:
        """Server-side apply of the whole status in `document`, as its field owner; what others own too stays in it.

        A resourceVersion in its metadata makes it conditional, on the status too: ConflictedError if the object has
        changed since.
        """
        path = kind.path(namespace, document["metadata"]["name"], "status")
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._send("patch", kind, path, body=document, content="application/apply-patch+yaml", query=query)

    async def replace(self, kind: Kind, namespace: str, name: str, document: Fields) -> Fields:
        """Put a whole object in the place of the version it was read at."""
        return await self._send("update", kind, kind.path(namespace, name), body=document)

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str, foreground: bool = True) -> Fields:
        """Delete that very object, what it owns first, or with `foreground` false at once and what it owns after it.

        The answer is the object as it stays for now, or a Status where it is gone.
        """
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground" if foreground else "Background",
            "preconditions": {"uid": uid},
        }
        return await self._send("delete", kind, kind.path(namespace, name), body=options)

    async def close(self) -> None:
        """Close the connections, those of every client made from this one too."""
        await self._transport.close()  # type: ignore[no-untyped-call]

    async def _send(
        self,
        verb: str,
        kind: Kind,
        path: str,
        *,
        body: Fields | None = None,
        content: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Fields:
        """One request, and again after a pause while the world is in its way."""
        for pause in (*self._pauses_s, None):
            if verb not in ("get", "list"):
                self._guard()
            try:
                return await self._once(verb, kind, path, body, content, query or {})
            except UnreachableError as error:
                if pause is None:
                    raise
                # Not all at the same moment, after an outage that hit all of them.
                wait = max(pause * random.uniform(0.5, 1.5), min(error.retry_after_s, MAX_RETRY_AFTER_S))
                await asyncio.sleep(wait)
        raise AssertionError

    async def _once(
        self, verb: str, kind: Kind, path: str, body: Fields | None, content: str, query: Mapping[str, str]
    ) -> Fields:
        method = {"create": "POST", "patch": "PATCH", "update": "PUT", "delete": "DELETE"}.get(verb, "GET")
        headers = {"Accept": "application/json", "Content-Type": content}
        count = self._metrics.kube_requests
        try:
            _, url, headers, data, _ = await self._transport.param_serialize(
                method,
                path,
                query_params=[(name, value) for name, value in query.items() if value],
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self._transport.call_api(method, url, headers, data, _request_timeout=TIMEOUT_S)
            text = await answer.read()  # type: ignore[no-untyped-call]
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            count.labels(verb, kind.plural, "timeout").inc()
            raise UnreachableError(f"{method} {path}: no answer: {type(error).__name__}: {error}") from None
        count.labels(verb, kind.plural, str(answer.status)).inc()
        return _understood(method, path, answer.status, answer.headers, text)


def _understood(method: str, path: str, status: int, headers: Mapping[str, str], text: bytes) -> Fields:
    """The answer's object, or the error that it is."""
    try:
        value = json.loads(text)
    except ValueError:
        value = {}
    fields = value if isinstance(value, dict) else {}
    if 200 <= status < 300:
        return fields
    told = reading.text(fields.get("message"), 1000) or reading.text(text.decode("utf-8", "replace"), 300)
    after = reading.number(headers.get("Retry-After")) or 0.0
    kinds: Mapping[int, type[KubeError]] = {
        404: MissingError,
        409: RefusedError if _is_owned(fields) else ConflictedError,
    }
    kind = UnreachableError if status in _WORLD else kinds.get(status, RefusedError)
    reason = reading.text(fields.get("reason"), 64)
    raise kind(f"{method} {path}: {status}: {told}", status=status, reason=reason, retry_after_s=after)


def _is_owned(answer: Fields) -> bool:
    """Whether a conflict is about fields that another manager owns: to read the object anew does not mend that."""
    causes = reading.objects(answer, "details", "causes", at_most=64)
    return any(cause.get("reason") == "FieldManagerConflict" for cause in causes)
