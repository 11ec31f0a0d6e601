"""Replay: derive a search's plans again from its recorded results, and compare them with what was recorded.

A search is a pure function of spec, base version, seed and results, so any machine must come to the same plans and
the same winner. Called by ``evergraft replay`` and by tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from evergraft import canonical
from evergraft.search.codec import to_json
from evergraft.search.validate import check_plan
from evergraft.search.values import Finish, Generation, GenerationRecord, SlotRef, SlotResult, Strategy, View


@dataclass(frozen=True)
class Replay:
    """The plans of a search in order. `finish` is None if results of the last generation are still missing."""

    generations: tuple[Generation, ...]
    finish: Finish | None

    @property
    def plans(self) -> tuple[Generation | Finish, ...]:
        """Everything the strategy answered, in order."""
        return (*self.generations, self.finish) if self.finish else self.generations


def replay(view: View, strategy: Strategy, results: Iterable[SlotResult], *, stop: str | None = None) -> Replay:
    """Ask `strategy` again from the start of the search that `view` describes (its history and stop are not used).

    `results` are those recorded, in any order; `stop` is the reason of a recorded stop, and then `results` are only
    those that count. Every plan passes the same checks as in the search itself.

    Raises:
        SpecError, ConflictError: the strategy answers with a plan that the checks refuse.
    """
    found = {SlotRef(generation=result.generation, slot=result.slot): result for result in results}
    view = replace(view, history=(), stop=None)
    generations: list[Generation] = []
    while True:
        plan = strategy.next(view)
        check_plan(view, plan)
        if isinstance(plan, Finish):
            return Replay(generations=tuple(generations), finish=plan)
        generations.append(plan)
        record = _record(plan, generation=len(view.history), found=found)
        view = replace(view, history=(*view.history, record))
        if len(record.results) < len(plan.candidates):
            return Replay(generations=tuple(generations), finish=_stopped(view, strategy, stop))


def differences(recorded: Sequence[Generation | Finish], replayed: Sequence[Generation | Finish]) -> tuple[str, ...]:
    """Where two sequences of plans differ, in words; empty if they are the same."""
    found = [
        f"step {step}: the replay plans differently"
        for step, (one, other) in enumerate(zip(recorded, replayed, strict=False))
        if canonical.dumps(to_json(one)) != canonical.dumps(to_json(other))
    ]
    if len(recorded) != len(replayed):
        found.append(f"{len(recorded)} steps are recorded, the replay has {len(replayed)}")
    return tuple(found)


def _record(plan: Generation, *, generation: int, found: dict[SlotRef, SlotResult]) -> GenerationRecord:
    refs = (SlotRef(generation=generation, slot=slot) for slot in range(len(plan.candidates)))
    return GenerationRecord(plan=plan, results=tuple(found[ref] for ref in refs if ref in found))


def _stopped(view: View, strategy: Strategy, stop: str | None) -> Finish | None:
    """The end of a search whose last generation lacks results: only a recorded stop ends it."""
    if stop is None:
        return None
    view = replace(view, stop=stop)
    plan = strategy.next(view)
    check_plan(view, plan)
    return plan if isinstance(plan, Finish) else None
