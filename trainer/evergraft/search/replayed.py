"""Replay a stored search: read its folder and the graph at its base, decide again, compare with what was recorded.

Compared are the spec with its digest, every plan, the results with what the search was decided on, the document that
closes it and the commit. Reads nothing of the data but the facts that ``data.json`` pins, and trains nothing. Called
by ``evergraft replay``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from evergraft import canonical, names
from evergraft.api.resolved import ResolvedTask
from evergraft.errors import ConflictError, FormatError, IntegrityError, UserError
from evergraft.graph.commit import CloseSearch, Commit, PutRoute
from evergraft.graph.route import MISSHAPEN, Route, reading
from evergraft.names import RunKey
from evergraft.search import closing, codec, ledger
from evergraft.search.deadline import Stop
from evergraft.search.engine import OUTCOMES, Answers
from evergraft.search.folder import Folder
from evergraft.search.replay import Replay, difference, replay
from evergraft.search.strategies import STRATEGIES
from evergraft.search.strategies import get as get_strategy
from evergraft.search.values import Finish, Generation, Reference, SlotRef, SlotResult, TaskFacts
from evergraft.search.view import build_view
from evergraft.store import log, parallel
from evergraft.store.seam import Store

_PLAN = re.compile(r"plan-(\d{4,9})\.json")
_RESULT = re.compile(r"(\d{4,9})-(\d{4,9})/result\.json")


@dataclass(frozen=True)
class Replayed:
    """What a replay found: the plans it made, and where they differ from the recorded ones.

    `state` is open, closed (its end is written, not yet committed) or committed (its end is in the log).
    """

    search: str
    task: str
    state: str
    plans: tuple[Generation | Finish, ...]
    differences: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether every decision is the recorded one."""
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "search": self.search,
            "task": self.task,
            "state": self.state,
            "same": self.same,
            "differences": list(self.differences),
            "plans": [codec.to_json(plan) for plan in self.plans],
        }

    def lines(self) -> Iterator[str]:
        """The text form."""
        for step, plan in enumerate(self.plans):
            if isinstance(plan, Finish):
                winner = f" {plan.winner.generation}-{plan.winner.slot}" if plan.winner else ""
                yield f"step {step}: {plan.outcome}{winner}: {plan.reason}"
            else:
                yield f"step {step}: generation of {len(plan.candidates)}: {plan.candidates[0].reason}"
        if self.state != "committed":
            yield f"the search is {self.state}"
        yield from self.differences
        yield "every decision is the recorded one" if self.same else "the replay differs: see above"


@dataclass(frozen=True)
class _Recorded:
    """What a search's folder holds: `plans` by generation, raw; the closing document `final`, None while it is open."""

    header: Mapping[str, Any]
    manifest: Mapping[str, Any]
    plans: Mapping[int, Any]
    results: tuple[SlotResult, ...]
    final: Mapping[str, Any] | None
    stop: Stop | None

    def counts(self, ref: SlotRef) -> bool:
        """Whether the result of a slot counts: every one does, but after a stop."""
        return self.stop is None or self.stop.counts(ref)

    @property
    def knows_basis(self) -> bool:
        """Whether it was decided by what quality was measured on; not if it ended without a word of that."""
        summary = (self.final or {}).get("summary")
        return not isinstance(summary, dict) or "basis" in summary

    @property
    def counted(self) -> list[SlotResult]:
        """The results that count."""
        return [result for result in self.results if self.counts(SlotRef(result.generation, result.slot))]


