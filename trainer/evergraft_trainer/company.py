"""Which candidates go well side by side: those that read the same batches, share work, and fit in memory together.

Decided from plans and from what their starts are, before anything is claimed or read in full. Called by the trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from evergraft.api.resolved import ResolvedTask
from evergraft.errors import IntegrityError
from evergraft.graph.route import Layer, count, reading
from evergraft.search.folder import Folder
from evergraft.search.groups import Claimed
from evergraft.search.values import CandidatePlan, SlotRef
from evergraft.store import blobs
from evergraft_trainer.data.preprocessing import Preprocessing
from evergraft_trainer.stream import StreamKey, stream_key

HEAVY = frozenset({"encoder_block", "residual_block"})
"""The kinds of layers whose sharing pays; what is before them costs next to nothing."""

TRAINED_COPIES = 4
"""A trained parameter's own memory, in parameters: weight, gradient, two moments."""

BYTES = 4


@dataclass(frozen=True)
class Start:
    """What a candidate starts from, in short."""

    layers: tuple[Layer, ...]
    preprocessing: Preprocessing
    origin: SlotRef | None


def read_start(folder: Folder, plan: CandidatePlan) -> Start:
    """The start of a plan, from one small document.

    Raises:
        IntegrityError: it is damaged or missing.
    """
    if isinstance(plan.start, SlotRef):
        result = folder.result(plan.start)
        if result is None:
            raise IntegrityError(f"searches/{folder.search}: candidate {plan.start} has no result")
        with reading(folder.result_key(plan.start)):
            origin = SlotRef(*map(count, result.metrics["origin"]))
            return Start(result.layers, Preprocessing.from_json(result.preprocessing), origin)
    route = blobs.get_route(folder.store, plan.start)
    return Start(route.layers, Preprocessing.from_json(route.preprocessing), None)


@dataclass(frozen=True)
class Member:
    """A candidate that may join a group: its stream, its frozen prefix, and the bytes that it alone needs."""

    stream: StreamKey
    prefix: tuple[Layer, ...]
    size: int


def member(spec: ResolvedTask, claimed: Claimed, start: Start) -> Member:
    """What counts of a candidate."""
    plan = claimed.plan
    follows = start.origin is not None and plan.schedule.offset > 0
    origin = start.origin if follows and start.origin is not None else claimed.ref
    by_name = {layer.name: layer for layer in start.layers}
    frozen = {item.name for item in plan.layers if item.action == "share" and not item.deltas}
    trained = sum(layer.parameters for name, layer in by_name.items() if name not in frozen)
    prefix = tuple(_prefix(plan, by_name))
    shared = {layer.name for layer in prefix}
    own = sum(layer.parameters for name, layer in by_name.items() if name in frozen and name not in shared)
    return Member(
        stream=stream_key(spec, plan, origin, start.preprocessing),
        prefix=prefix,
        size=BYTES * (TRAINED_COPIES * trained + own),
    )


def gains(first: Member, other: Member) -> bool:
    """Whether two candidates gain from being trained side by side: same batches, and something costly in common.

    That is a frozen block at the bottom, or images that are worked on one by one in every epoch. Shared batches alone
    gain nothing, and several models in turn use a processor's caches worse than one.
    """
    if first.stream != other.stream:
        return False
    common = 0
    while common < min(len(first.prefix), len(other.prefix)) and first.prefix[common] == other.prefix[common]:
        common += 1
    return first.stream.augmentation.moves_pixels or any(layer.kind in HEAVY for layer in first.prefix[:common])


def choose(
    spec: ResolvedTask,
    first: Claimed,
    others: Sequence[Claimed],
    *,
    start_of: Callable[[CandidatePlan], Start],
    width: int,
    free: int | None,
) -> list[SlotRef]:
    """Who of `others` goes beside `first`: up to `width` in all, in slot order, together in half of `free` bytes."""
    leader = member(spec, first, start_of(first.plan))
    chosen: list[SlotRef] = []
    left = None if free is None else free // 2 - leader.size
    for other in others:
        joins = member(spec, other, start_of(other.plan))
        if len(chosen) + 1 >= width:
            break
        if not gains(leader, joins) or (left is not None and joins.size > left):
            continue
        left = None if left is None else left - joins.size
        chosen.append(other.ref)
    return chosen


def _prefix(plan: CandidatePlan, by_name: dict[str, Layer]) -> Iterator[Layer]:
    for item in plan.layers:
        if item.action == "drop":
            continue
        if item.action != "share" or item.deltas or item.name not in by_name:
            return
        yield by_name[item.name]
