"""What the operator has in its head between two reconciles: what Tasks ask of their graphs, and what was just heard.

All of it comes back by itself after a restart: Tasks ask again, workers are asked again, a Job that was refused is
refused again. Written by the controller and the listener, read by the observer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from evergraft_operator.observed import KubeEvent, Workload
from evergraft_operator.report import Heard, Totals
from evergraft_operator.stewards import Question, Removal


@dataclass(frozen=True)
class Ask:
    """What a Task asks of the graph `<namespace>/<name>`."""

    graph: str
    question: Question | None = None
    removal: Removal | None = None


@dataclass(frozen=True)
class Refused:
    """That the API server would not have a Job of a Task or graph: why, when (monotonic seconds), of which spec.

    `invalid`: it will not have this Job later either.
    """

    message: str
    at: float
    generation: int
    invalid: bool = False


@dataclass(frozen=True)
class Waits:
    """What was read about a Task's wait, and when (monotonic seconds)."""

    at: float
    about: tuple[str, ...]
    events: tuple[KubeEvent, ...] = ()
    workload: Workload | None = None


@dataclass
class Notes:
    """All by the uid of the Task; `refused` by that of a ModuleGraph too."""

    asks: dict[str, Ask] = field(default_factory=dict)
    heard: dict[str, tuple[str, Heard]] = field(default_factory=dict)
    """With the uid of the Job whose worker was heard."""
    totals: dict[str, tuple[str, Totals]] = field(default_factory=dict)
    """With the graph they are of."""
    refused: dict[str, Refused] = field(default_factory=dict)
    waits: dict[str, Waits] = field(default_factory=dict)

    def forget(self, uid: str) -> None:
        """The Task or graph is gone."""
        for part in (self.asks, self.heard, self.totals, self.refused, self.waits):
            part.pop(uid, None)

    def ask(self, uid: str, ask: Ask) -> bool:
        """Note what a Task asks now; whether that is something else than before."""
        before = self.asks.get(uid)
        if ask.question is None and ask.removal is None:
            return self.asks.pop(uid, None) is not None
        self.asks[uid] = ask
        return ask != before

    def asked_of(self, graph: str) -> Iterator[Ask]:
        """All that is asked of a graph."""
        return (ask for _, ask in sorted(self.asks.items()) if ask.graph == graph)

    def totals_of(self, graph: str) -> tuple[Totals, ...]:
        """What workers said of a graph, each figure once."""
        return tuple({told for where, told in self.totals.values() if where == graph})
