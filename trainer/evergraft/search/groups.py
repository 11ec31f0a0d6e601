"""Groups of slots: what one worker claims at once, to train side by side.

A group leaves other workers their share of the open slots, and never holds a slot whose last claim ended in a crash:
that one is trained alone, so that a candidate which kills its worker kills no other. Called by the engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from evergraft.api.resolved import ResolvedTask
from evergraft.search.claims import Crew, Seen
from evergraft.search.deadline import Deadline
from evergraft.search.duty import Duty
from evergraft.search.events import Emit
from evergraft.search.folder import Folder
from evergraft.search.values import CandidatePlan, SlotRef, SlotResult


@dataclass(frozen=True)
class Claimed:
    """A slot to be trained: which, how, and the claim that it is held by (None where nobody else could hold it)."""

    ref: SlotRef
    plan: CandidatePlan
    duty: Duty | None = None


class Trains(Protocol):
    """The part of a trainer that trains."""

    def company(self, first: Claimed, others: Sequence[Claimed]) -> Sequence[SlotRef]:
        """Which of the `others`, best first, gain from being trained side by side with `first`; often none."""
        ...

    def train(self, group: Sequence[Claimed]) -> Iterator[SlotResult]:
        """Train and score candidates side by side, resuming each from its newest saved state.

        Tells every `duty` of every step. Yields each result as soon as it is there; none for a candidate whose claim
        was taken over. The results are the same bits as if each were trained alone.
        """
        ...


def may_share(place: str, seen: Mapping[str, Seen]) -> bool:
    """Whether a slot may be trained beside others: it was never claimed, or its last claim was released."""
    known = seen.get(place, Seen())
    return known.claim == 0 or known.released


def share_of(num_open: int, others: int) -> int:
    """How many of `num_open` slots one worker takes at once beside `others`: its share, rounded up, at least one."""
    return max(1, -(-num_open // (1 + others)))


def claim_beside(
    crew: Crew, folder: Folder, company: Sequence[str], seen: Mapping[str, Seen], *, num_open: int
) -> Iterator[tuple[str, int]]:
    """Claim places of `company` one by one, up to this worker's share of the `num_open` slots, one being claimed.

    Raises:
        StoppedError: asked to stop.
    """
    left = share_of(num_open, crew.others(folder)) - 1
    for place in company:
        if left < 1:
            return
        claimed = crew.claim(folder, [place], seen) if may_share(place, seen) else None
        if claimed is not None:
            left -= 1
            yield claimed


@dataclass(frozen=True)
class Groups:
    """This worker's groups in one search."""

    crew: Crew
    folder: Folder
    spec: ResolvedTask
    trainer: Trains
    emit: Emit
    deadline: Deadline

    def train(
        self, slots: Mapping[str, Claimed], first: tuple[str, int], seen: Mapping[str, Seen]
    ) -> dict[int, SlotResult]:
        """Train the slot that was claimed first, and beside it what the trainer gains by; `slots` lack results.

        Beside other workers it takes no more than its share of the open slots, so that each finds work: half of them
        where nothing is known of the others. No result for a slot that another worker took over.
        """
        results: dict[int, SlotResult] = {}
        held: dict[SlotRef, ExitStack] = {}
        group: list[Claimed] = []
        with ExitStack() as stack:
            for place, claim in self._claims(slots, first, seen):
                ref, plan = slots[place].ref, slots[place].plan
                if self.crew.has_crashed_often(self.folder, place, claim):
                    results[ref.slot] = self.folder.put_result(ref, SlotResult.crashed(ref, claim=claim))
                    continue
                self._tell("slot", ref, claim=claim, samples=plan.samples)
                held[ref] = stack.enter_context(ExitStack())
                hang_after_s = self.spec.search.hang_after_s
                working = self.crew.working(
                    self.folder, place, claim, hang_after_s=hang_after_s, deadline=self.deadline
                )
                group.append(Claimed(ref, plan, held[ref].enter_context(working)))
            for made in self.trainer.train(group) if group else ():
                ref = SlotRef(made.generation, made.slot)
                results[ref.slot] = self.folder.put_result(ref, made)
                held.pop(ref).close()
                stands = results[ref.slot]
                self._tell("result", ref, quality=stands.quality, ending=_ending(stands))
        for ref in held:
            self._tell("superseded", ref)
        return results

    def _claims(
        self, slots: Mapping[str, Claimed], first: tuple[str, int], seen: Mapping[str, Seen]
    ) -> Iterator[tuple[str, int]]:
        """The first claim, then those on its company, made one by one while the earlier ones are held."""
        place = first[0]
        num_open = self.crew.num_free(list(slots), seen)
        yield first
        if not may_share(place, seen):
            return
        chosen = self.trainer.company(slots[place], [slot for other, slot in slots.items() if other != place])
        places = {slot.ref: other for other, slot in slots.items()}
        yield from claim_beside(self.crew, self.folder, [places[ref] for ref in chosen], seen, num_open=num_open)

    def _tell(self, event: str, ref: SlotRef, **fields: Any) -> None:
        self.emit(event, {"task": self.spec.task, "generation": ref.generation, "slot": ref.slot, **fields})


def _ending(result: SlotResult) -> str:
    """How a candidate ended, in one word, for those who count."""
    if result.failed is not None:
        return "failed"
    return "scored" if result.diverged is None else "diverged"