def replay_search(store: Store, search: str) -> Replayed:
    """Recompute every decision of a search that is still in the store.

    Raises:
        UserError: no such search, or its data was never pinned.
        IntegrityError: a recorded document is damaged.
    """
    folder = Folder(store, search)
    recorded = _read(folder)
    _check_strategy(recorded.header)
    info = log.read_info(store)
    with _blaming(f"{names.SEARCHES}{search}"):
        spec, base = ResolvedTask.from_json(recorded.header["spec"]), int(recorded.header["base"])
        run = RunKey.parse(recorded.header["run"])
        view = build_view(
            log.read_graph(store, version=base),
            spec=spec,
            facts=read_facts(recorded.manifest),
            reference=Reference(parameters=info.reference_parameters, flops=info.reference_flops),
            manifest=recorded.manifest if recorded.knows_basis else None,
        )
        strategy = get_strategy(spec.search.strategy)
        done = replay(view, strategy, recorded.counted, stop=recorded.stop.reason if recorded.stop else None)
        ends = {} if recorded.final is None else _ends(done, recorded, search)
        commit = _commit_of(store, search, base=base)
        found = [
            *_header_differences(recorded.header, spec, run, search),
            *_plan_differences(recorded, done),
            *_result_differences(recorded, done),
            *_final_differences(recorded.final, ends),
            *_commit_differences(commit, recorded, base=base),
        ]
    state = "open" if recorded.final is None else "closed" if commit is None else "committed"
    return Replayed(search, spec.task, state, done.plans, tuple(found))


@contextmanager
def _blaming(what: str) -> Iterator[None]:
    """Whatever pure functions refuse here comes from recorded documents, so it is those that are wrong."""
    try:
        yield
    except (FormatError, IntegrityError):
        raise  # it says itself which document, of the search or of the graph
    except MISSHAPEN as error:
        raise IntegrityError(f"{what}: missing or wrong field: {error!r}") from None
    except (UserError, ConflictError, ArithmeticError) as error:
        raise IntegrityError(f"{what}: cannot be replayed: {error}") from error


def read_facts(manifest: Any) -> TaskFacts:
    """What strategies know of the data, from ``data.json``.

    Raises:
        IntegrityError: a field is missing or wrong.
    """
    with reading("data.json"):
        counts = manifest["counts"]
        return TaskFacts(
            labels=tuple(str(label) for label in manifest["labels"]),
            train_samples=sum(counts["train"].values()),
            validation_samples=sum(counts["validation"].values()),
        )


def _read(folder: Folder) -> _Recorded:
    """Every document of the folder that a decision rests on, or is one."""
    header, manifest = folder.header(), folder.manifest()
    if header is None or manifest is None:
        missing = "no such search (closed ones may have been collected)" if header is None else "no data pinned yet"
        raise UserError(f"{folder.store.url}: {names.SEARCHES}{folder.search}: {missing}")
    start = names.search_key(folder.search, "")
    found = [entry.key.removeprefix(start) for entry in folder.store.list(start)]
    generations = sorted(int(match[1]) for name in found if (match := _PLAN.fullmatch(name)))
    slots = [SlotRef(int(match[1]), int(match[2])) for name in found if (match := _RESULT.fullmatch(name))]
    plans = parallel.each(folder.plan, generations)
    results = parallel.each(folder.result, slots)
    raw = {}
    for number, plan in zip(generations, plans, strict=True):
        if plan is not None:
            with reading(names.plan_key(folder.search, number)):
                raw[number] = plan["plan"]
    there = tuple(result for result in results if result is not None)
    stopped = folder.stop()
    with reading(f"{start}stop.json"):
        stop = Stop.from_json(stopped) if stopped is not None else None
    return _Recorded(header=header, manifest=manifest, plans=raw, results=there, final=folder.final(), stop=stop)


def _check_strategy(header: Mapping[str, Any]) -> None:
    """Refuse a search of a strategy that plans otherwise by now; what is no strategy is told later."""
    with reading("search.json"):
        name, version, trainer = header["strategy"]["name"], header["strategy"]["version"], header["trainer"]
        here = STRATEGIES[name].version if name in STRATEGIES else version
    if version != here:
        raise UserError(
            f"{name} had version {version!r} when this search was recorded and has {here} now; "
            f"replay it with evergraft {trainer}"
        )


def _header_differences(header: Mapping[str, Any], spec: ResolvedTask, run: RunKey, search: str) -> Iterator[str]:
    expected = {
        "search": search,
        "task": spec.task,
        "run": str(RunKey(spec.iteration, run.cycle)),
        "specHash": canonical.digest(header["spec"]),
        "strategy": {**header["strategy"], "name": spec.search.strategy},
    }
    for name, value in expected.items():
        told = difference(header[name], value, f"search.json: {name}")
        if told:
            yield told
    if names.search_id(spec.task, run) != search:
        yield f"search.json: {spec.task} at {run} has another search than {search}"


