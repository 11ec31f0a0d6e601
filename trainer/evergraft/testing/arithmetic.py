"""A trainer that does arithmetic instead of torch: real modules and bundles, in microseconds.

Every module it makes is a pure function of the search's seed, the candidate and the layer it comes from, and so is
the quality it reports; whoever runs a search with it, wherever it was cut off, ends with the same ids. Called by
tests of the engine and the store, ours and anyone's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evergraft import canonical
from evergraft.api.resolved import ResolvedDataset, ResolvedSearch, ResolvedTask
from evergraft.errors import SupersededError
from evergraft.graph.bundle import decode_bundle, encode_bundle
from evergraft.graph.module import Module, Tensor
from evergraft.graph.route import Delta, Layer, Route, RouteSummary
from evergraft.names import ROOT_TASK, RunKey
from evergraft.search.engine import Answers, Request
from evergraft.search.folder import Folder
from evergraft.search.groups import Claimed
from evergraft.search.ledger import Looked
from evergraft.search.values import CandidatePlan, SlotRef, SlotResult, TaskFacts
from evergraft.store import blobs, log
from evergraft.store.seam import Store

LABELS = ("no", "yes")
MANIFEST: Mapping[str, Any] = {
    "labels": list(LABELS),
    "counts": {"train": {"no": 50, "yes": 50}, "validation": {"no": 10, "yes": 10}},
}
"""What ``data.json`` holds of the made-up data."""

ROOT_LAYERS = (("patch_embed", "patch_embed"), ("block.00", "encoder_block"), ("norm", "norm"))


def make_module(kind: str, *words: object) -> Module:
    """A module of 8 float32 numbers made from the words."""
    data = hashlib.sha256(repr(words).encode()).digest()
    # Clearing each exponent's top bit keeps the numbers finite.
    data = bytes(byte & 0x3F if place % 4 == 3 else byte for place, byte in enumerate(data))
    return Module(kind=kind, config={"words": [str(word) for word in words]}, tensors={"w": Tensor("F32", (8,), data)})


def init_graph(store: Store) -> None:
    """Start a graph with a root of three made-up layers."""
    modules = [(name, make_module(kind, "root", name)) for name, kind in ROOT_LAYERS]
    layers = tuple(Layer(name=name, kind=module.kind, module=module.id, parameters=8) for name, module in modules)
    route = Route(
        task=ROOT_TASK,
        search="",
        parent=None,
        generation=0,
        slot=0,
        layers=layers,
        labels=(),
        preprocessing={},
        parameters={"total": 24, "added": 24, "accounted": 24},
        flops=48,
    )
    summary = RouteSummary(
        id=canonical.sha256(route.encode()),
        task=ROOT_TASK,
        parent=None,
        parent_task=None,
        layers=layers,
        parameters=24,
        added=24,
        flops=48,
        quality=None,
        samples=0,
        lineage_samples=0,
        depth=0,
        hyperparameters={},
    )
    sizes = blobs.put_modules(store, [module for _, module in modules])
    blobs.put_route(store, route)
    log.init_graph(store, root=summary, modules=sizes, reference=(24, 48), author="test kit")


def make_request(
    task: str, *, iteration: int = 1, visibility: str = "Public", timeout_s: float | None = None, **search: Any
) -> Request:
    """A run of a task; `timeout_s` limits its search, `search` sets fields of ResolvedSearch."""
    settings: dict[str, Any] = {"strategy": "finetune", "samples": 64, "batch_size": 8, "validations": 2, **search}
    spec = ResolvedTask(
        task=task,
        iteration=iteration,
        visibility=visibility,
        metric="Accuracy",
        dataset=ResolvedDataset(url="memory://data"),
        search=ResolvedSearch(**settings),
        search_timeout_s=timeout_s,
        after=(),
    )
    digest = canonical.digest(spec.to_json())
    return Request(spec=spec, run=RunKey(iteration, 1), task_hash=digest, spec_hash=digest)


@dataclass
class ArithmeticTrainer:
    """Trains by hashing. `trained` lists the slots it was asked for; `failing` slots end as failed, `diverging` too.

    `width` is how many candidates it takes side by side.
    """

    folder: Folder
    spec: ResolvedTask
    failing: frozenset[SlotRef] = frozenset()
    diverging: frozenset[SlotRef] = frozenset()
    trained: list[SlotRef] = field(default_factory=list)
    width: int = 1

    def open(self, pinned: Mapping[str, Any] | None) -> tuple[TaskFacts, Mapping[str, Any]]:
        """Made-up data, always the same."""
        return TaskFacts(labels=LABELS, train_samples=100, validation_samples=20), pinned or MANIFEST

    def rehearse(self, plans: Sequence[CandidatePlan]) -> None:
        """Nothing: whatever is planned can be built."""

    def company(self, first: Claimed, others: Sequence[Claimed]) -> Sequence[SlotRef]:  # noqa: ARG002 - the seam's
        """Whichever come first, up to the width."""
        return [other.ref for other in others][: self.width - 1]

    def train(self, group: Sequence[Claimed]) -> Iterator[SlotResult]:
        """Make each candidate's modules and write them; nothing of one whose claim was taken over."""
        for claimed in group:
            try:
                if claimed.duty is not None:
                    claimed.duty.tell(0)
                result = self._train(claimed.ref, claimed.plan, claim=claimed.duty.claim if claimed.duty else 1)
            except SupersededError:
                continue
            yield result

    def _train(self, ref: SlotRef, plan: CandidatePlan, *, claim: int) -> SlotResult:
        self.trained.append(ref)
        parent, carried = self._parent(plan)
        layers: list[Layer] = []
        made: dict[str, Module] = dict(carried)
        for item in plan.layers:
            layer = self._layer(ref, item.name, item.kind, parent.get(item.name), made, item.action)
            if layer is not None:
                deltas = [self._delta(ref, item.name, delta.kind, made) for delta in item.deltas]
                layers.append(Layer(layer.name, layer.kind, layer.module, layer.parameters, (*layer.deltas, *deltas)))
        data = encode_bundle(made.values())
        name = f"weights-{claim}-a.safetensors"
        self.folder.put_object(ref, name, data)
        saved = {"object": name, "sha256": canonical.sha256(data)}
        quality = int(canonical.digest([self.spec.task, self.spec.search.seed, ref.generation, ref.slot])[:6], 16)
        usable = ref not in self.failing and ref not in self.diverging
        return SlotResult(
            generation=ref.generation,
            slot=ref.slot,
            claim=str(claim),
            layers=tuple(layers),
            quality=quality / 0xFFFFFF if usable else 0.0,
            metrics={"qualities": [0.5, quality / 0xFFFFFF]},
            parameters=sum(size for layer in layers for _, size in layer.modules()),
            flops=16 * len(layers),
            samples=plan.samples if plan.kind == "train" else 0,
            forward_samples=40 if plan.kind == "train" else plan.samples,
            seconds=1.0,
            profile={"digest": "arithmetic"},
            weights={"best": saved, "last": saved},
            diverged=8 if ref in self.diverging else None,
            failed="asked to fail" if ref in self.failing else None,
        )

    def conclude(self, ref: SlotRef, result: SlotResult) -> Answers:  # noqa: ARG002 - the seam's signature
        """Answers made from the layers."""
        golden = {"data": canonical.digest([layer.to_json() for layer in result.layers])}
        return Answers(labels=LABELS, golden=golden, test={"quality": result.quality})

    def look(self, plan: CandidatePlan, pulse: Callable[[], None]) -> Looked | None:  # noqa: ARG002 - the seam's
        """Nothing: there is no image to look at."""
        return None

    def _parent(self, plan: CandidatePlan) -> tuple[dict[str, Layer], dict[str, Module]]:
        if isinstance(plan.start, SlotRef):
            result = self.folder.result(plan.start)
            assert result is not None
            best = result.weights["best"]
            found = decode_bundle(self.folder.object(plan.start, best["object"]), sha256=best["sha256"])
            return {layer.name: layer for layer in result.layers}, found
        route = blobs.get_route(self.folder.store, plan.start)
        return {layer.name: layer for layer in route.layers}, {}

    def _layer(
        self,
        ref: SlotRef,
        name: str,
        kind: str | None,
        parent: Layer | None,
        made: dict[str, Module],
        action: str,
    ) -> Layer | None:
        if action == "drop":
            return None
        if action == "share":
            assert parent is not None
            return parent
        source = parent.module if parent is not None and action == "clone" else "new"
        made_kind = kind or (parent.kind if parent is not None else "head")
        words = (self.spec.task, self.spec.iteration, self.spec.search.seed, ref.generation, ref.slot, name, source)
        module = make_module(made_kind, *words)
        made[module.id] = module
        return Layer(name=name, kind=made_kind, module=module.id, parameters=8)

    def _delta(self, ref: SlotRef, name: str, kind: str, made: dict[str, Module]) -> Delta:
        module = make_module(kind, self.spec.task, self.spec.search.seed, ref.generation, ref.slot, name, kind)
        made[module.id] = module
        return Delta(kind=kind, module=module.id, parameters=8)
