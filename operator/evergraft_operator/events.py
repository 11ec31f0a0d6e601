"""Kubernetes Events as values. The recorder writes each key at most once in ten minutes for an object.

Made by ``reconcile``, ``deletion`` and ``graphs`` when something changes, never for a state that lasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evergraft_operator import reading

MAX_MESSAGE = 1000

Reason = Literal[
    "SearchStarted",
    "WorkersReady",
    "WorkerLost",
    "Preempted",
    "Committed",
    "AlreadyCommitted",
    "SearchFailed",
    "Stalled",
    "Suspended",
    "Resumed",
    "RouteRemoved",
    "RouteNotRemoved",
    "PolicyViolation",
]


@dataclass(frozen=True)
class Event:
    """Something that happened to a Task or ModuleGraph: the reason, one sentence, and whether it is a warning."""

    reason: Reason
    message: str
    warning: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", reading.text(self.message, MAX_MESSAGE))

    @property
    def type(self) -> str:
        """Normal or Warning, as Kubernetes writes it."""
        return "Warning" if self.warning else "Normal"

    def key(self, uid: str) -> tuple[str, str, str]:
        """What the recorder tells repeats by: object, reason and message."""
        return uid, self.reason, self.message
