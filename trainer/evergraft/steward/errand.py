"""What a steward is asked: JSON ``{format, duty, store, …}`` in EVERGRAFT_STEWARD, checked field by field.

`store` is ``{url, endpoint, credentials, caBundle}``; the rest belongs to the duty. Called by ``evergraft steward``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evergraft.api.reading import check_format
from evergraft.errors import SpecError
from evergraft.store.access import Access

VARIABLE = "EVERGRAFT_STEWARD"
PART = "JOB_COMPLETION_INDEX"
"""Kubernetes tells each pod of a Job its number in this variable."""
MAX_HEADS = 20
"""Tasks in one part: what an answer can carry."""
MAX_TASKS = 160
DUTIES = ("init", "heads", "remove", "collect", "verify")


@dataclass(frozen=True)
class Errand:
    """One errand: the duty, the store it is about, the duty's own fields, and which part of the tasks is this one's."""

    duty: str
    store: Access
    fields: Mapping[str, Any]
    part: int = 0

    def tasks(self) -> tuple[str | None, ...]:
        """The ids of this part's tasks, in order; None where one has none.

        Raises:
            SpecError: no list, or too long.
        """
        found = self.fields.get("tasks")
        if not isinstance(found, list) or len(found) > MAX_TASKS:
            raise SpecError(f"{VARIABLE}: tasks: expected a list of at most {MAX_TASKS}")
        return tuple(_task(item) for item in found[self.part * MAX_HEADS :][:MAX_HEADS])

    def named(self) -> tuple[str, ...]:
        """Those ids, where each must be one.

        Raises:
            SpecError: one is not, or there is none.
        """
        found = tuple(task for task in self.tasks() if task is not None)
        if not found or len(found) != len(self.tasks()):
            raise SpecError(f"{VARIABLE}: tasks: expected objects with a task id each")
        return found

    def iterations(self) -> dict[str, int]:
        """The last iteration that is meant, of each task that has one in the errand."""
        found = self.fields.get("tasks")
        items = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
        return {str(item.get("task")): item["iteration"] for item in items if isinstance(item.get("iteration"), int)}

    def grace_s(self) -> float:
        """The grace period of a collection in seconds.

        Raises:
            SpecError: it is no duration.
        """
        from evergraft.api.fields import seconds

        text = self.fields.get("gracePeriod")
        found = seconds(text) if isinstance(text, str) else 0.0
        if found <= 0:
            raise SpecError(f"{VARIABLE}: gracePeriod: expected a duration such as 24h")
        return found


def read_errand(text: str | None, part: str | None = None) -> Errand:
    """Read the variables: the errand, and which part of it is meant, the first by default.

    Raises:
        SpecError: it is not set, no JSON, or a field is wrong.
        FormatError: written by a newer operator.
    """
    if not text:
        raise SpecError(f"{VARIABLE} is not set; it says what to do, and the operator sets it")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{VARIABLE}: no JSON: {error}") from None
    fields = check_format(value, what=VARIABLE)
    duty = fields.get("duty")
    if duty not in DUTIES:
        raise SpecError(f"{VARIABLE}: duty: {str(duty)[:40]!r} is unknown; one of {', '.join(DUTIES)}")
    if not (part or "0").isdecimal() or len(part or "") > 9:
        raise SpecError(f"{PART}: expected a number, got {str(part)[:40]!r}")
    try:
        store = Access.from_json(fields.get("store"), "store")
        return Errand(duty=duty, store=store, fields=fields, part=int(part or "0"))
    except SpecError as error:
        raise SpecError(f"{VARIABLE}: {error}") from None


def _task(value: Any) -> str | None:
    task = value.get("task") if isinstance(value, dict) else None
    return task if isinstance(task, str) and 0 < len(task) <= 512 else None
