"""A plain-Python model of the graph: what each operation does, and what is refused. Dictionaries and nothing else.

Written from the design, not from `graph.state`, so that the two can be held against each other. Names and ids are
opaque texts here. Called by the stateful tests, ours and anyone's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from evergraft.graph.state import Graph
from evergraft.names import ROOT_TASK

Run = tuple[int, int]
"""(iteration, cycle)."""


@dataclass(frozen=True)
class ModelRoute:
    """A route: whose, on what, of which modules."""

    id: str
    task: str
    parent: str | None
    parent_task: str | None
    modules: frozenset[str]
    visibility: str = "Public"

    @property
    def blobs(self) -> frozenset[str]:
        """Everything in the store that it needs."""
        return self.modules | {self.id}


@dataclass(frozen=True)
class ModelTask:
    """What the graph knows of a task: its newest closed run, how that ended, the route that serves."""

    run: Run | None = None
    outcome: str | None = None
    route: str | None = None
    visibility: str = "Public"


@dataclass(frozen=True)
class Land:
    """Close a run with a route; `new` are the modules that the commit adds."""

    run: Run
    route: ModelRoute
    new: frozenset[str]


@dataclass(frozen=True)
class Close:
    """Close a run without a route: kept, none or failed."""

    task: str
    run: Run
    outcome: str
    visibility: str = "Public"


@dataclass(frozen=True)
class Remove:
    """Take a task's route away."""

    task: str


@dataclass(frozen=True)
class PutBack:
    """Give tasks the routes (ids; None: no route) that they had at `version`."""

    version: int
    routes: Mapping[str, str | None]


@dataclass(frozen=True)
class Discard:
    """Condemn blobs."""

    ids: frozenset[str]


@dataclass(frozen=True)
class Forget:
    """Condemned blobs are deleted."""

    ids: frozenset[str]


Operation = Land | Close | Remove | PutBack | Discard | Forget


@dataclass
class Model:
    """The graph as it must be; `versions` are the tasks at each version, the last one now."""

    versions: list[dict[str, ModelTask]] = field(default_factory=list)
    routes: dict[str, ModelRoute] = field(default_factory=dict)
    condemned: set[str] = field(default_factory=set)
    swept: dict[str, int] = field(default_factory=dict)

    @classmethod
    def started(cls, root: ModelRoute) -> Model:
        """A graph with its root."""
        return cls(versions=[{ROOT_TASK: ModelTask(route=root.id)}], routes={root.id: root})

    @property
    def head(self) -> int:
        """The newest version."""
        return len(self.versions) - 1

    @property
    def tasks(self) -> dict[str, ModelTask]:
        """The tasks now."""
        return self.versions[-1]

    def in_use(self) -> frozenset[str]:
        """Every blob that a serving route needs."""
        serving = (self.routes[task.route] for task in self.tasks.values() if task.route)
        return frozenset().union(*(route.blobs for route in serving))

    def refusals(self, operation: Operation, *, base: int) -> frozenset[str]:
        """Why it must be refused, any of: already, removed, conflict. Empty: it must land."""
        match operation:
            case Land():
                return frozenset([*self._land(operation, base)])
            case Close(task, run, _, visibility):
                return frozenset([*self._run(task, run), *self._visibility(task, visibility)])
            case Remove(task):
                serving = self.tasks.get(task, ModelTask()).route
                return _conflict_if(task == ROOT_TASK or serving is None)
            case PutBack(version, routes):
                back = [self.routes[route] for route in routes.values() if route]
                needed = {blob for route in back for blob in (*route.blobs, route.parent or "")}
                return _conflict_if(version > self.head or ROOT_TASK in routes or self._lack(needed, base=version))
            case Discard(ids):
                return _conflict_if(bool(ids & self.in_use()))
            case Forget(ids):
                return _conflict_if(not ids <= self.condemned)

    def apply(self, operation: Operation) -> None:
        """The next version, whether or not it ought to have been refused."""
        tasks = dict(self.tasks)
        match operation:
            case Land(run, route):
                tasks[route.task] = ModelTask(run, "committed", route.id, route.visibility)
                self.routes[route.id] = route
            case Close(task, run, outcome, visibility):
                tasks[task] = ModelTask(run, outcome, tasks.get(task, ModelTask()).route, visibility)
            case Remove(task):
                tasks[task] = replace(tasks[task], route=None, outcome="removed")
            case PutBack(_, routes):
                for task, earlier in routes.items():
                    outcome = "committed" if earlier else "removed"
                    tasks[task] = replace(tasks.get(task, ModelTask()), route=earlier, outcome=outcome)
            case Discard(ids):
                self.condemned |= ids
            case Forget(ids):
                self.condemned -= ids
                self.swept |= dict.fromkeys(ids, self.head + 1)
        self.versions.append(tasks)

    def _land(self, land: Land, base: int) -> Iterator[str]:
        route = land.route
        yield from self._run(route.task, land.run)
        yield from self._visibility(route.task, route.visibility)
        yield from _conflict_if(self._lack(route.blobs | land.new | {route.parent or ""}, base=base))
        parent = self.tasks.get(route.parent_task or "")
        if parent is None:
            yield "conflict"
            return
        if parent.visibility == "Private" and route.parent_task != route.task:
            yield "conflict"
        if route.parent is not None:
            yield from _conflict_if(not route.modules <= land.new | self.routes[route.parent].modules)

    def _run(self, task: str, run: Run) -> Iterator[str]:
        known = self.tasks.get(task)
        if known is not None and known.run is not None and run <= known.run:
            yield "removed" if known.outcome == "removed" else "already"

    def _visibility(self, task: str, visibility: str) -> Iterator[str]:
        known = self.tasks.get(task)
        if known is not None and known.visibility != visibility:
            yield "conflict"

    def _lack(self, blobs: Iterable[str], *, base: int) -> bool:
        """Whether one of the blobs is condemned, or deleted since `base`."""
        return any(blob in self.condemned or self.swept.get(blob, -1) > base for blob in blobs)


def _conflict_if(so: bool) -> frozenset[str]:
    return frozenset({"conflict"}) if so else frozenset()


def observed(graph: Graph) -> dict[str, ModelTask]:
    """The tasks of a real graph, as the model would have them."""
    return {
        task: ModelTask(
            run=(state.run.iteration, state.run.cycle) if state.run else None,
            outcome=state.outcome,
            route=state.route.id if state.route else None,
            visibility=state.visibility,
        )
        for task, state in graph.tasks()
    }
