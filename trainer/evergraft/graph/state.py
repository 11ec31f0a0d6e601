"""The graph at one version, and the pure fold `apply(graph, commit) -> graph`.

Tasks lie in 256 shards by hash of their id; a commit replaces the one shard it touches and shares the rest, so the
cost of a step is the size of the change, and a checkpoint sees by identity which shards are new. Called by the
store's log and checkpoints, by planning and by verify.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from evergraft.errors import AlreadyCommittedError, ConflictError, IntegrityError, RouteRemovedError
from evergraft.graph.commit import (
    Action,
    AddModules,
    CloseSearch,
    Commit,
    Condemn,
    PutRoute,
    RemoveRoute,
    Restore,
    Swept,
)
from evergraft.graph.route import RouteSummary, reading
from evergraft.names import ROOT_TASK, RunKey

NUM_SHARDS = 256
_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class TaskState:
    """What HEAD keeps of one task: its newest closed run, and the route that serves it.

    `outcome` is committed, kept, none, failed or removed. `sampled` counts how often each route was drawn as a
    parent by this task's searches.
    """

    run: RunKey | None = None
    search: str | None = None
    task_hash: str | None = None
    outcome: str | None = None
    visibility: str = "Public"
    route: RouteSummary | None = None
    version: int = 0
    sampled: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The JSON form, as it stands in checkpoint shards."""
        return {
            "run": str(self.run) if self.run else None,
            "search": self.search,
            "taskHash": self.task_hash,
            "outcome": self.outcome,
            "visibility": self.visibility,
            "route": self.route.to_json() if self.route else None,
            "version": self.version,
            "sampled": dict(self.sampled),
        }

    @classmethod
    def from_json(cls, value: Any) -> TaskState:
        """Read the JSON form.

        Raises:
            IntegrityError: a field is missing or wrong.
        """
        with reading("task state"):
            return cls(
                run=RunKey.parse(value["run"]) if value["run"] else None,
                search=value["search"],
                task_hash=value["taskHash"],
                outcome=value["outcome"],
                visibility=str(value["visibility"]),
                route=RouteSummary.from_json(value["route"]) if value["route"] else None,
                version=int(value["version"]),
                sampled={str(key): int(count) for key, count in value["sampled"].items()},
            )


Shard = Mapping[str, TaskState]


@dataclass(frozen=True)
class Graph:
    """All tasks at `version`. `head` is the SHA-256 of that version's commit; -1 and None before the first.

    `condemned` ids may not be used by new commits; `swept` maps deleted ids to the version that deleted them.
    `checkpoint` is the newest checkpoint that the reader knew of, -1 for none: a fact about the store, not the graph.
    """

    version: int = -1
    head: str | None = None
    shards: tuple[Shard, ...] = field(default=(_EMPTY,) * NUM_SHARDS, repr=False)
    condemned: frozenset[str] = frozenset()
    swept: Mapping[str, int] = field(default_factory=dict)
    checkpoint: int = field(default=-1, compare=False)

    def task(self, task: str) -> TaskState | None:
        """The state of one task, None if the graph never heard of it."""
        return self.shards[shard_of(task)].get(task)

    def tasks(self) -> Iterator[tuple[str, TaskState]]:
        """Every (task id, state), ordered by task id."""
        yield from sorted((item for shard in self.shards for item in shard.items()), key=lambda item: item[0])

    def routes(self) -> Iterator[RouteSummary]:
        """Every serving route, ordered by task id."""
        return (state.route for _, state in self.tasks() if state.route is not None)

    def users(self) -> Counter[str]:
        """How many tasks use each module."""
        return Counter(module for route in self.routes() for module in set(route.module_ids()))


def shard_of(task: str) -> int:
    """The shard of a task: the first byte of SHA-256 over its id."""
    return hashlib.sha256(task.encode()).digest()[0]


def apply(graph: Graph, commit: Commit, *, digest: str) -> Graph:
    """The graph after `commit`, whose stored bytes have SHA-256 `digest`. Pure; decides nothing.

    Raises:
        IntegrityError: the commit does not follow the graph's head.
    """
    if commit.version != graph.version + 1 or commit.previous != graph.head:
        raise IntegrityError(f"log: commit {commit.version} does not follow {graph.version} by version and digest")
    for action in commit.actions:
        graph = _act(graph, action, commit)
    return replace(graph, version=commit.version, head=digest)


