"""What a reconcile decides: writes to Kubernetes, the whole status, events, what to ask a steward, when to look again.

Values only. Applying one is a dumb loop, in this order: scale, delete, create, finalizer, events, status. Made by
``reconcile`` and ``graphs``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from evergraft_operator.events import Event
from evergraft_operator.observed import Job
from evergraft_operator.stewards import Question, Removal

Fields = dict[str, Any]


@dataclass(frozen=True)
class Deletion:
    """A Job to delete; `uid` is the precondition.

    In the `foreground` it stays until its pods are gone, so that it can be seen that they may still be at work. Else
    it is gone at once, its name is free, and its pods follow: one on a dead node, which never does, holds nothing up.
    """

    namespace: str
    name: str
    uid: str
    foreground: bool = True

    @classmethod
    def of(cls, job: Job, *, foreground: bool = True) -> Deletion:
        """The deletion of `job`."""
        return cls(job.namespace, job.name, job.uid, foreground)


@dataclass(frozen=True)
class Scaling:
    """A Job's new parallelism: the only thing of a Job that is ever patched."""

    namespace: str
    name: str
    parallelism: int


@dataclass(frozen=True)
class Plan:
    """The outcome of a reconcile. `status` is None where it stays as it is.

    `finalizer` says to add ours or to take it away, leaving everybody else's. `question` and `removal` are asked of
    the graph's stewards for as long as they stand in the plan. `requeue_s` is when to look again, None for when
    something changes. For measuring only: `ended` is the outcome of a run that was worked on and is now over,
    `waited_s` how long a run's first ready worker took since its Job was made, `accelerator` what workers compute on.
    """

    create: tuple[Fields, ...] = ()
    delete: tuple[Deletion, ...] = ()
    scale: tuple[Scaling, ...] = ()
    finalizer: Literal["add", "remove"] | None = None
    status: Fields | None = None
    events: tuple[Event, ...] = ()
    question: Question | None = None
    removal: Removal | None = None
    requeue_s: float | None = None
    ended: str | None = None
    waited_s: float | None = None
    accelerator: str = ""

    @property
    def writes(self) -> bool:
        """Whether applying it changes anything."""
        return bool(self.create or self.delete or self.scale or self.events) or (
            self.status is not None or self.finalizer is not None
        )
