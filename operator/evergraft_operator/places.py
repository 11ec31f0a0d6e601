"""Where ModuleGraphs keep their objects, so that two whose objects would mix are found without comparing all with all.

A store is a folder; one that is another, or lies inside it, shares objects with it. What is written in different ways
and may be one place counts as one: to refuse a graph that could have been let in costs its owner another folder, the
opposite costs a store. Read by ``facts`` for the cache's index and by ``graphs``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evergraft_operator import reading

MAX_URL = 2048
"""As the API allows."""
MAX_TOLD = 100
"""Signs of a place in a message."""
_CLOUDS = {"s3": ".amazonaws.com", "gs": ".googleapis.com"}
_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A folder: `root` is the bucket or the volume, `folders` the way down from there."""

    root: tuple[str, ...]
    folders: tuple[str, ...] = ()

    def holds(self, other: StorePlace) -> bool:
        """Whether `other` is this folder or lies inside it."""
        return self.root == other.root and other.folders[: len(self.folders)] == self.folders

    def overlaps(self, other: StorePlace) -> bool:
        """Whether the two share objects."""
        return self.holds(other) or other.holds(self)

    def keys(self) -> Iterator[str]:
        """Short names of every folder on the way, the root's first and this one's last; equal for equal folders."""
        digest = hashlib.sha256(repr(self.root).encode("utf-8", "replace"))
        yield digest.hexdigest()[:32]
        for name in self.folders:
            digest.update(f"/{name}".encode("utf-8", "replace"))
            yield digest.hexdigest()[:32]

    def __str__(self) -> str:
        """As a person reads it, the middle left out where it is long."""
        kind, *_, name = self.root
        text = "/".join((f"{kind}{name}", *self.folders))
        return text if len(text) <= MAX_TOLD else f"{text[: MAX_TOLD // 2]}…{text[-MAX_TOLD // 2 :]}"


def store_place(namespace: str, spec: Mapping[str, Any]) -> StorePlace | None:
    """The place that a ModuleGraph's spec names, valid or not; None where it names none."""
    store = reading.mapping(spec, "store")
    claim = reading.mapping(store, "persistentVolumeClaim")
    if claim:
        folders = _folders(reading.text(claim.get("path"), MAX_URL))
        return StorePlace(
            ("volume ", namespace, reading.text(claim.get("claimName"))), tuple(f for f in folders if f != ".")
        )
    scheme, found, rest = reading.text(store.get("url"), MAX_URL).partition("://")
    if not found:
        return None
    bucket, _, path = rest.partition("/")
    scheme = scheme.lower()
    endpoint = _endpoint(scheme, reading.text(store.get("endpoint"), MAX_URL))
    return StorePlace((f"{scheme}://", endpoint, bucket.lower()), _folders(path))


def _folders(path: str) -> tuple[str, ...]:
    return tuple(filter(None, path.split("/")))


def _endpoint(scheme: str, url: str) -> str:
    """The server that an endpoint names, empty for the cloud's own."""
    protocol, _, rest = url.lower().partition("://")
    host, _, path = rest.partition("/")
    host = host.removesuffix(_PORTS.get(protocol, ""))
    return "" if f".{host}".endswith(_CLOUDS.get(scheme, "/")) else "/".join((host, *_folders(path)))
