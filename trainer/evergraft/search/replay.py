"""Replay: derive a search's plans again from its recorded results, and compare them with what was recorded.

A search is a pure function of spec, base version, seed and results, so any machine must come to the same plans and
the same winner. Called by ``evergraft replay`` and by tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from evergraft import canonical
from evergraft.search.validate import check_plan
from evergraft.search.values import Finish, Generation, GenerationRecord, SlotRef, SlotResult, Strategy, View
from evergraft.search.view import crash

LONGEST_TEXT = 60


@dataclass(frozen=True)
class Replay:
    """The plans of a search in order, and what the strategy would see next.

    `finish` is None if results of the last generation are still missing, or if one of its candidates crashed, which
    ends the search: `crash` says how.
    """

    generations: tuple[Generation, ...]
    finish: Finish | None
    view: View
    crash: str | None = None

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
            return Replay(generations=tuple(generations), finish=plan, view=view)
        generations.append(plan)
        record = _record(plan, generation=len(view.history), found=found)
        view = replace(view, history=(*view.history, record))
        if len(record.results) < len(plan.candidates):
            return Replay(
                generations=tuple(generations), finish=_stopped(view, strategy, stop), view=replace(view, stop=stop)
            )
        if (reason := crash(view)) is not None:
            return Replay(generations=tuple(generations), finish=None, view=view, crash=reason)


def difference(recorded: Any, replayed: Any, at: str) -> str | None:
    """The first place where two JSON values differ, in words; None if they are the same, to the byte."""
    pairs: list[tuple[str, Any, Any]]
    if isinstance(recorded, dict) and isinstance(replayed, dict):
        odd = sorted(recorded.keys() ^ replayed.keys())
        if odd:
            return f"{at}.{odd[0]}: {'recorded, but not replayed' if odd[0] in recorded else 'not recorded'}"
        pairs = [(f"{at}.{name}", recorded[name], replayed[name]) for name in sorted(recorded)]
    elif isinstance(recorded, list) and isinstance(replayed, list):
        if len(recorded) != len(replayed):
            return f"{at}: {len(recorded)} recorded, {len(replayed)} replayed"
        both = zip(recorded, replayed, strict=True)
        pairs = [(f"{at}[{place}]", one, other) for place, (one, other) in enumerate(both)]
    else:
        one, other = canonical.dumps(recorded), canonical.dumps(replayed)
        return None if one == other else f"{at}: {_short(one)} recorded, {_short(other)} replayed"
    return next((found for place, one, other in pairs if (found := difference(one, other, place))), None)


def _short(value: bytes) -> str:
    text = value.decode()
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


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
