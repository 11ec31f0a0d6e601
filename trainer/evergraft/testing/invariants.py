"""What must hold of a graph in a store whatever happened to it, read from the raw objects.

Deliberately shares nothing with the fold, the readers or verify, so that one mistake does not hide another. Called
by the stateful tests after every step, and by `graph check --deep`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from evergraft import canonical, names
from evergraft.errors import EvergraftError
from evergraft.graph.module import decode
from evergraft.store.seam import Store

Acknowledged = tuple[int, str]
"""(version, commit id) that a writer was told has landed."""


@dataclass
class _Seen:
    """What the log said so far."""

    serving: dict[str, dict[str, Any]] = field(default_factory=dict)
    routes: dict[str, dict[str, Any]] = field(default_factory=dict)
    first: dict[str, tuple[str, str]] = field(default_factory=dict)
    runs: dict[str, tuple[int, int]] = field(default_factory=dict)
    landed: dict[str, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)


def check_invariants(store: Store, acknowledged: Iterable[Acknowledged] = ()) -> list[str]:
    """Everything that is wrong, in words; empty if all holds.

    Held: the chain is unbroken, no acknowledged commit is missing, runs of a task only rise, at most one route lands
    for a search, every reference resolves to whole bytes, nothing condemned is in use, no lineage is private.
    """
    log = _log(store)
    wrong = [*_chain(log), *_missing(log, acknowledged)]
    seen = _Seen()
    for commit in log:
        wrong += _fold(seen, commit)
    return [*wrong, *_references(store, seen)]


def _log(store: Store) -> list[dict[str, Any]]:
    """The commits as they lie in the listing, each with its key's version and its digest."""
    found = []
    for entry in store.list(names.LOG):
        data = store.get(entry.key)
        try:
            commit = json.loads(data)
        except ValueError:
            commit = {"actions": (), "id": None, "version": None, "previous": None}
        found.append({**commit, "key": entry.key, "digest": canonical.sha256(data)})
    return found


def _chain(log: list[dict[str, Any]]) -> Iterator[str]:
    previous = None
    for number, commit in enumerate(log):
        if commit["key"] != names.log_key(number) or commit["version"] != number:
            yield f"{commit['key']} holds version {commit['version']} where version {number} must be"
        if commit["previous"] != previous:
            yield f"{commit['key']} does not follow the commit before it"
        previous = commit["digest"]
    ids = [commit["id"] for commit in log]
    if len(set(ids)) != len(ids):
        yield "a commit stands under two versions"


def _missing(log: list[dict[str, Any]], acknowledged: Iterable[Acknowledged]) -> Iterator[str]:
    standing = {commit["version"]: commit["id"] for commit in log}
    for version, commit_id in acknowledged:
        if standing.get(version) != commit_id:
            yield f"the commit {commit_id} was acknowledged as version {version} and is not there"


def _fold(seen: _Seen, commit: Mapping[str, Any]) -> Iterator[str]:
    """Take in one commit."""
    put = {action["route"]["task"]: action["route"] for action in commit["actions"] if action["type"] == "putRoute"}
    for action in commit["actions"]:
        match action["type"]:
            case "addModules":
                for module in action["modules"]:
                    for route in put.values():
                        seen.first.setdefault(module, (route["task"], route["visibility"]))
            case "putRoute":
                yield from _put(seen, action["route"])
            case "closeSearch":
                yield from _close(seen, action, landed=action["task"] in put)
            case "removeRoute":
                seen.serving.pop(action["task"], None)
            case "restore":
                yield from _restore(seen, action["routes"])
            case "condemn":
                seen.gone |= set(action["ids"])
            case "swept":
                seen.gone -= set(action["ids"])


def _put(seen: _Seen, route: dict[str, Any]) -> Iterator[str]:
    parent = seen.routes.get(route["parent"])
    if parent is None and route["task"] != names.ROOT_TASK:
        yield f"{route['task']}: its parent {route['parent']} was never committed before it"
    if parent is not None and parent["visibility"] == "Private" and parent["task"] != route["task"]:
        yield f"{route['task']} builds on a route of {parent['task']}, which is private"
    for module in _modules(route):
        task, visibility = seen.first.get(module, (None, "Public"))
        if task is None:
            yield f"{route['task']}: module {module[:12]}… was never added"
        if visibility == "Private" and task != route["task"]:
            yield f"{route['task']} shares module {module[:12]}… of {task}, which is private"
        if module in seen.gone:
            yield f"{route['task']}: module {module[:12]}… was condemned when it landed"
    seen.routes[route["id"]] = route
    seen.serving[route["task"]] = route


def _close(seen: _Seen, close: Mapping[str, Any], *, landed: bool) -> Iterator[str]:
    task, run = close["task"], names.RunKey.parse(close["run"])
    key = (run.iteration, run.cycle)
    if key <= seen.runs.get(task, (0, 0)):
        yield f"{task}: run {run} was closed at or after a run that is not lower"
    seen.runs[task] = key
    seen.landed[close["search"]] = seen.landed.get(close["search"], 0) + landed
    if seen.landed[close["search"]] > 1:
        yield f"{task}: search {close['search']} landed {seen.landed[close['search']]} routes"


def _restore(seen: _Seen, routes: Mapping[str, Any]) -> Iterator[str]:
    for task, route in routes.items():
        if route is None:
            seen.serving.pop(task, None)
            continue
        if seen.routes.get(route["id"], {}).get("task") != task:
            yield f"{task}: a restore puts back a route that it never had"
        seen.serving[task] = route


def _references(store: Store, seen: _Seen) -> Iterator[str]:
    """Every blob that a serving route names is there, whole."""
    whole: set[str] = set()
    for task, route in seen.serving.items():
        if _wrong_document(store, route["id"]):
            yield f"{task}: the document of route {route['id'][:12]}… is absent or damaged"
        for module in _modules(route):
            if module in seen.gone:
                yield f"{task}: module {module[:12]}… is in use and condemned"
            if module not in whole and _wrong_module(store, module):
                yield f"{task}: module {module[:12]}… is absent or damaged"
            whole.add(module)


def _modules(route: Mapping[str, Any]) -> Iterator[str]:
    for layer in route["layers"]:
        yield layer["module"]
        yield from (delta["module"] for delta in layer["deltas"])


def _wrong_document(store: Store, route: str) -> bool:
    try:
        return canonical.sha256(store.get(names.route_key(route))) != route
    except EvergraftError:
        return True


def _wrong_module(store: Store, module: str) -> bool:
    try:
        decode(store.get(names.module_key(module)), expected_id=module)
    except EvergraftError:
        return True
    return False
