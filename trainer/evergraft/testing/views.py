"""Small searches as values: routes, views and results made from a few words, and a plain loop that plays a search.

The loop stands in for engine and trainer: a function says what quality each candidate reaches. Called by the tests of
strategies, ours and anyone's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evergraft import canonical, names
from evergraft.api.resolved import ResolvedDataset, ResolvedSearch, ResolvedTask
from evergraft.graph.route import Delta, Layer, RouteSummary
from evergraft.search.validate import check_plan
from evergraft.search.values import (
    CandidatePlan,
    Finish,
    Generation,
    GenerationRecord,
    Reference,
    RouteView,
    SlotRef,
    SlotResult,
    Strategy,
    TaskFacts,
    View,
)

SIZES: Mapping[str, int] = {
    "patch_embed": 10,
    "position_embed": 5,
    "encoder_block": 100,
    "norm": 4,
    "head": 6,
    "lora": 8,
    "adapter": 9,
}
"""Parameters of a made-up module, by kind; 50 for any other."""

FLOPS = 1000

Quality = Callable[[SlotRef, CandidatePlan], float | None]
"""The quality a candidate reaches; None if its loss diverges."""


def made_id(*words: object) -> str:
    """A content id for made-up contents."""
    return canonical.digest([str(word) for word in words])


def made_layer(owner: str, name: str, kind: str) -> Layer:
    """A layer whose module belongs to `owner`."""
    return Layer(name=name, kind=kind, module=made_id(owner, name), parameters=SIZES.get(kind, 50))


def made_root(*, blocks: int = 2, position: bool = False) -> RouteSummary:
    """A ViT of so many blocks, without a head, trained on nothing."""
    kinds = [("patch", "patch_embed"), *([("position", "position_embed")] if position else [])]
    kinds += [*((f"block.{index:02d}", "encoder_block") for index in range(blocks)), ("norm", "norm")]
    return made_route(names.ROOT_TASK, layers=[made_layer("root", name, kind) for name, kind in kinds], quality=None)


def made_child(task: str, parent: RouteSummary, *, clones: Iterable[str], **fields: Any) -> RouteSummary:
    """A committed route of `task` that clones the named layers of `parent`, shares the others, and has its own head."""
    cloned = set(clones)
    layers = [
        made_layer(task, layer.name, layer.kind) if layer.name in cloned else layer
        for layer in parent.layers
        if layer.kind != "head"
    ]
    fields = {"lineage_samples": parent.lineage_samples + 100, "depth": parent.depth + 1, **fields}
    return made_route(task, layers=[*layers, made_layer(task, "head", "head")], parent=parent, **fields)


def made_route(
    task: str,
    *,
    layers: Sequence[Layer],
    parent: RouteSummary | None = None,
    quality: float | None = 0.5,
    **fields: Any,
) -> RouteSummary:
    """A committed route with these layers; `fields` override anything else of the summary."""
    summary = RouteSummary(
        id=made_id("route", task, *(layer.module for layer in layers)),
        task=task,
        parent=parent.id if parent else None,
        parent_task=parent.task if parent else None,
        layers=tuple(layers),
        parameters=sum(size for layer in layers for _, size in layer.modules()),
        added=0,
        flops=FLOPS,
        quality=quality,
        samples=100 if parent else 0,
        lineage_samples=0,
        depth=0,
        hyperparameters={},
    )
    return replace(summary, **fields)


def made_view(
    routes: Iterable[RouteSummary], *, task: str = "t/new", sampled: Mapping[str, int] | None = None, **search: Any
) -> View:
    """The view of a search of `task` over `routes`, as the engine would build it; `search` are fields of the spec."""
    ordered = sorted(routes, key=lambda route: route.task)
    counts = sampled or {}
    return View(
        spec=ResolvedTask(
            task=task,
            iteration=1,
            visibility="Public",
            metric="Accuracy",
            dataset=ResolvedDataset(url="/data"),
            search=ResolvedSearch(**{"strategy": "mu2net", **search}),
        ),
        facts=TaskFacts(labels=("0", "1"), train_samples=1000, validation_samples=100),
        base=len(ordered),
        reference=Reference(parameters=200, flops=FLOPS),
        routes=tuple(
            RouteView(summary=route, sampled=counts.get(route.id, 0), version=version)
            for version, route in enumerate(ordered)
            if route.task == task or route.visibility == "Public"
        ),
        users=Counter(module for route in ordered if route.task != task for module in set(route.module_ids())),
    )


def made_result(view: View, ref: SlotRef, plan: CandidatePlan, quality: float | None) -> SlotResult:
    """What training `plan` might give: the layers it says, new modules where it trains, and the quality told."""
    start = _start_layers(view, plan.start)
    layers = []
    for item in (item for item in plan.layers if item.action != "drop"):
        owner = f"{view.spec.task} {ref.generation}-{ref.slot}"
        old = start.get(item.name)
        if item.action == "share" and old is not None:
            new = [Delta(d.kind, made_id(owner, item.name, d.kind), SIZES.get(d.kind, 50)) for d in item.deltas]
            layers.append(replace(old, deltas=(*old.deltas, *new)))
        else:
            layers.append(made_layer(owner, item.name, old.kind if old else item.kind or "head"))
    return SlotResult(
        generation=ref.generation,
        slot=ref.slot,
        claim="1",
        layers=tuple(layers),
        quality=quality or 0.0,
        metrics={},
        parameters=sum(size for layer in layers for _, size in layer.modules()),
        flops=FLOPS,
        samples=plan.samples if plan.kind == "train" else 0,
        forward_samples=plan.samples if plan.kind == "probe" else 0,
        seconds=1.0,
        profile={},
        diverged=0 if quality is None else None,
    )


def advance(view: View, plan: Generation, quality: Quality) -> View:
    """The view after every slot of `plan` has its result."""
    generation = len(view.history)
    refs = [SlotRef(generation=generation, slot=slot) for slot in range(len(plan.candidates))]
    results = [
        made_result(view, ref, candidate, quality(ref, candidate))
        for ref, candidate in zip(refs, plan.candidates, strict=True)
    ]
    return replace(view, history=(*view.history, GenerationRecord(plan=plan, results=tuple(results))))


def play(view: View, strategy: Strategy, quality: Quality) -> tuple[View, Finish]:
    """Play a whole search, checking every plan; returns the last view and the end."""
    while True:
        plan = strategy.next(view)
        check_plan(view, plan)
        if isinstance(plan, Finish):
            return view, plan
        view = advance(view, plan, quality)


def _start_layers(view: View, start: str | SlotRef) -> dict[str, Layer]:
    if isinstance(start, SlotRef):
        result = view.result(start)
        layers = result.layers if result else ()
    else:
        found = view.route(start)
        layers = found.summary.layers if found else ()
    return {layer.name: layer for layer in layers}
