"""The document that closes a search: the whole route of the winner, ready for the commit to copy.

It is written create-only before the commit, so that whoever commits, commits the same. Called by the engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evergraft import canonical, names
from evergraft.errors import IntegrityError
from evergraft.graph.bundle import decode_bundle, encode_bundle
from evergraft.graph.route import Route, RouteSummary, content_id, count, reading
from evergraft.graph.transfer import Transfer
from evergraft.search import codec, ledger
from evergraft.search.folder import Folder
from evergraft.search.score import accounted_parameters, score
from evergraft.search.starts import candidates, remark
from evergraft.search.values import CandidatePlan, Finish, SlotRef, View
from evergraft.store import blobs

if TYPE_CHECKING:
    from evergraft.search.engine import Answers


ENDS = ("committed", "kept", "none", "failed")
"""What a search may come to."""


def without_route(view: View, *, outcome: str, reason: str, finish: Finish | None = None) -> dict[str, Any]:
    """The closing document of a search that commits no route; `finish` is None if candidates crashed."""
    return {
        "format": canonical.FORMAT,
        "outcome": outcome,
        "reason": reason,
        "finish": codec.to_json(finish) if finish else None,
        "route": None,
        "sampled": sampled(view),
        "results": digests(view),
    }


def with_route(
    view: View,
    *,
    winner: SlotRef,
    search: str,
    finish: Finish,
    answers: Answers,
    known: Transfer,
    looked: ledger.Looked | None,
) -> dict[str, Any]:
    """The closing document that commits `winner`; `known` and `looked` make its transfer ledger.

    Its summary says what quality was measured on, as far as the view does.
    """
    plan = view.history[winner.generation].plan.candidates[winner.slot]
    result = view.result(winner)
    assert result is not None
    parent = parent_of(view, plan)
    new = sorted({module for layer in result.layers for module, _ in layer.modules()} - set(parent.module_ids()))
    with reading(names.slot_key(search, winner.generation, winner.slot, "result.json")):
        weights = dict(result.weights["best"])
    sizes = {module: size for layer in result.layers for module, size in layer.modules()}
    samples = trained_samples(view, winner)
    own_score = score(view, result.layers, quality=result.quality, flops=result.flops)
    full, forward_samples = ledger.completed(view, known, looked)
    told = {} if full.is_empty else ledger.to_json(full, quality=result.quality, forward_samples=forward_samples)
    route = Route(
        task=view.spec.task,
        search=search,
        parent=parent.id,
        generation=winner.generation,
        slot=winner.slot,
        layers=result.layers,
        labels=answers.labels,
        preprocessing=result.preprocessing,
        hyperparameters=plan.hyperparameters,
        mutations=plan.mutations,
        metrics={
            "quality": result.quality,
            "score": own_score,
            "testQuality": answers.test["quality"] if answers.test else None,
            "logLoss": result.metrics.get("logLoss"),
            "confusion": result.metrics.get("confusion"),
            "qualities": result.metrics.get("qualities"),
            "test": dict(answers.test) if answers.test else None,
        },
        parameters={
            "total": result.parameters,
            "added": sum(sizes[module] for module in new),
            "accounted": accounted_parameters(view, result.layers),
        },
        flops=result.flops,
        samples_seen=samples,
        seconds=result.seconds,
        profile=result.profile,
        golden=answers.golden,
        transfer={
            "parentTask": parent.task,
            "reason": f"{plan.reason}{remark(view)}" if plan.reason else finish.reason,
            "considered": considered(view),
            **probed(view),
            **({"ledger": told} if told else {}),
            **({"stoppedEarly": True} if stopped_early(view) else {}),
        },
    )
    return {
        "format": canonical.FORMAT,
        "outcome": "committed",
        "reason": finish.reason,
        "finish": codec.to_json(finish),
        "route": route.to_json(),
        "summary": summarise(
            route,
            parent=parent,
            visibility=view.spec.visibility,
            transfer=None if full.is_empty else full,
            basis=view.basis,
        ).to_json(),
        "modules": new,
        "weights": {
            "generation": winner.generation,
            "slot": winner.slot,
            "carry": plan.optimizer == "carry",
            **weights,
        },
        "sampled": sampled(view),
        "results": digests(view),
    }


def outcome_of(final: Mapping[str, Any]) -> str:
    """How a closing document says that its search ended. Raises KeyError or ValueError where it does not say."""
    outcome = final["outcome"]
    if outcome not in ENDS:
        raise ValueError(f"expected one of {', '.join(ENDS)}, got {outcome!r:.60}")
    return str(outcome)


def considered(view: View, *, most: int = 8) -> list[dict[str, Any]]:
    """The routes that could have been the parent, with their figures; the most training behind them first."""
    ranked = sorted(view.routes, key=lambda route: (-route.summary.lineage_samples, -route.version))
    return [
        {
            "task": route.summary.task,
            "lineageSamples": route.summary.lineage_samples,
            "quality": route.summary.quality,
            "sampled": route.sampled,
        }
        for route in ranked[:most]
    ]


def stopped_early(view: View) -> bool:
    """Whether time ended the search: slots were given up, or a candidate took what it had by then as its result."""
    cut = any(
        result.usable and result.samples < plan.samples for _, plan, result in candidates(view) if plan.kind == "train"
    )
    return view.stop is not None or cut


def probed(view: View) -> dict[str, Any]:
    """What heads on frozen routes reached, for a search that looked: validation quality by the route's task."""
    probes = [
        (record.plan.candidates[result.slot], result)
        for record in view.history
        for result in record.results
        if record.plan.candidates[result.slot].kind == "probe" and result.usable
    ]
    found = [
        {"task": parent_of(view, plan).task, "quality": result.quality, "logLoss": result.metrics.get("logLoss")}
        for plan, result in probes
    ]
    return {"probes": found} if found else {}


