"""What strategies see and what they answer: frozen values with a JSON form.

A strategy is a pure function ``next(view) -> Generation | Finish``. All slots of a generation have results before
it is asked again, so a search can be replayed and resumed anywhere. Called by strategies, the engine and the trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from evergraft import canonical
from evergraft.api.resolved import ResolvedTask
from evergraft.graph.route import Layer, RouteSummary, count, layers_from_json, reading, real
from evergraft.search.rng import Rng

LayerAction = Literal["share", "clone", "new", "drop"]
HeadStart = Literal["random", "lda"]


@dataclass(frozen=True)
class SlotRef:
    """Names a candidate of this search."""

    generation: int
    slot: int


@dataclass(frozen=True)
class DeltaPlan:
    """A new trained delta on a layer: kind (`lora`, `norm`, `bias`, `adapter`) and its config, e.g. rank, targets."""

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerPlan:
    """What becomes of one layer of the parent.

    `share`: frozen, as it is, plus `deltas` trained on top. `clone`: a trained copy of the merged weights. `new`:
    freshly initialised and trained; `kind` and `config` say what (None for a head: the trainer derives it from the
    route and the labels). `drop`: left out. `source` is for clones only: the id of the committed route of this task
    whose layer of the same name is copied instead of the start's, as for the head of an ancestor; None for the start.
    `init` is for a new head in a probe only: `lda` computes it in closed form from the features below it.
    """

    name: str
    action: LayerAction
    kind: str | None = None
    config: Mapping[str, Any] | None = None
    deltas: tuple[DeltaPlan, ...] = ()
    source: str | None = None
    init: HeadStart = "random"


@dataclass(frozen=True)
class Schedule:
    """Where a candidate stands in its learning-rate schedule, in samples: `offset` of `span`.

    `kind` is cosine (warm-up, then cosine to 0), constant (half the rate) or restarts.
    """

    span: int
    offset: int = 0
    kind: str = "cosine"


@dataclass(frozen=True)
class CandidatePlan:
    """One slot of a generation: where to start, what each layer becomes, how to train.

    `start` is the id of a committed route, or an earlier candidate whose `state` (best or last) is taken.
    `samples` are trained (`train`) or only run forward (`probe`: training images that a closed form is fitted to), in
    whole batches; `validations` divide them evenly, to
    the whole batch. `optimizer` carry takes the optimiser
    state stored with cloned modules along, fresh starts anew. `threshold` is the score under which the trained
    candidate is discarded (its same-task parent's), None for none. `mutations` says in words for people what changed.
    """

    kind: Literal["probe", "train"]
    start: str | SlotRef
    layers: tuple[LayerPlan, ...]
    hyperparameters: Mapping[str, Any]
    samples: int
    validations: int
    schedule: Schedule
    state: Literal["best", "last"] = "best"
    optimizer: Literal["carry", "fresh"] = "fresh"
    threshold: float | None = None
    mutations: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Generation:
    """Candidates planned together, before any of their results is known.

    `sampled` counts how often this generation alone drew each committed route as a parent, by route id.
    """

    candidates: tuple[CandidatePlan, ...]
    sampled: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Finish:
    """The end of a search: commit `winner`, or keep the present route, or none. `reason` is one sentence."""

    outcome: Literal["commit", "keep", "none"]
    winner: SlotRef | None = None
    reason: str = ""


@dataclass(frozen=True)
class SlotResult:
    """What came of one slot; written once, the first stands.

    `layers` are those of the best state, by content id. `quality` is its validation metric in 0…1; `metrics` has
    more (logLoss, confusion, and `qualities`, one per validation). `samples` were trained, `forward_samples` only
    evaluated. `diverged` is the sample at which the loss stopped being finite; `failed` a reason.
    `weights` names the slot's objects that hold the best and the last state, with their SHA-256.
    """

    generation: int
    slot: int
    claim: str
    layers: tuple[Layer, ...]
    quality: float
    metrics: Mapping[str, Any]
    parameters: int
    flops: int
    samples: int
    forward_samples: int
    seconds: float
    profile: Mapping[str, Any]
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    diverged: int | None = None
    failed: str | None = None

    @classmethod
    def crashed(cls, ref: SlotRef, *, claim: int) -> SlotResult:
        """The result of a slot whose workers died again and again without getting on."""
        return cls(
            generation=ref.generation,
            slot=ref.slot,
            claim=str(claim),
            layers=(),
            quality=0.0,
            metrics={},
            parameters=0,
            flops=0,
            samples=0,
            forward_samples=0,
            seconds=0.0,
            profile={},
            failed=f"the workers of candidate {ref.generation}-{ref.slot} died {claim - 1} times",
        )

    @property
    def usable(self) -> bool:
        """Whether the candidate may win or be continued."""
        return self.diverged is None and self.failed is None

    def to_json(self) -> dict[str, Any]:
        """The document as stored in ``result.json``."""
        return {
            "format": canonical.FORMAT,
            "generation": self.generation,
            "slot": self.slot,
            "claim": self.claim,
            "layers": [layer.to_json() for layer in self.layers],
            "quality": self.quality,
            "metrics": dict(self.metrics),
            "parameters": self.parameters,
            "flops": self.flops,
            "samples": self.samples,
            "forwardSamples": self.forward_samples,
            "seconds": self.seconds,
            "profile": dict(self.profile),
            "preprocessing": dict(self.preprocessing),
            "weights": dict(self.weights),
            "diverged": self.diverged,
            "failed": self.failed,
        }

    @classmethod
    def from_json(cls, value: Any) -> SlotResult:
        """Read a stored result.

        Raises:
            IntegrityError: a field is missing or wrong.
        """
        with reading("slot result"):
            return cls(
                generation=count(value["generation"]),
                slot=count(value["slot"]),
                claim=str(value["claim"]),
                layers=layers_from_json(value["layers"]),
                quality=share(value["quality"]),
                metrics=dict(value["metrics"]),
                parameters=count(value["parameters"]),
                flops=count(value["flops"]),
                samples=count(value["samples"]),
                forward_samples=count(value["forwardSamples"]),
                seconds=real(value["seconds"]),
                profile=dict(value["profile"]),
                preprocessing=dict(value["preprocessing"]),
                weights=dict(value["weights"]),
                diverged=None if value["diverged"] is None else count(value["diverged"]),
                failed=None if value["failed"] is None else str(value["failed"]),
            )


def share(value: Any) -> float:
    """The value as a float, once it is known to be a quality.

    Raises:
        ValueError, TypeError, OverflowError: it is none in 0…1.
    """
    quality = float(value)
    if not 0.0 <= quality <= 1.0:
        raise ValueError(f"expected a quality in 0…1, got {value!r:.60}")
    return quality


@dataclass(frozen=True)
class RouteView:
    """A public route at the base version, or this task's own.

    `sampled` is how often it was drawn for this task by earlier searches, `version` the graph's version that it
    landed in.
    """

    summary: RouteSummary
    sampled: int = 0
    version: int = 0


@dataclass(frozen=True)
class GenerationRecord:
    """A generation of this search with its results, in slot order."""

    plan: Generation
    results: tuple[SlotResult, ...]


@dataclass(frozen=True)
class Reference:
    """The root's parameters and FLOPs of one image forward: the units of the score's decays."""

    parameters: int
    flops: int


@dataclass(frozen=True)
class TaskFacts:
    """What the data says: labels, and samples per split."""

    labels: tuple[str, ...]
    train_samples: int
    validation_samples: int


@dataclass(frozen=True)
class View:
    """Everything a strategy may know.

    `routes` are the public routes (roots included) and this task's own, ordered by task id. `users` counts, for each
    module, the tasks other than this one that use it, the root's pseudo-task among them. `history` holds the
    generations so far; only the last may lack results, after a stop. `stop` is the reason of a recorded stop; then the
    strategy must finish. `basis` digests what this search measures quality on, None where that is not known.
    """

    spec: ResolvedTask
    facts: TaskFacts
    base: int
    reference: Reference
    routes: tuple[RouteView, ...]
    users: Mapping[str, int]
    history: tuple[GenerationRecord, ...] = ()
    stop: str | None = None
    basis: str | None = None

    @property
    def own(self) -> RouteView | None:
        """This task's committed route, None before its first."""
        return next((route for route in self.routes if route.summary.task == self.spec.task), None)

    @property
    def root(self) -> RouteView | None:
        """The route that the graph started from, None if it was taken away."""
        return next((route for route in self.routes if route.summary.is_root), None)

    def route(self, route_id: str) -> RouteView | None:
        """A route of this view by its id."""
        return next((route for route in self.routes if route.summary.id == route_id), None)

    def plan(self, ref: SlotRef) -> CandidatePlan | None:
        """What was planned for an earlier candidate, None if there was none."""
        if not 0 <= ref.generation < len(self.history):
            return None
        candidates = self.history[ref.generation].plan.candidates
        return candidates[ref.slot] if 0 <= ref.slot < len(candidates) else None

    def result(self, ref: SlotRef) -> SlotResult | None:
        """What came of an earlier candidate, None if it has no result."""
        if not 0 <= ref.generation < len(self.history):
            return None
        return next((result for result in self.history[ref.generation].results if result.slot == ref.slot), None)

    def rng(self, generation: int, slot: int, purpose: str) -> Rng:
        """A counter-based stream of random numbers, a pure function of seed, task, generation, slot and purpose."""
        return Rng(self.spec.search.seed, self.spec.task, generation, slot, purpose)


class Strategy(Protocol):
    """A named, versioned, pure planner."""

    @property
    def name(self) -> str:
        """As the spec names it."""
        ...

    @property
    def version(self) -> int:
        """Raised whenever the same view would be answered differently."""
        ...

    def next(self, view: View) -> Generation | Finish:
        """Plan the next generation, or finish."""
        ...
