"""The engine: runs one search of one task from its base version to a commit, resuming from whatever is written.

What it decides comes from the strategy, a pure function of the view; what it does is written to the search's
folder first, create-only, so that a worker that starts again finds every decision made. Training is behind the
`Trainer` seam: the core knows no torch. Called by local runs and workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from evergraft import canonical, names
from evergraft.api.resolved import ResolvedTask
from evergraft.errors import (
    IntegrityError,
    StoreUnavailableError,
    SupersededError,
)
from evergraft.graph.route import reading
from evergraft.graph.state import Graph
from evergraft.search import closing, codec, ledger, opening
from evergraft.search.claims import Crew
from evergraft.search.committing import Outcome, Request, commit, left_to_another
from evergraft.search.deadline import Deadline, Stop, time_is_up
from evergraft.search.duty import Duty
from evergraft.search.events import Emit
from evergraft.search.folder import Folder
from evergraft.search.groups import Claimed, Groups, Trains
from evergraft.search.score import result_score
from evergraft.search.strategies import get as get_strategy
from evergraft.search.validate import check_plan
from evergraft.search.values import (
    CandidatePlan,
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
from evergraft.store import log, parallel
from evergraft.store.seam import Store

__all__ = ["OUTCOMES", "Answers", "Outcome", "Request", "Trainer", "run_search"]

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

    def rehearse(self, plans: Sequence[CandidatePlan]) -> None:
        """Make sure that these first candidates can be built; trains and writes nothing.

        Raises:
            SpecError: one cannot, such as for an image size that is no multiple of the patches'.
        """
        ...

    def conclude(self, ref: SlotRef, result: SlotResult) -> Answers:
        """Golden answers and test metrics of the winner."""
        ...

    def look(self, plan: CandidatePlan, pulse: Callable[[], None]) -> ledger.Looked | None:
        """Run a probe for the transfer ledger, calling `pulse` at every batch; None where it cannot be measured."""
        ...


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

    A search is opened only once its data and its first plan have passed every check and its first candidates could
    be built, so that a mistake in the spec can be corrected without a new iteration.

    Raises:
        ConflictError: this iteration is closed, or open, with another task hash, or HEAD forbids the commit.
        DataError, StoreError, …: from the trainer and the store; the search stays open.
    """
    folder = Folder(store=store, search=request.search)
    standing, opened = opening.look(folder, graph, request)
    if standing is not None:
        return standing, graph
    crew = crew or Crew()
    search: _Search | None = None
    if opened is None:
        search = _Search(folder, graph, request.spec, make_trainer(folder, request.spec), emit, crew)
        search.check()
    header = opening.open_search(folder, graph, request)
    spec, base = opening.pinned(folder, graph, header)
    final: Mapping[str, Any] | None = folder.final()
    if final is None:
        if search is None or (search.spec, search.base.version) != (spec, base.version):
            search = _Search(folder, base, spec, make_trainer(folder, spec), emit, crew)
        final = search.run()
    with reading(names.final_key(request.search)):
        ending = closing.outcome_of(final)
    emit("committing", {"task": spec.task, "outcome": ending})
    if search is not None and not search.concluded:
        other, graph = left_to_another(folder, graph, request=request, crew=crew)
        if other is not None:
            return other, graph
    return commit(folder, graph, request=request, base=base.version, final=final)


