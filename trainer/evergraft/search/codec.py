"""Plans as JSON: what search folders record of a generation or an end, and what replay compares.

Called by the engine, by replay and by ``plan --json``.
"""

from __future__ import annotations

from typing import Any

from evergraft.graph.route import reading
from evergraft.search.values import CandidatePlan, DeltaPlan, Finish, Generation, LayerPlan, Schedule, SlotRef


def to_json(plan: Generation | Finish) -> dict[str, Any]:
    """The JSON form of what a strategy answered."""
    if isinstance(plan, Finish):
        winner = _ref_json(plan.winner) if plan.winner else None
        return {"type": "finish", "outcome": plan.outcome, "winner": winner, "reason": plan.reason}
    return {
        "type": "generation",
        "candidates": [candidate_json(candidate) for candidate in plan.candidates],
        "sampled": dict(plan.sampled),
    }


def from_json(value: Any) -> Generation | Finish:
    """Read the JSON form.

    Raises:
        IntegrityError: a field is missing or wrong.
    """
    with reading("plan"):
        if value["type"] == "finish":
            winner = _ref(value["winner"]) if value["winner"] is not None else None
            return Finish(
                outcome=_one_of(value["outcome"], "commit", "keep", "none"),
                winner=winner,
                reason=str(value["reason"]),
            )
        return Generation(
            candidates=tuple(_candidate(item) for item in value["candidates"]),
            sampled={str(route): int(count) for route, count in value["sampled"].items()},
        )


def candidate_json(plan: CandidatePlan) -> dict[str, Any]:
    """The JSON form of one slot's plan."""
    return {
        "kind": plan.kind,
        "start": plan.start if isinstance(plan.start, str) else _ref_json(plan.start),
        "state": plan.state,
        "layers": [_layer_json(layer) for layer in plan.layers],
        "hyperparameters": dict(plan.hyperparameters),
        "samples": plan.samples,
        "validations": plan.validations,
        "schedule": {"span": plan.schedule.span, "offset": plan.schedule.offset, "kind": plan.schedule.kind},
        "optimizer": plan.optimizer,
        "threshold": plan.threshold,
        "mutations": list(plan.mutations),
        "reason": plan.reason,
    }


def _layer_json(plan: LayerPlan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "action": plan.action,
        "kind": plan.kind,
        "config": None if plan.config is None else dict(plan.config),
        "deltas": [{"kind": delta.kind, "config": dict(delta.config)} for delta in plan.deltas],
        "source": plan.source,
        **({} if plan.init == "random" else {"init": plan.init}),
    }


def _ref_json(ref: SlotRef) -> dict[str, int]:
    return {"generation": ref.generation, "slot": ref.slot}


def _candidate(value: Any) -> CandidatePlan:
    start = value["start"]
    schedule = value["schedule"]
    return CandidatePlan(
        kind=_one_of(value["kind"], "probe", "train"),
        start=start if isinstance(start, str) else _ref(start),
        layers=tuple(_layer(item) for item in value["layers"]),
        hyperparameters=dict(value["hyperparameters"]),
        samples=int(value["samples"]),
        validations=int(value["validations"]),
        schedule=Schedule(span=int(schedule["span"]), offset=int(schedule["offset"]), kind=str(schedule["kind"])),
        state=_one_of(value["state"], "best", "last"),
        optimizer=_one_of(value["optimizer"], "carry", "fresh"),
        threshold=None if value["threshold"] is None else float(value["threshold"]),
        mutations=tuple(map(str, value["mutations"])),
        reason=str(value["reason"]),
    )


def _layer(value: Any) -> LayerPlan:
    return LayerPlan(
        name=str(value["name"]),
        action=_one_of(value["action"], "share", "clone", "new", "drop"),
        kind=value["kind"],
        config=None if value["config"] is None else dict(value["config"]),
        deltas=tuple(DeltaPlan(kind=str(d["kind"]), config=dict(d["config"])) for d in value["deltas"]),
        source=value["source"],
        init=_one_of(value.get("init", "random"), "random", "lda"),
    )


def _ref(value: Any) -> SlotRef:
    return SlotRef(generation=int(value["generation"]), slot=int(value["slot"]))


def _one_of(value: Any, *allowed: str) -> Any:
    if value not in allowed:
        raise ValueError(f"expected one of {', '.join(allowed)}, got {value!r}")
    return value
