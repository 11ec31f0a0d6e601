"""What a steward answers: JSON of at most 4,096 bytes, which is what a pod's termination message holds.

Where several tasks were asked about, what does not fit is null from the end: whoever asks, asks again for those.
Called by ``evergraft steward``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evergraft import canonical

MAX_BYTES = 4096
MAX_REASON_BYTES = 1200
HASH_DIGITS = 16
"""Digits of a task's hash: enough to tell two apart, and they leave room for another task."""


@dataclass(frozen=True)
class Answer:
    """What was done or found, in a sentence and in figures. `exit_code` is the process's."""

    reason: str
    graph_id: str | None = None
    graph: Mapping[str, int] | None = None
    heads: Sequence[Mapping[str, Any] | None] | None = None
    removed: Sequence[bool] | None = None
    exit_code: int = 0

    def encode(self) -> bytes:
        """The bytes."""
        fields: dict[str, Any] = {"format": canonical.FORMAT, "reason": _cut(self.reason)}
        if self.graph_id is not None:
            fields["graphID"] = self.graph_id
        if self.graph is not None:
            fields["graph"] = dict(self.graph)
        if self.removed is not None:
            fields["removed"] = list(self.removed)
        if self.heads is not None:
            fields["heads"] = _fitting([_brief(head) for head in self.heads], room=MAX_BYTES - len(_dump(fields)))
        return _dump(fields)


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode()


def _cut(text: str) -> str:
    while (size := len(json.dumps(text))) > MAX_REASON_BYTES + 2:
        text = text[: min(len(text) - 1, max(1, len(text) * MAX_REASON_BYTES // size))]
    return text


def _fitting(heads: list[dict[str, Any] | None], *, room: int) -> list[dict[str, Any] | None]:
    """`heads` with as many from the end made null as it takes to fit into `room` bytes."""
    for left in range(len(heads), -1, -1):
        fitting = [head if number < left else None for number, head in enumerate(heads)]
        if len(_dump({"heads": fitting})) <= room:
            break
    return fitting


def _brief(head: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A head in few bytes: what is unknown or false is left out, figures are rounded to what a status shows."""
    if head is None:
        return None
    found = {**head, "taskHash": str(head["taskHash"])[:HASH_DIGITS]} if head.get("taskHash") else dict(head)
    if head.get("route"):
        route = {name: value for name, value in head["route"].items() if value is not None and value is not False}
        found["route"] = {name: round(value, 6) if isinstance(value, float) else value for name, value in route.items()}
    return {name: value for name, value in found.items() if value is not None or name == "run"}