def summarise(
    route: Route, *, parent: RouteSummary, visibility: str, transfer: Transfer | None, basis: str | None
) -> RouteSummary:
    """What planning needs of `route`, a child of `parent`."""
    return RouteSummary(
        id=canonical.sha256(route.encode()),
        task=route.task,
        parent=parent.id,
        parent_task=parent.task,
        layers=route.layers,
        parameters=int(route.parameters["total"]),
        added=int(route.parameters["added"]),
        flops=route.flops,
        quality=float(route.metrics["quality"]),
        samples=route.samples_seen,
        lineage_samples=parent.lineage_samples + route.samples_seen,
        depth=parent.depth + 1,
        hyperparameters=route.hyperparameters,
        visibility=visibility,
        score=float(route.metrics["score"]),
        transfer=transfer,
        basis=basis,
    )


def parent_of(view: View, plan: CandidatePlan) -> RouteSummary:
    """The committed route that a candidate descends from, through earlier candidates of this search if need be."""
    while isinstance(plan.start, SlotRef):
        plan = view.history[plan.start.generation].plan.candidates[plan.start.slot]
    return next(route.summary for route in view.routes if route.summary.id == plan.start)


def trained_samples(view: View, ref: SlotRef) -> int:
    """Samples trained by a candidate and by the earlier candidates it descends from."""
    plan = view.history[ref.generation].plan.candidates[ref.slot]
    result = view.result(ref)
    samples = result.samples if result is not None else 0
    return samples + (trained_samples(view, plan.start) if isinstance(plan.start, SlotRef) else 0)


def sampled(view: View) -> dict[str, int]:
    """How often each route was drawn as a parent for this task, this search included."""
    counts = Counter({route.summary.id: route.sampled for route in view.routes if route.sampled})
    for record in view.history:
        counts.update(record.plan.sampled)
    return dict(sorted(counts.items()))


def digests(view: View) -> dict[str, str]:
    """The digest of each result that the search was decided on, by the place of its slot."""
    results = (result for record in view.history for result in record.results)
    return {names.slot_place(result.generation, result.slot): canonical.digest(result.to_json()) for result in results}


def upload(folder: Folder, final: Mapping[str, Any]) -> dict[str, int]:
    """Make the winner's new modules objects of the graph; returns the bytes of their files by id.

    Raises:
        IntegrityError: the candidate's weights are not those that the closing document names, or it is damaged.
    """
    with reading(names.final_key(folder.search)):
        weights = final["weights"]
        ref = SlotRef(generation=count(weights["generation"]), slot=count(weights["slot"]))
        name, sha256, carry = str(weights["object"]), str(weights["sha256"]), bool(weights["carry"])
        modules, route = [content_id(module) for module in final["modules"]], content_id(final["summary"]["id"])
    bundle = decode_bundle(folder.object(ref, name), sha256=sha256, where=f"searches/{folder.search}")
    missing = [module for module in modules if module not in bundle]
    if missing:
        raise IntegrityError(f"searches/{folder.search}: the winner's weights lack module {missing[0][:12]}…")
    sizes = blobs.put_modules(folder.store, [bundle[module] for module in modules])
    if carry:
        state = encode_bundle([module for module in bundle.values() if module.kind == "optimizer"])
        blobs.put_optimizer(folder.store, route, state)
    return sizes