@dataclass
class _Search:
    """One search at work in this process; `concluded` once it was this worker that made the closing document.

    `told` are the scores of usable results that were told of.
    """

    folder: Folder
    base: Graph
    spec: ResolvedTask
    trainer: Trainer
    emit: Emit
    crew: Crew
    opened: tuple[TaskFacts, Mapping[str, Any]] | None = None
    deadline: Deadline = field(init=False)
    groups: Groups = field(init=False)
    concluded: bool = False
    told: dict[SlotRef, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.deadline = Deadline(self.folder, self.spec.search_timeout_s)
        self.groups = Groups(self.crew, self.folder, self.spec, self.trainer, self.emit, self.deadline)

    def check(self) -> None:
        """Check data, first plan and first candidates of a search that nobody has opened yet; writes nothing."""
        self.opened = self.trainer.open(None)
        view = self._view(*self.opened)
        plan = get_strategy(self.spec.search.strategy).next(view)
        check_plan(view, plan)
        if isinstance(plan, Generation):
            self.trainer.rehearse(plan.candidates)

    def run(self) -> Mapping[str, Any]:
        """Generations until the strategy finishes, then the end; returns the closing document that stands."""
        facts, manifest = self._facts()
        with reading(names.search_key(self.folder.search, "data.json")):
            counts = {split: sum(labels.values()) for split, labels in manifest["counts"].items()}
        self.emit("data", self._at(labels=len(facts.labels), **counts))
        view = self._view(facts, manifest)
        strategy = get_strategy(self.spec.search.strategy)
        while True:
            plan = strategy.next(view)
            check_plan(view, plan)
            if isinstance(plan, Finish):
                return self._close(partial(self._conclude, view, plan, manifest))
            results, stop = self._generation(view, plan)
            record = GenerationRecord(plan=plan, results=results)
            view = replace(view, history=(*view.history, record), stop=stop)
            if (reason := crash(view)) is not None:
                return self._close(partial(self._fail, view, reason))

    def _view(self, facts: TaskFacts, manifest: Mapping[str, Any]) -> View:
        info = log.read_info(self.folder.store)
        reference = Reference(parameters=info.reference_parameters, flops=info.reference_flops)
        return build_view(self.base, spec=self.spec, facts=facts, reference=reference, manifest=manifest)

    def _facts(self) -> tuple[TaskFacts, Mapping[str, Any]]:
        pinned = self.folder.manifest()
        opened = self.opened if pinned is None else None
        facts, manifest = opened or self.trainer.open(pinned)
        if pinned is None:
            stands = self.folder.pin(manifest)
            if {**manifest, **stands} != stands:
                facts, manifest = self.trainer.open(stands)
        return facts, manifest

    def _generation(self, view: View, plan: Generation) -> tuple[tuple[SlotResult, ...], str | None]:
        """Results of every slot of a generation, trained here or by others; fewer, with the reason, after a stop."""
        generation = len(view.history)
        self.emit("generation", self._at(generation=generation, candidates=len(plan.candidates)))
        self._record_plan(generation, plan)
        places = [names.slot_place(generation, slot) for slot in range(len(plan.candidates))]
        results: dict[int, SlotResult] = {}
        while True:
            seen = self.crew.look(self.folder, names.slot_place(generation, 0)[:5])
            listed = {slot for slot, place in enumerate(places) if place in seen and seen[place].result}
            done = sorted(listed | results.keys())
            self._tell_standing(view, num_done=len(done), made=results)
            missing = [place for slot, place in enumerate(places) if slot not in done]
            is_late = bool(missing) and self.deadline.passed(names.slot_place(generation, 0)[:5])
            at_work = is_late and self.crew.any_at_work(missing, seen)
            stop = self._stop(generation, done, record=is_late and not at_work)
            if stop is not None or not missing:
                counted = done if stop is None else stop.slots
                return self._all(generation, counted, results), None if stop is None else stop.reason
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

    def _tell_standing(self, view: View, *, num_done: int, made: Mapping[int, SlotResult]) -> None:
        """Say how many of all candidates have a result, and the best score as far as this worker has seen them."""
        earlier = [result for record in view.history for result in record.results]
        new = [
            result for result in (*earlier, *made.values()) if SlotRef(result.generation, result.slot) not in self.told
        ]
        self.told |= {
            SlotRef(result.generation, result.slot): result_score(view, result) for result in new if result.usable
        }
        best = max(self.told.values(), default=None)
        done = len(earlier) + num_done
        self.emit("standing", self._at(candidatesDone=done, bestScore=best, baseVersion=self.base.version))

    def _all(self, generation: int, slots: Sequence[int], made: Mapping[int, SlotResult]) -> tuple[SlotResult, ...]:
        """The results of some slots: those made here, and others' as they stand, several read at once."""
        others = [slot for slot in slots if slot not in made]
        stored = parallel.each(self._stored, [SlotRef(generation, slot) for slot in others])
        results = {**made, **dict(zip(others, stored, strict=True))}
        return tuple(results[slot] for slot in slots)

    def _stop(self, generation: int, done: Sequence[int], *, record: bool) -> Stop | None:
        """The stop that ends the search in this generation, if one is recorded, or is to be now."""
        if self.deadline.timeout_s is None:
            return None
        if record:
            ours = time_is_up(self.deadline.timeout_s, generation=generation, slots=done)
            stop = self._read_stop(self.folder.put_stop(ours.to_json()))
            self.emit("stopped", self._at(reason=stop.reason, results=len(stop.slots)))
        else:
            stands = self.folder.stop()
            if stands is None:
                return None
            stop = self._read_stop(stands)
        return stop if stop.generation == generation else None

    def _read_stop(self, value: Mapping[str, Any]) -> Stop:
        with reading(names.search_key(self.folder.search, "stop.json")):
            return Stop.from_json(value)

    def _record_plan(self, generation: int, plan: Generation) -> None:
        """Write the plan for replays; another worker's must be the same, or one of the two is not pure."""
        ours = codec.to_json(plan)
        stands = self.folder.put_plan(generation, ours)
        key = names.plan_key(self.folder.search, generation)
        with reading(key):
            recorded = canonical.dumps(stands["plan"])
        if recorded != canonical.dumps(ours):
            raise IntegrityError(
                f"{key}: generation {generation} was planned differently by another worker; "
                f"strategy {self.spec.search.strategy} is not a pure function of its view"
            )

    def _stored(self, ref: SlotRef) -> SlotResult:
        result = self.folder.result(ref)
        if result is None:
            raise StoreUnavailableError(f"{self.folder.store.url}: a result that was listed is not there; run again")
        return result

    def _close(self, make: Callable[[Duty], Mapping[str, Any]]) -> Mapping[str, Any]:
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
                with self.crew.working(self.folder, *claimed) as duty:
                    final = self.folder.put_final(make(duty))
                self.concluded = True
                return final
            except SupersededError:
                continue

    def _conclude(self, view: View, finish: Finish, manifest: Mapping[str, Any], duty: Duty) -> Mapping[str, Any]:
        if finish.winner is None:
            return closing.without_route(view, outcome=OUTCOMES[finish.outcome], reason=finish.reason, finish=finish)
        result = view.result(finish.winner)
        assert result is not None
        known = ledger.known_of(view, basis=ledger.basis_of(view, manifest))
        probe = ledger.probe_plan(view, known)
        looked = None if probe is None else self.trainer.look(probe, partial(_go_on, duty))
        return closing.with_route(
            view,
            winner=finish.winner,
            search=self.folder.search,
            finish=finish,
            answers=self.trainer.conclude(finish.winner, result),
            known=known,
            looked=looked,
        )

    def _fail(self, view: View, reason: str, _: Duty) -> Mapping[str, Any]:
        return closing.without_route(view, outcome="failed", reason=reason)

    def _at(self, **fields: Any) -> dict[str, Any]:
        return {"task": self.spec.task, **fields}


def _go_on(duty: Duty) -> None:
    """Go on with the closing, unless another worker has taken it over or this one was asked to stop.

    Raises:
        SupersededError, StoppedError: the closing begins anew, here or elsewhere.
    """
    duty.tell(0)
    if duty.should_stop:
        raise duty.stopped()
