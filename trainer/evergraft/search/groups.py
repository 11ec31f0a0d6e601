"""Groups of slots: what one worker claims at once, to train side by side.

A group leaves other workers their share of the open slots, and never holds a slot whose last claim ended in a crash:
that one is trained alone, so that a candidate which kills its worker kills no other. Called by the engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evergraft.search.claims import Crew, Seen
from evergraft.search.duty import Duty
from evergraft.search.folder import Folder
from evergraft.search.values import CandidatePlan, SlotRef


@dataclass(frozen=True)
class Claimed:
    """A slot to be trained: which, how, and the claim that it is held by (None where nobody else could hold it)."""

    ref: SlotRef
    plan: CandidatePlan
    duty: Duty | None = None


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
