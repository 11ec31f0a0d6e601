"""Conditions: six for a Task, four for a ModuleGraph. Their times move only when their status does.

Called by ``reconcile`` and ``graphs``; the phase of a Task is derived here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from evergraft_operator import reading
from evergraft_operator.reading import Moment

TASK_TYPES = ("Accepted", "Scheduled", "Ready", "Reconciling", "Stalled", "Suspended")
GRAPH_TYPES = ("Ready", "Reconciling", "Stalled", "Verified")
MAX_MESSAGE_BYTES = 200
MAX_STALLED_BYTES = 500
"""A stall is what a person must act on, so it may take more room."""
AT_WORK = ("Queued", "Starting", "Training", "Committing")
"""Reasons of Reconciling, and phases, of a Task that has a Job."""
_REASON = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")

Status = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Condition:
    """One condition; `since` is when its status last changed, `generation` the spec it speaks of."""

    type: str
    status: Status
    reason: str
    message: str = ""
    generation: int = 0
    since: Moment | None = None

    @property
    def holds(self) -> bool:
        """Whether the status is True."""
        return self.status == "True"


def read(value: Any) -> dict[str, Condition]:
    """The conditions in a status, by type; what is no condition is left out."""
    found: dict[str, Condition] = {}
    for item in reading.objects(value, "conditions", at_most=32):
        kind, status = reading.text(item.get("type"), 64), item.get("status")
        if kind and status in ("True", "False", "Unknown"):
            found[kind] = Condition(
                type=kind,
                status=status,
                reason=reading.text(item.get("reason"), 64),
                message=reading.text(item.get("message"), 2000),
                generation=reading.whole(item.get("observedGeneration")) or 0,
                since=reading.moment(item.get("lastTransitionTime")),
            )
    return found


def settle(
    previous: Mapping[str, Condition], wanted: Iterable[Condition], *, generation: int, now: Moment
) -> list[dict[str, Any]]:
    """The conditions as a status holds them: a status that stays keeps its time."""
    return [_settled(previous.get(condition.type), condition, generation, now) for condition in wanted]


def _settled(before: Condition | None, condition: Condition, generation: int, now: Moment) -> dict[str, Any]:
    same = before is not None and before.status == condition.status and before.since is not None
    since = before.since if same and before is not None and before.since else now
    limit = MAX_STALLED_BYTES if condition.type == "Stalled" else MAX_MESSAGE_BYTES
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason if _REASON.fullmatch(condition.reason) else "Unknown",
        "message": reading.capped(reading.text(condition.message, 2000), limit),
        "observedGeneration": generation,
        "lastTransitionTime": reading.written(since),
    }


def phase(conditions: Mapping[str, Condition], *, deleting: bool) -> str:
    """The one word for a Task that its conditions add up to."""

    def holds(kind: str) -> bool:
        return kind in conditions and conditions[kind].holds

    if deleting:
        return "Deleting"
    for kind, word in (("Suspended", "Suspended"), ("Stalled", "Failed")):
        if holds(kind):
            return word
    if not holds("Reconciling") and (holds("Ready") or _reason(conditions, "Reconciling") in ("Committed", "Kept")):
        return "Succeeded"  # Also without its graph: what is committed is committed.
    reason = _reason(conditions, "Reconciling")
    # Workers that are at it go on, also where the Task would no longer be accepted.
    return reason if holds("Reconciling") and reason in AT_WORK else "Pending"


def _reason(conditions: Mapping[str, Condition], kind: str) -> str:
    return conditions[kind].reason if kind in conditions else ""
