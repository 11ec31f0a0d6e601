"""Replay a stored search: read its folder and the graph at its base, plan again, compare with what was recorded.

Reads nothing of the data but the facts that ``data.json`` pins, and trains nothing. Called by ``evergraft replay``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evergraft.api.resolved import ResolvedTask
from evergraft.errors import UserError
from evergraft.graph.route import reading
from evergraft.search import codec
from evergraft.search.folder import Folder
from evergraft.search.replay import differences, replay
from evergraft.search.strategies import get as get_strategy
from evergraft.search.values import Finish, Generation, Reference, SlotRef, SlotResult, TaskFacts
from evergraft.search.view import build_view
from evergraft.store import log
from evergraft.store.seam import Store


@dataclass(frozen=True)
class Replayed:
    """What a replay found: the plans it made, and where they differ from the recorded ones."""

    search: str
    task: str
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
        yield from self.differences
        yield "every decision is the recorded one" if self.same else "the replay differs: see above"


def replay_search(store: Store, search: str) -> Replayed:
    """Recompute every decision of a search that is still in the store.

    Raises:
        UserError: no such search, or its data was never pinned.
        IntegrityError: a recorded document is damaged.
    """
    folder = Folder(store, search)
    header, manifest = folder.header(), folder.manifest()
    if header is None or manifest is None:
        missing = "no such search (closed ones may have been collected)" if header is None else "no data pinned yet"
        raise UserError(f"{store.url}: searches/{search}: {missing}")
    with reading("search.json"):
        spec, base = ResolvedTask.from_json(header["spec"]), int(header["base"])
    info = log.read_info(store)
    view = build_view(
        log.read_graph(store, version=base),
        spec=spec,
        facts=read_facts(manifest),
        reference=Reference(parameters=info.reference_parameters, flops=info.reference_flops),
    )
    recorded = tuple(_recorded(folder))
    done = replay(view, get_strategy(spec.search.strategy), _results(folder, recorded))
    return Replayed(search, spec.task, done.plans, differences(recorded, done.plans))


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


def _recorded(folder: Folder) -> Iterator[Generation | Finish]:
    generation = 0
    while (stored := folder.plan(generation)) is not None:
        with reading(f"plan of generation {generation}"):
            yield codec.from_json(stored["plan"])
        generation += 1
    final = folder.final()
    if final is not None and final.get("finish"):
        yield codec.from_json(final["finish"])


def _results(folder: Folder, plans: tuple[Generation | Finish, ...]) -> Iterator[SlotResult]:
    for generation, plan in enumerate(plans):
        if isinstance(plan, Generation):
            for slot in range(len(plan.candidates)):
                result = folder.result(SlotRef(generation, slot))
                if result is not None:
                    yield result