def _act(graph: Graph, action: Action, commit: Commit) -> Graph:
    match action:
        case AddModules():
            return graph
        case PutRoute(route):
            return _change(graph, route.task, route=route, visibility=route.visibility, version=commit.version)
        case RemoveRoute(task):
            return _change(graph, task, route=None, outcome="removed", version=commit.version)
        case CloseSearch():
            return _close(graph, action, commit)
        case Restore():
            for task, earlier in action.routes.items():
                outcome = "committed" if earlier else "removed"
                graph = _change(graph, task, route=earlier, outcome=outcome, version=commit.version)
            return graph
        case Condemn(ids):
            return replace(graph, condemned=graph.condemned | frozenset(ids))
        case Swept(ids):
            swept = {**graph.swept, **dict.fromkeys(ids, commit.version)}
            return replace(graph, condemned=graph.condemned - frozenset(ids), swept=swept)


def _close(graph: Graph, close: CloseSearch, commit: Commit) -> Graph:
    sampled = close.sampled or (graph.task(close.task) or TaskState()).sampled
    return _change(
        graph,
        close.task,
        run=close.run,
        search=close.search,
        task_hash=close.task_hash,
        outcome=close.outcome,
        visibility=close.visibility,
        version=commit.version,
        sampled=sampled,
    )


def _change(graph: Graph, task: str, **changes: Any) -> Graph:
    index = shard_of(task)
    state = replace(graph.shards[index].get(task, TaskState()), **changes)
    shard = {**graph.shards[index], task: state}
    return replace(graph, shards=(*graph.shards[:index], shard, *graph.shards[index + 1 :]))


def check(graph: Graph, actions: tuple[Action, ...], *, base: int, uploaded: int | None = None) -> None:
    """Refuse actions that HEAD forbids. `base` is the version their author read.

    `uploaded` is a version that their author had read before putting the commit's own blobs, `base` if not given: a
    blob deleted up to then was put again since.

    Raises:
        AlreadyCommittedError: the run is at or below the task's run key (fencing).
        RouteRemovedError: the run is at or below it and the route was removed.
        ConflictError: a condemned or deleted blob is used, one in use is condemned, a private route is built upon, a
            task changes its visibility, or the root is touched.
    """
    closed = {action.task for action in actions if isinstance(action, CloseSearch)}
    added = _added(actions)
    uploaded = base if uploaded is None else uploaded
    for action in actions:
        if isinstance(action, CloseSearch):
            check_run(graph, action.task, action.run)
            check_visibility(graph, action.task, action.visibility)
        elif isinstance(action, AddModules):
            _check_blobs(graph, action.modules, base=uploaded, what="commit")
        elif isinstance(action, PutRoute):
            if action.route.task not in closed and not action.route.is_root:
                raise ConflictError(f"{action.route.task}: a route lands only with the search that it closes")
            _check_blobs(graph, (action.route.id,), base=uploaded, what=action.route.task)
            _check_route(graph, action.route, base=base, fresh=added)
            check_visibility(graph, action.route.task, action.route.visibility)
            _check_lineage(graph, action.route, added)
        elif isinstance(action, Restore):
            _check_restore(graph, action)
        elif isinstance(action, Condemn):
            _check_unused(graph, action.ids)
        elif isinstance(action, Swept):
            _check_condemned(graph, action.ids)
        elif isinstance(action, RemoveRoute):
            if action.task == ROOT_TASK:
                raise ConflictError("root: the root's route stays; every route is built on it")
            state = graph.task(action.task)
            if state is None or state.route is None:
                raise ConflictError(f"{action.task}: no route to remove at version {graph.version}")


def check_shared(graph: Graph, actions: tuple[Action, ...]) -> None:
    """Refuse routes with modules that are neither new nor of their parent, as `graph` has it.

    HEAD may have replaced the parent since; the version that the author read is where this can be seen.

    Raises:
        ConflictError: there is such a module.
    """
    added = _added(actions)
    for action in actions:
        if isinstance(action, PutRoute) and not action.route.is_root:
            _check_shared(graph, action.route, added)


def _added(actions: tuple[Action, ...]) -> set[str]:
    return {module for action in actions if isinstance(action, AddModules) for module in action.modules}


