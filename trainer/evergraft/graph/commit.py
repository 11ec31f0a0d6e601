"""A commit: preconditions plus changes, as a value. The graph is a fold over commits.

The commit log stores one document per version. Called by the store's log, which writes them, and by
``graph.state``, which applies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evergraft import canonical
from evergraft.graph.route import RouteSummary, check_format, content_id, reading
from evergraft.names import RunKey


@dataclass(frozen=True)
class AddModules:
    """Module blobs that this commit makes part of the graph: id to bytes of the stored file."""

    modules: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"type": "addModules", "modules": dict(self.modules)}


@dataclass(frozen=True)
class PutRoute:
    """Make `route` the route of its task."""

    route: RouteSummary

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"type": "putRoute", "route": self.route.to_json()}


@dataclass(frozen=True)
class RemoveRoute:
    """Take away the route of `task`; its run key stays."""

    task: str

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"type": "removeRoute", "task": self.task}


@dataclass(frozen=True)
class CloseSearch:
    """End one run of one task. `outcome` is committed, kept, none or failed.

    `sampled` counts how often this task's searches have drawn each route as a parent, this search included.
    """

    task: str
    run: RunKey
    search: str
    task_hash: str
    outcome: str
    visibility: str = "Public"
    sampled: Mapping[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "type": "closeSearch",
            "task": self.task,
            "run": str(self.run),
            "search": self.search,
            "taskHash": self.task_hash,
            "outcome": self.outcome,
            "visibility": self.visibility,
            "sampled": dict(self.sampled or {}),
        }


@dataclass(frozen=True)
class Restore:
    """Put back the routes of an earlier version: task to its route then, None where it had none."""

    version: int
    routes: Mapping[str, RouteSummary | None]

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        routes = {task: route.to_json() if route else None for task, route in self.routes.items()}
        return {"type": "restore", "version": self.version, "routes": routes}


@dataclass(frozen=True)
class Condemn:
    """Blobs that no route names: later commits may not use them, and gc deletes them after a grace period."""

    ids: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"type": "condemn", "ids": list(self.ids)}


@dataclass(frozen=True)
class Swept:
    """Condemned blobs that are deleted now; the ids are free again."""

    ids: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"type": "swept", "ids": list(self.ids)}


Action = AddModules | PutRoute | RemoveRoute | CloseSearch | Restore | Condemn | Swept


@dataclass(frozen=True)
class Commit:
    """One entry of the log. `id` is the writer's own mark, `previous` the SHA-256 of the commit before.

    `time` is the writer's clock, for people only: nothing decides by it. `base` is the version the search read.
    """

    version: int
    id: str
    previous: str | None
    time: str
    author: str
    base: int
    search: str | None
    actions: tuple[Action, ...]

    def to_json(self) -> dict[str, Any]:
        """The document as stored."""
        return {
            "format": canonical.FORMAT,
            "version": self.version,
            "id": self.id,
            "previous": self.previous,
            "time": self.time,
            "author": self.author,
            "base": self.base,
            "search": self.search,
            "actions": [action.to_json() for action in self.actions],
        }

    def encode(self) -> bytes:
        """The canonical bytes; their SHA-256 links the next commit to this one."""
        return canonical.dumps(self.to_json())

    @classmethod
    def from_json(cls, value: Any) -> Commit:
        """Read a stored commit.

        Raises:
            FormatError: written by a newer format.
            IntegrityError: a field is missing or wrong, or an action is unknown.
        """
        check_format(value, what="commit")
        with reading("commit"):
            return cls(
                version=int(value["version"]),
                id=str(value["id"]),
                previous=None if value["previous"] is None else content_id(value["previous"]),
                time=str(value["time"]),
                author=str(value["author"]),
                base=int(value["base"]),
                search=None if value["search"] is None else str(value["search"]),
                actions=tuple(_action(item) for item in value["actions"]),
            )


def _action(value: Any) -> Action:
    match value["type"]:
        case "addModules":
            return AddModules({content_id(key): int(size) for key, size in value["modules"].items()})
        case "putRoute":
            return PutRoute(RouteSummary.from_json(value["route"]))
        case "removeRoute":
            return RemoveRoute(str(value["task"]))
        case "closeSearch":
            return CloseSearch(
                task=str(value["task"]),
                run=RunKey.parse(value["run"]),
                search=str(value["search"]),
                task_hash=str(value["taskHash"]),
                outcome=str(value["outcome"]),
                visibility=str(value["visibility"]),
                sampled={str(key): int(count) for key, count in value["sampled"].items()},
            )
        case "restore":
            routes = {
                str(task): RouteSummary.from_json(route) if route else None for task, route in value["routes"].items()
            }
            return Restore(version=int(value["version"]), routes=routes)
        case "condemn":
            return Condemn(tuple(map(content_id, value["ids"])))
        case "swept":
            return Swept(tuple(map(content_id, value["ids"])))
        case other:
            raise ValueError(f"unknown action {other!r}")
