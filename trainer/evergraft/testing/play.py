"""Several writers with stale graphs, one store, and the model beside them: every step is held against the model.

A step is attempted through a faulty store and lands, is refused, or is not known to have landed; in each case what
the log then says must be what the model says. Called by the stateful tests and, with seeded steps and without
hypothesis, by `graph check --deep`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from evergraft import names
from evergraft.errors import AlreadyCommittedError, ConflictError, RouteRemovedError, StoreError
from evergraft.graph.commit import Action, AddModules, CloseSearch, Condemn, PutRoute, RemoveRoute, Restore, Swept
from evergraft.graph.module import Module
from evergraft.graph.route import Route, RouteSummary
from evergraft.graph.state import Graph
from evergraft.names import RunKey
from evergraft.store import blobs, log
from evergraft.store.retry import Retry
from evergraft.store.seam import Store
from evergraft.testing.faults import FaultyStore
from evergraft.testing.graphs import closing, root_of, route_on, start_graph
from evergraft.testing.injection import Plan, calm
from evergraft.testing.invariants import Acknowledged, check_invariants
from evergraft.testing.model import (
    Close,
    Discard,
    Forget,
    Land,
    Model,
    ModelRoute,
    Operation,
    PutBack,
    Remove,
    Run,
    observed,
)

AT_ONCE = Retry(attempts=4, first_s=0.0)
"""How long a step asks again what came of it."""

RACES = Retry(attempts=50, first_s=0.002, cap_s=0.05)


class DisagreementError(AssertionError):
    """The store did not do what the model says."""


@dataclass(frozen=True)
class Step:
    """An operation of the model, the actions that ask for it, and the blobs to put first."""

    operation: Operation
    actions: tuple[Action, ...]
    modules: tuple[Module, ...] = ()
    route: Route | None = None


@dataclass
class Writer:
    """One process: a client that may fail, and the graph as it read it last, which may be old."""

    store: FaultyStore
    graph: Graph


@dataclass
class Play:
    """A fresh graph in the store that `connect` opens, and writers on it."""

    connect: Callable[[], Store]
    num_writers: int = 3
    unknown: Retry = AT_ONCE
    races: Retry = RACES
    writers: list[Writer] = field(init=False)
    model: Model = field(init=False)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    summaries: dict[str, RouteSummary] = field(default_factory=dict)
    _asked: dict[str, tuple[Operation, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.truth = self.connect()
        graph = start_graph(self.truth)
        root = root_of(graph)
        self.summaries[root.id] = root
        self.model = Model.started(model_route(root))
        self.writers = [Writer(FaultyStore(self.connect()), graph) for _ in range(self.num_writers)]

    def attempt(
        self,
        writer: int,
        step: Step,
        *,
        plan: Plan = calm,
        base: int | None = None,
        rival: Callable[[], Any] | None = None,
    ) -> str:
        """Ask for one step; `rival` acts just before its first log entry is created. Returns how it ended.

        That is: landed, already, removed, conflict, or unknown.

        Raises:
            DisagreementError: it did not end as the model says.
        """
        who = self.writers[writer]
        base = who.graph.version
        author = f"attempt {len(self._asked)}"
        self._asked[author] = (step.operation, base)
        who.store.before = _once_before_the_log(rival) if rival else _nothing
        who.store.faults.plan = plan
        try:
            ended, entry = self._ask(who, step, author=author, base=base)
        finally:
            who.store.before, who.store.faults.plan = _nothing, calm
        self.settle()
        if ended == "landed":
            self.acknowledged.append(entry)
            self._agree(ended, landed=True, wanted=observed(who.graph) == self.model.tasks, step=step)
        elif ended != "unknown":
            allowed = self.model.refusals(step.operation, base=base)
            self._agree(ended, landed=False, wanted=ended in allowed, step=step)
        return ended

    def settle(self) -> None:
        """Bring the model to what the log says, each new entry held against what the model allows.

        Raises:
            DisagreementError: something landed that must be refused.
        """
        for commit, _ in log.read_commits(self.truth, self.model.head + 1):
            operation, base = self._asked[commit.author]
            refusals = self.model.refusals(operation, base=base)
            if refusals:
                raise DisagreementError(f"landed as version {commit.version}, though {sorted(refusals)}: {operation}")
            self.model.apply(operation)

    def deliver(self) -> int:
        """Let every late write arrive; how many there were."""
        count = sum(writer.store.faults.deliver() for writer in self.writers)
        self.settle()
        return count

    def restart(self, writer: int) -> None:
        """The process dies and another begins: a new client; what is under way in the network stays so."""
        late = self.writers[writer].store.faults.late
        store = FaultyStore(self.connect())
        store.faults.late = late
        self.writers[writer] = Writer(store, log.read_graph(store))

    def refresh(self, writer: int) -> None:
        """The writer catches up with the log."""
        self.writers[writer].graph = log.refresh(self.writers[writer].store, self.writers[writer].graph)

    def wrong(self, *, history: bool = False) -> list[str]:
        """What does not hold now: invariants, and the graph read afresh against the model; `history`: every version."""
        graph = log.read_graph(self.truth)
        wrong = check_invariants(self.truth, self.acknowledged)
        if (observed(graph), graph.version) != (self.model.tasks, self.model.head):
            wrong.append(f"the graph at version {graph.version} is not the model's")
        if (set(graph.condemned), dict(graph.swept)) != (self.model.condemned, self.model.swept):
            wrong.append("the condemned or deleted blobs are not the model's")
        for version, tasks in enumerate(self.model.versions if history else ()):
            if observed(log.read_graph(self.truth, version)) != tasks:
                wrong.append(f"version {version} does not read as it was")
        return wrong

    def landing(
        self,
        writer: int,
        task: str,
        run: Run,
        *,
        parent: str = names.ROOT_TASK,
        visibility: str = "Public",
        foreign: bool = False,
    ) -> Step | None:
        """A route of `task` on the parent's as the writer knows it; None if it knows none.

        `foreign` leaves out that the new module is new.
        """
        state = self.writers[writer].graph.task(parent)
        if state is None or state.route is None:
            return None
        key = RunKey(*run)
        route, summary, modules = route_on(state.route, task, str(key), state.route.id, visibility=visibility)
        self.summaries[summary.id] = summary
        named = {} if foreign else {module.id: module.num_bytes for module in modules}
        actions = (AddModules(named), PutRoute(summary), closing(task, key, visibility=visibility))
        return Step(Land(run, model_route(summary), frozenset(named)), actions, modules, route)

    def restoring(self, writer: int, version: int) -> Step:
        """Give every task that the writer knows the route it had at `version`."""
        earlier = {task: state.route for task, state in log.read_graph(self.truth, version).tasks()}
        now = {task: state.route for task, state in self.writers[writer].graph.tasks() if task != names.ROOT_TASK}
        routes = {task: earlier.get(task) for task, route in now.items() if earlier.get(task) != route}
        put_back = PutBack(version, {task: route.id if route else None for task, route in routes.items()})
        return Step(put_back, (Restore(version, routes),))

    def sweeping(self, ids: frozenset[str]) -> Step:
        """Delete condemned blobs, and say so."""
        for blob in ids & self.model.condemned:
            self.truth.delete(names.route_key(blob) if blob in self.model.routes else names.module_key(blob))
        return Step(Forget(ids), (Swept(tuple(sorted(ids))),))

    def _ask(self, who: Writer, step: Step, *, author: str, base: int) -> tuple[str, Acknowledged]:
        try:
            blobs.put_modules(who.store, step.modules)
            if step.route is not None:
                blobs.put_route(who.store, step.route)
            who.graph, commit = log.commit(
                who.store,
                who.graph,
                actions=step.actions,
                base=base,
                author=author,
                search=None,
                unknown=self.unknown,
                races=self.races,
            )
        except AlreadyCommittedError:
            return "already", (-1, "")
        except RouteRemovedError:
            return "removed", (-1, "")
        except ConflictError:
            return "conflict", (-1, "")
        except StoreError:
            return "unknown", (-1, "")
        return "landed", (commit.version, commit.id)

    def _agree(self, ended: str, *, landed: bool, wanted: bool, step: Step) -> None:
        is_last = self.model.head == self.acknowledged[-1][0] if landed else True
        if not wanted or not is_last:
            raise DisagreementError(f"{ended} at version {self.model.head}, not as the model says: {step.operation}")


def closing_step(task: str, run: Run, outcome: str, visibility: str = "Public") -> Step:
    """End a run without a route."""
    action: CloseSearch = closing(task, RunKey(*run), outcome=outcome, visibility=visibility)
    return Step(Close(task, run, outcome, visibility), (action,))


def removing(task: str) -> Step:
    """Take a route away."""
    return Step(Remove(task), (RemoveRoute(task),))


def condemning(ids: frozenset[str]) -> Step:
    """Condemn blobs."""
    return Step(Discard(ids), (Condemn(tuple(sorted(ids))),))


def model_route(summary: RouteSummary) -> ModelRoute:
    """A route as the model sees it."""
    return ModelRoute(
        id=summary.id,
        task=summary.task,
        parent=summary.parent,
        parent_task=summary.parent_task,
        modules=frozenset(summary.module_ids()),
        visibility=summary.visibility,
    )


def unused(summaries: Mapping[str, RouteSummary], graph: Graph) -> frozenset[str]:
    """Blobs of known routes that no route of `graph` names."""
    known = {blob for route in summaries.values() for blob in (route.id, *route.module_ids())}
    used = {blob for route in graph.routes() for blob in (route.id, *route.module_ids())}
    return frozenset(known - used - graph.condemned - set(graph.swept))


def _once_before_the_log(act: Callable[[], Any]) -> Callable[[str, str], None]:
    todo = [act]

    def before(operation: str, key: str) -> None:
        if operation == "put_if_absent" and key.startswith(names.LOG) and todo:
            todo.pop()()

    return before


def _nothing(operation: str, key: str) -> None:
    del operation, key