def check_run(graph: Graph, task: str, run: RunKey) -> None:
    """Refuse a run of a task that HEAD has closed already, or that a later one has overtaken.

    Raises:
        AlreadyCommittedError: this run or a later one is closed.
        RouteRemovedError: it is closed and its route was removed.
    """
    state = graph.task(task)
    if state is None or state.run is None or run > state.run:
        return
    if state.outcome == "removed":
        raise RouteRemovedError(
            f"{task}: RouteRemoved: its route was removed; set iteration to {state.run.iteration + 1}"
        )
    again = f"; raise spec.iteration to {state.run.iteration + 1} to try again"
    raise AlreadyCommittedError(
        f"{task}: AlreadyCommitted: version {state.version} closed run {state.run} ({state.outcome})"
        + (again if state.outcome in ("none", "failed") else "")
    )


def _check_route(graph: Graph, route: RouteSummary, *, base: int, fresh: Collection[str]) -> None:
    """What a route takes from others must still be there: modules, and the document of its parent, its lineage."""
    taken = [module for module in route.module_ids() if module not in fresh]
    _check_blobs(graph, (*taken, *([route.parent] if route.parent else [])), base=base, what=route.task)


def _check_blobs(graph: Graph, ids: Iterable[str], *, base: int, what: str) -> None:
    for blob in ids:
        if blob in graph.condemned:
            raise ConflictError(f"{what}: blob {blob[:12]}… is condemned by gc; search again once gc has swept it")
        if graph.swept.get(blob, -1) > base:
            raise ConflictError(f"{what}: blob {blob[:12]}… was deleted since version {base}; search again")


def check_visibility(graph: Graph, task: str, visibility: str) -> None:
    """Once closed, a task stays what it was: its modules live on in what others build, or may not.

    Raises:
        ConflictError: a run of it was closed as what it is not to be now.
    """
    state = graph.task(task)
    if state is not None and state.visibility != visibility:
        raise ConflictError(
            f"{task}: spec.visibility is immutable, and version {state.version} closed a run as {state.visibility}; "
            f"set it back, or give the {visibility.lower()} task another name"
        )


def _check_unused(graph: Graph, ids: Iterable[str]) -> None:
    """gc chose what to condemn at an earlier version; a route that landed since may name it."""
    used = {blob for route in graph.routes() for blob in (route.id, *route.module_ids())}
    for blob in used.intersection(ids):
        raise ConflictError(f"condemn: blob {blob[:12]}… is in use at version {graph.version}; collect again")


def _check_condemned(graph: Graph, ids: Iterable[str]) -> None:
    for blob in set(ids) - graph.condemned:
        raise ConflictError(f"swept: blob {blob[:12]}… is not condemned at version {graph.version}")


def _check_restore(graph: Graph, restore: Restore) -> None:
    if restore.version > graph.version:
        raise ConflictError(f"restore: version {restore.version} does not exist; the newest is {graph.version}")
    for task, route in restore.routes.items():
        if task == ROOT_TASK or (route is not None and route.task != task):
            raise ConflictError(f"restore: {task}: only a task's own earlier route can be put back")
        if route is not None:
            _check_blobs(graph, (route.id,), base=restore.version, what=task)
            _check_route(graph, route, base=restore.version, fresh=())


def _check_lineage(graph: Graph, route: RouteSummary, added: set[str]) -> None:
    """A route may share its parent's modules and nothing else, and never those of another task's private route."""
    if route.is_root:
        standing = graph.task(route.task)
        if standing is not None and standing.route is not None and standing.route.id != route.id:
            raise ConflictError("root: a graph has one root, for ever; start another graph for another root")
        return
    if route.parent_task is None or route.parent is None:
        raise ConflictError(f"{route.task}: a route must name its parent, since lineage is what proves privacy")
    parent = graph.task(route.parent_task)
    if parent is None:
        raise ConflictError(f"{route.task}: its parent's task {route.parent_task} is not in the graph")
    if parent.visibility == "Private" and route.parent_task != route.task:
        raise ConflictError(
            f"{route.task}: builds on {route.parent_task}, which is private; private tasks are never reused"
        )
    _check_shared(graph, route, added)


def _check_shared(graph: Graph, route: RouteSummary, added: Collection[str]) -> None:
    """What a route does not add is its parent's, as far as the graph still knows that parent."""
    parent = graph.task(route.parent_task or "")
    if parent is not None and parent.route is not None and parent.route.id == route.parent:
        foreign = set(route.module_ids()).difference(added, parent.route.module_ids())
        if foreign:
            raise ConflictError(
                f"{route.task}: module {min(foreign)[:12]}… is neither new nor of its parent {route.parent_task}"
            )