def _plan_differences(recorded: _Recorded, done: Replay) -> Iterator[str]:
    """An open search may lack the newest plan: its results came, and no worker has planned on since."""
    for generation, plan in enumerate(done.generations):
        name = f"plan-{generation:04d}.json"
        if generation in recorded.plans:
            told = difference(recorded.plans[generation], codec.to_json(plan), name)
            if told:
                yield told
        elif recorded.final is not None or generation + 1 < len(done.generations):
            yield f"{name}: not recorded"
    for generation in sorted(recorded.plans.keys() - set(range(len(done.generations)))):
        yield f"plan-{generation:04d}.json: recorded, but the replay does not come to it"


def _result_differences(recorded: _Recorded, done: Replay) -> Iterator[str]:
    planned = {
        names.slot_place(generation, slot)
        for generation, plan in enumerate(done.generations)
        for slot in range(len(plan.candidates))
        if recorded.counts(SlotRef(generation, slot))
    }
    there = {names.slot_place(result.generation, result.slot): result for result in recorded.counted}
    for place in sorted(there.keys() - planned):
        yield f"{place}/result.json: no plan asks for it"
    if recorded.final is None:
        return
    digests = recorded.final["results"]
    for place in sorted({*planned, *digests}):
        if place not in there:
            yield f"{place}/result.json: missing, although the search is closed"
        elif digests.get(place) != canonical.digest(there[place].to_json()):
            yield f"{place}/result.json: not the result that the search was decided on"


def _ends(done: Replay, recorded: _Recorded, search: str) -> dict[str, Any]:
    """The closing document as the replay makes it; what was measured for the winner alone is taken as recorded."""
    if done.crash is not None:
        return closing.without_route(done.view, outcome="failed", reason=done.crash)
    finish = done.finish
    if finish is None:
        return {"finish": "results are missing"}
    if finish.winner is None:
        return closing.without_route(done.view, outcome=OUTCOMES[finish.outcome], reason=finish.reason, finish=finish)
    final = recorded.final or {}
    with reading(names.final_key(search)):
        route = Route.from_json(final["route"]) if final["route"] is not None else None
        test = route.metrics["test"] if route else None
        looked = ledger.looked_in(route.transfer.get("ledger")) if route else None
    known = ledger.known_of(done.view, basis=ledger.basis_of(done.view, recorded.manifest))
    answers = Answers(labels=done.view.facts.labels, golden=route.golden if route else {}, test=test)
    return closing.with_route(
        done.view, winner=finish.winner, search=search, finish=finish, answers=answers, known=known, looked=looked
    )


def _final_differences(final: Mapping[str, Any] | None, ends: Mapping[str, Any]) -> Iterator[str]:
    """Results have differences of their own, which say more."""
    for name in sorted(ends.keys() - {"results"}):
        told = difference((final or {}).get(name), ends[name], f"final/result.json: {name}")
        if told:
            yield told


def _commit_of(store: Store, search: str, *, base: int) -> Commit | None:
    """The commit that closed the search, None if it is not closed."""
    return next((commit for commit, _ in log.read_commits(store, base + 1) if commit.search == search), None)


def _commit_differences(commit: Commit | None, recorded: _Recorded, *, base: int) -> Iterator[str]:
    if commit is None:
        return
    at, header, final = f"commit {commit.version}", recorded.header, recorded.final
    if final is None:
        yield f"{at}: closes the search, whose end is not recorded"
        return
    closed = next((action for action in commit.actions if isinstance(action, CloseSearch)), None)
    route = next((action.route.to_json() for action in commit.actions if isinstance(action, PutRoute)), None)
    told = {
        "base": (commit.base, base),
        "run": (str(closed.run) if closed else None, header["run"]),
        "taskHash": (closed.task_hash if closed else None, header["taskHash"]),
        "outcome": (closed.outcome if closed else None, final["outcome"]),
        "sampled": (dict(closed.sampled or {}) if closed else None, final["sampled"]),
        "route": (route, final.get("summary")),
    }
    for name, (committed, decided) in told.items():
        found = difference(committed, decided, f"{at}: {name}")
        if found:
            yield found
