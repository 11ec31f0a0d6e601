"""Which parent each slot of a generation gets, by the rules of µ2Net (arXiv 2205.12755, section 3.2).

Slot by slot, counts rising as slots are drawn: (a) this task's route and kept candidates, best score first, the route
last where its score counts no longer; then (b)
other tasks' public routes and the roots, in one order shuffled at the start of the search. Each is accepted with
probability 0.5^n, n = times it was ever sampled for this task. If none is, (c) one of all with equal chance.

What the paper leaves open is decided so. Every visit draws one number, also where acceptance is certain. Candidates
have counts of their own, like routes. After a pick of one of (b), by (b) or by (c), the order begins behind it for the
next slot, in later generations too; a pick of (a) leaves it. The list (c) draws from is (a) as ranked, then (b) as
rotated. Pure; called by `mu2net`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from evergraft.errors import ConflictError
from evergraft.search.rng import Rng
from evergraft.search.starts import Start, family, other_routes, route_start
from evergraft.search.values import SlotRef, View


@dataclass(frozen=True)
class Draw:
    """One slot's parent, and a sentence on why."""

    start: Start
    reason: str


def draw_parents(view: View, *, generation: int, slots: int) -> tuple[Draw, ...]:
    """The parents of a generation's slots, in slot order.

    Raises:
        ConflictError: there is no route at all to start from.
    """
    own = family(view)
    others = rotated(shuffled(view), last_pick(view))
    if not own and not others:
        raise ConflictError(f"the graph at version {view.base} has no route to start from; restore its root")
    counts = times_sampled(view)
    draws = []
    for slot in range(slots):
        draw = _draw(view.rng(generation, slot, "parent"), own, others, counts)
        draws.append(draw)
        counts[draw.start.ref] += 1
        others = rotated(others, draw.start.ref)
    return tuple(draws)


def _draw(rng: Rng, own: Sequence[Start], others: Sequence[Start], counts: Counter[str | SlotRef]) -> Draw:
    for start in (*own, *others):
        times = counts[start.ref]
        if rng.chance(0.5**times):
            return Draw(start=start, reason=_reason(start, times))
    start = rng.choice((*own, *others))
    return Draw(start=start, reason=f"{start.title}: every parent was passed over, so drawn from all alike")


def _reason(start: Start, times: int) -> str:
    sampled = "not sampled before" if times == 0 else f"sampled {times}× before"
    if start.same_task and start.score is None:
        return f"{start.title}: its score is of other data, labels, metric or image size, {sampled}"
    if start.score is None:
        return f"{start.title}: next in the shuffled order, {sampled}"
    return f"{start.title}: score {start.score:.4f}, {sampled}"


def shuffled(view: View) -> tuple[Start, ...]:
    """Other tasks' public routes and the roots in the search's one shuffled order."""
    order = [route_start(view, route.summary) for route in other_routes(view)]
    view.rng(0, 0, "order").shuffle(order)
    return tuple(order)


def rotated(order: Sequence[Start], pick: str | SlotRef | None) -> tuple[Start, ...]:
    """The same circle, beginning behind `pick`; unchanged where that is no part of it."""
    position = next((index for index, start in enumerate(order) if start.ref == pick), -1) + 1
    return (*order[position:], *order[:position])


def last_pick(view: View) -> str | None:
    """The route of another task that was drawn last in this search: the order begins behind it."""
    others = {route.summary.id for route in other_routes(view)}
    plans = [plan for record in view.history for plan in record.plan.candidates]
    return next((p.start for p in reversed(plans) if isinstance(p.start, str) and p.start in others), None)


def times_sampled(view: View) -> Counter[str | SlotRef]:
    """How often each route or candidate was drawn for this task: before this search and in it."""
    counts: Counter[str | SlotRef] = Counter({route.summary.id: route.sampled for route in view.routes})
    counts.update(plan.start for record in view.history for plan in record.plan.candidates)
    return counts
