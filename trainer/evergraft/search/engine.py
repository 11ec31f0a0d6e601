"""The engine: runs one search of one task from its base version to a commit, resuming from whatever is written.

What it decides comes from the strategy, a pure function of the view; what it does is written to the search's
folder first, create-only, so that a worker that starts again finds every decision made. Training is behind the
`Trainer` seam: the core knows no torch. Called by local runs and workers.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import evergraft
from evergraft import canonical, names
from evergraft.api.resolved import ResolvedTask
from evergraft.errors import (
    AlreadyCommittedError,
    ConflictError,
    IntegrityError,
    StoreUnavailableError,
    SupersededError,
    UserError,
)
from evergraft.graph.commit import Action, AddModules, CloseSearch, PutRoute
from evergraft.graph.route import Route, RouteSummary, reading
from evergraft.graph.state import Graph, check_run
from evergraft.names import RunKey
from evergraft.search import closing, codec
from evergraft.search.claims import Crew
from evergraft.search.deadline import Deadline, Stop, time_is_up
from evergraft.search.events import Emit
from evergraft.search.folder import Folder
from evergraft.search.groups import Claimed, Groups, Trains
from evergraft.search.strategies import get as get_strategy
from evergraft.search.validate import check_plan
from evergraft.search.values import (
    Finish,
    Generation,
    GenerationRecord,
    Reference,
    SlotRef,
    SlotResult,
    TaskFacts,
    View,
)
from evergraft.search.view import build_view, crash
from evergraft.store import blobs, log, parallel
from evergraft.store.seam import Store

OUTCOMES: Mapping[str, str] = MappingProxyType({"commit": "committed", "keep": "kept", "none": "none"})
"""The outcome of a search by what its strategy finished with."""


@dataclass(frozen=True)
class Answers:
    """What the trainer measures once, for the winner: golden answers and the metrics of the test split."""

    labels: tuple[str, ...]
    golden: Mapping[str, Any]
    test: Mapping[str, Any] | None


class Trainer(Trains, Protocol):
    """Whoever trains: torch in production, arithmetic in the test kit."""

    def open(self, pinned: Mapping[str, Any] | None) -> tuple[TaskFacts, Mapping[str, Any]]:
        """Check the data, against ``data.json`` if it is pinned; returns the facts and what ``data.json`` holds."""
        ...

    def conclude(self, ref: SlotRef, result: SlotResult) -> Answers:
        """Golden answers and test metrics of the winner."""
        ...


@dataclass(frozen=True)
class Request:
    """One run of one task, as asked for."""

    spec: ResolvedTask
    run: RunKey
    task_hash: str
    spec_hash: str

    @property
    def search(self) -> str:
        """The id of its search."""
        return names.search_id(self.spec.task, self.run)


@dataclass(frozen=True)
class Outcome:
    """How a search ended: committed, kept, none, failed; or already, when HEAD had closed this run before.

    `route` is the one that serves the task at `version`, whichever search it came from.
    """

    kind: str
    version: int
    route: RouteSummary | None
    reason: str


def run_search(
    store: Store,
    graph: Graph,
    *,
    request: Request,
    make_trainer: Callable[[Folder, ResolvedTask], Trainer],
    emit: Emit,
    crew: Crew | None = None,
) -> tuple[Outcome, Graph]:
    """Run, or go on with, one search, alone or beside other workers; returns how it ended and the graph after it.

    A search is opened only once its data and its first plan have passed every check, so that a mistake in the spec
    can be corrected without a new iteration.

    Raises:
        ConflictError: the run key is closed with another task hash, or HEAD forbids the commit.
        DataError, StoreError, …: from the trainer and the store; the search stays open.
    """
    standing = _standing(graph, request)
    if standing is not None:
        return standing, graph
    folder = Folder(store=store, search=request.search)
    crew = crew or Crew()
    search: _Search | None = None
    if folder.header() is None:
        search = _Search(folder, graph, request.spec, make_trainer(folder, request.spec), emit, crew)
        search.check()
    header = _open(folder, graph, request)
    spec = ResolvedTask.from_json(header["spec"])
    with reading("search.json"):
        version = int(header["base"])
    base = graph if version == graph.version else log.read_graph(store, version=version)
    final: Mapping[str, Any] | None = folder.final()
    if final is None:
        if search is None or (search.spec, search.base.version) != (spec, base.version):
            search = _Search(folder, base, spec, make_trainer(folder, spec), emit, crew)
        final = search.run()
    emit("committing", {"task": spec.task, "outcome": final["outcome"]})
    return _commit(folder, graph, request=request, base=base.version, final=final)


def _standing(graph: Graph, request: Request) -> Outcome | None:
    """How HEAD says this run ended, None if it is still to be done."""
    try:
        check_run(graph, request.spec.task, request.run)
    except AlreadyCommittedError as error:
        state = graph.task(request.spec.task)
        assert state is not None
        if state.run == request.run and state.task_hash != request.task_hash:
            raise ConflictError(
                f"{request.spec.task}: run {request.run} is committed with another metric, dataset or search; "
                f"raise spec.iteration to {request.run.iteration + 1} to train it again"
            ) from None
        return Outcome(kind="already", version=graph.version, route=state.route, reason=str(error))
    return None


def _open(folder: Folder, graph: Graph, request: Request) -> dict[str, Any]:
    """``search.json`` as it stands; ours unless an earlier worker wrote it."""
    strategy = get_strategy(request.spec.search.strategy)
    header = folder.open(
        {
            "format": canonical.FORMAT,
            "id": uuid.uuid4().hex,
            "search": folder.search,
            "task": request.spec.task,
            "run": str(request.run),
            "spec": request.spec.to_json(),
            "specHash": request.spec_hash,
            "taskHash": request.task_hash,
            "base": graph.version,
            "strategy": {"name": strategy.name, "version": strategy.version},
            "trainer": evergraft.__version__,
        }
    )
    with reading("search.json"):
        _check_header(header, request)
    return header


def _check_header(header: Mapping[str, Any], request: Request) -> None:
    """Refuse to go on with a search that was opened with another spec, or by another version."""
    if header["taskHash"] != request.task_hash:
        raise ConflictError(
            f"{request.spec.task}: its open search {request.search} was started with another metric, dataset or "
            f"search; put the spec back, or raise spec.iteration"
        )
    if header["spec"]["visibility"] != request.spec.visibility:
        raise ConflictError(
            f"{request.spec.task}: spec.visibility is immutable, and its open search {request.search} was started as "
            f"{header['spec']['visibility']}; set it back, or give the task another name"
        )
    strategy = get_strategy(str(header["strategy"]["name"]))  # a changed default of the graph starts no other search
    if header["trainer"] != evergraft.__version__ or header["strategy"]["version"] != strategy.version:
        raise UserError(
            f"{request.spec.task}: ImageVersion: its open search was started by evergraft {header['trainer']}, "
            f"this is {evergraft.__version__}; finish it with that version"
        )


@dataclass
class _Search:
    """One search at work in this process."""

    folder: Folder
    base: Graph
    spec: ResolvedTask
    trainer: Trainer
    emit: Emit
    crew: Crew
    opened: tuple[TaskFacts, Mapping[str, Any]] | None = None
    deadline: Deadline = field(init=False)
    groups: Groups = field(init=False)

    def __post_init__(self) -> None:
        self.deadline = Deadline(self.folder, self.spec.search_timeout_s)
        self.groups = Groups(self.crew, self.folder, self.spec, self.trainer, self.emit, self.deadline)

    def check(self) -> None:
        """Check the data and the first plan of a search that nobody has opened yet; writes nothing."""
        self.opened = self.trainer.open(None)
        view = self._view(self.opened[0])
        check_plan(view, get_strategy(self.spec.search.strategy).next(view))

    def run(self) -> Mapping[str, Any]:
        """Generations until the strategy finishes, then the end; returns the closing document that stands."""
        facts, manifest = self._facts()
        with reading("data.json"):
            counts = {split: sum(labels.values()) for split, labels in manifest["counts"].items()}
        self.emit("data", self._at(labels=len(facts.labels), **counts))
        view = self._view(facts)
        strategy = get_strategy(self.spec.search.strategy)
        while True:
            plan = strategy.next(view)
            check_plan(view, plan)
            if isinstance(plan, Finish):
                return self._close(partial(self._conclude, view, plan))
            results, stop = self._generation(len(view.history), plan)
            record = GenerationRecord(plan=plan, results=results)
            view = replace(view, history=(*view.history, record), stop=stop)
            if (reason := crash(view)) is not None:
                return self._close(partial(closing.without_route, view, outcome="failed", reason=reason))

    def _view(self, facts: TaskFacts) -> View:
        info = log.read_info(self.folder.store)
        reference = Reference(parameters=info.reference_parameters, flops=info.reference_flops)
        return build_view(self.base, spec=self.spec, facts=facts, reference=reference)

    def _facts(self) -> tuple[TaskFacts, Mapping[str, Any]]:
        pinned = self.folder.manifest()
        opened = self.opened if pinned is None else None
        facts, manifest = opened or self.trainer.open(pinned)
        if pinned is None:
            stands = self.folder.pin(manifest)
            if {**manifest, **stands} != stands:
                facts, manifest = self.trainer.open(stands)
        return facts, manifest

    def _generation(self, generation: int, plan: Generation) -> tuple[tuple[SlotResult, ...], str | None]:
        """Results of every slot of a generation, trained here or by others; fewer, with the reason, after a stop."""
        self.emit("generation", self._at(generation=generation, candidates=len(plan.candidates)))
        self._record_plan(generation, plan)
        places = [names.slot_place(generation, slot) for slot in range(len(plan.candidates))]
        results: dict[int, SlotResult] = {}
        while True:
            seen = self.crew.look(self.folder, names.slot_place(generation, 0)[:5])
            there = [s for s, place in enumerate(places) if s not in results and place in seen and seen[place].result]
            stored = parallel.each(self._stored, [SlotRef(generation, slot) for slot in there])
            results |= dict(zip(there, stored, strict=True))
            missing = [place for slot, place in enumerate(places) if slot not in results]
            is_late = bool(missing) and self.deadline.passed(names.slot_place(generation, 0)[:5])
            at_work = is_late and self.crew.any_at_work(missing, seen)
            stop = self._stop(generation, results, record=is_late and not at_work)
            if stop is not None:
                counted = [results.get(slot) or self._stored(SlotRef(generation, slot)) for slot in stop.slots]
                return tuple(counted), stop.reason
            if not missing:
                return tuple(results[slot] for slot in range(len(places))), None
            if at_work:
                self.crew.wait()  # those at work end with what they have
                continue
            claimed = self.crew.claim(self.folder, missing, seen)
            if claimed is None:
                self.crew.wait()
                continue
            slots = {
                place: Claimed(SlotRef(generation, places.index(place)), plan.candidates[places.index(place)])
                for place in missing
            }
            results |= self.groups.train(slots, claimed, seen)

    def _stop(self, generation: int, results: Mapping[int, SlotResult], *, record: bool) -> Stop | None:
        """The stop that ends the search in this generation, if one is recorded, or is to be now."""
        if self.deadline.timeout_s is None:
            return None
        if record:
            ours = time_is_up(self.deadline.timeout_s, generation=generation, slots=results)
            stop = Stop.from_json(self.folder.put_stop(ours.to_json()))
            self.emit("stopped", self._at(reason=stop.reason, results=len(stop.slots)))
        else:
            stands = self.folder.stop()
            if stands is None:
                return None
            stop = Stop.from_json(stands)
        return stop if stop.generation == generation else None

    def _record_plan(self, generation: int, plan: Generation) -> None:
        """Write the plan for replays; another worker's must be the same, or one of the two is not pure."""
        ours = codec.to_json(plan)
        stands = self.folder.put_plan(generation, ours)
        if canonical.dumps(stands["plan"]) != canonical.dumps(ours):
            raise IntegrityError(
                f"searches/{self.folder.search}: generation {generation} was planned differently by another worker; "
                f"strategy {self.spec.search.strategy} is not a pure function of its view"
            )

    def _stored(self, ref: SlotRef) -> SlotResult:
        result = self.folder.result(ref)
        if result is None:
            raise StoreUnavailableError(f"{self.folder.store.url}: a result that was listed is not there; run again")
        return result

    def _close(self, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """The closing document: made by whoever claims the end, waited for by the others."""
        while True:
            seen = self.crew.look(self.folder, f"{names.FINAL}/")
            final = self.folder.final() if names.FINAL in seen and seen[names.FINAL].result else None
            if final is not None:
                return final
            claimed = self.crew.claim(self.folder, [names.FINAL], seen)
            if claimed is None:
                self.crew.wait()
                continue
            try:
                with self.crew.working(self.folder, *claimed):
                    return self.folder.put_final(make())
            except SupersededError:
                continue

    def _conclude(self, view: View, finish: Finish) -> Mapping[str, Any]:
        if finish.winner is None:
            return closing.without_route(view, outcome=OUTCOMES[finish.outcome], reason=finish.reason, finish=finish)
        result = view.result(finish.winner)
        assert result is not None
        answers = self.trainer.conclude(finish.winner, result)
        winner = finish.winner
        return closing.with_route(view, winner=winner, search=self.folder.search, finish=finish, answers=answers)

    def _at(self, **fields: Any) -> dict[str, Any]:
        return {"task": self.spec.task, **fields}


def _commit(
    folder: Folder, graph: Graph, *, request: Request, base: int, final: Mapping[str, Any]
) -> tuple[Outcome, Graph]:
    """Upload what the closing document names, then close the search in one commit."""
    actions: list[Action] = []
    summary: RouteSummary | None = None
    if final["route"] is not None:
        route = Route.from_json(final["route"])
        sizes = closing.upload(folder, final)
        summary = RouteSummary.from_json(final["summary"])
        if blobs.put_route(folder.store, route) != summary.id:
            raise IntegrityError(f"searches/{folder.search}: the winner's summary is of another route than is there")
        actions = [AddModules(sizes), PutRoute(summary)]
    actions.append(
        CloseSearch(
            task=request.spec.task,
            run=request.run,
            search=folder.search,
            task_hash=request.task_hash,
            outcome=str(final["outcome"]),
            visibility=request.spec.visibility,
            sampled={str(route): int(count) for route, count in final["sampled"].items()},
        )
    )
    try:
        after, commit = log.commit(
            folder.store,
            graph,
            actions=tuple(actions),
            base=base,
            author=f"evergraft {evergraft.__version__}",
            search=folder.search,
            uploaded=graph.version,
        )
    except AlreadyCommittedError:
        # Another worker was first with the same document, or a later run has overtaken this one.
        after = log.refresh(folder.store, graph)
        standing = _standing(after, request)
        assert standing is not None
        return standing, after
    state = after.task(request.spec.task)
    route_now = state.route if state is not None else None
    outcome = Outcome(kind=str(final["outcome"]), version=commit.version, route=route_now, reason=str(final["reason"]))
    return outcome, after
