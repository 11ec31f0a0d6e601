"""The transfer ledger of a route: its quality against a linear probe of the root, and against fine-tuning from it.

What the search has measured anyhow is taken from there, and what an earlier route of the task knew is kept. Only a
linear probe that nobody has seen is measured at the closing, once: forward only, within what is left of the forward
samples. Pure. Called by the engine, by ``closing`` and by replay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evergraft import canonical
from evergraft.graph.route import HEAD
from evergraft.graph.transfer import Measured, Transfer
from evergraft.search.budget import spent
from evergraft.search.ladders import starts_of
from evergraft.search.layers import body, with_head
from evergraft.search.starts import candidates, route_start
from evergraft.search.values import CandidatePlan, LayerPlan, Schedule, SlotRef, View

MOST_IMAGES = 8192
"""A probe is fitted to at most so many: some ten for each of 768 features, beyond which its covariance stands."""
PART = 8
"""It is fitted to at most this part of `search.samples`: a forward pass is a third of a step that trains all layers, so
that costs under a twentieth of such a search."""
LEAST_OF_A_CLASS = 2
"""Fewer images a class say nothing of the root, unless the data has no more."""


@dataclass(frozen=True)
class Looked:
    """What a probe at the closing found; `forward_samples` were run forward for it, validation included."""

    measured: Measured
    forward_samples: int


def basis_of(view: View, manifest: Mapping[str, Any]) -> str:
    """A digest of all that the figures of a ledger depend on; `manifest` is ``data.json``."""
    root = view.root
    data = {name: manifest.get(name) for name in ("labels", "counts", "objects", "samples")}
    told = {"root": root and root.summary.id, "metric": view.spec.metric, "imageSize": _image_size(view), "data": data}
    return canonical.digest(told)[:32]


def without_versions(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """``data.json`` with each object by name, size and digest alone: a copy in another bucket is the same data."""
    objects = [{name: item[name] for name in ("name", "size", "sha256")} for item in manifest.get("objects") or ()]
    return {**manifest, **({"objects": objects} if objects else {})}


def known_of(view: View, *, basis: str) -> Transfer:
    """What this search, and the task's present route, know of the task from its root alone."""
    kept = view.own.summary.transfer if view.own is not None else None
    if kept is None or kept.basis != basis:
        kept = Transfer(basis=basis)
    probe = next(_probes(view), kept.linear_probe)
    tuned = max([figure for figure in (kept.fine_tuned, *_fine_tuned(view)) if figure], key=_quality, default=None)
    return Transfer(basis=basis, linear_probe=probe, fine_tuned=tuned)


def probe_plan(view: View, known: Transfer) -> CandidatePlan | None:
    """The probe of the root that is to be measured at the closing.

    None where it is known, there is no root, time ended the search, or too little is left to say anything.
    """
    images = _images(view)
    if known.linear_probe is not None or view.root is None or view.stop is not None or not images:
        return None
    start = route_start(view, view.root.summary)
    layers = with_head(view, start, [LayerPlan(name=layer.name, action="share") for layer in body(start.layers)])
    size = _image_size(view)
    return CandidatePlan(
        kind="probe",
        start=start.ref,
        layers=(*layers[:-1], LayerPlan(name=layers[-1].name, action="new", init="lda")),
        hyperparameters={} if size is None else {"imageSize": size},
        samples=images,
        validations=1,
        schedule=Schedule(span=images),
        reason="a head in closed form on the root, for the ledger",
    )


def completed(view: View, known: Transfer, looked: Looked | None) -> tuple[Transfer, int]:
    """The ledger with what was looked up at the closing, and the samples run forward for that; 0 if nothing was."""
    if looked is None or probe_plan(view, known) is None:
        return known, 0
    full = Transfer(basis=known.basis, linear_probe=looked.measured, fine_tuned=known.fine_tuned)
    return full, looked.forward_samples


def to_json(transfer: Transfer, *, quality: float, forward_samples: int) -> dict[str, Any]:
    """The ledger in the document of a route of this quality: each figure, and by how much the route is `over` it."""
    told = transfer.to_json()
    for figure in (told.get("linearProbe"), told.get("fineTuned")):
        if figure is not None:
            figure["over"] = round(quality - figure["quality"], 6)
    return {**told, **({"forwardSamples": forward_samples} if forward_samples else {})}


def looked_in(ledger: Any) -> Looked | None:
    """What was looked up at the closing, from a route's document; None if nothing was.

    Raises:
        ValueError, KeyError, TypeError: of a damaged document.
    """
    if not ledger or "forwardSamples" not in ledger:
        return None
    return Looked(Measured.from_json(ledger["linearProbe"]), forward_samples=int(ledger["forwardSamples"]))


def _images(view: View) -> int:
    """Training images that a probe may be fitted to, in whole batches; 0 if they would say nothing."""
    search, facts = view.spec.search, view.facts
    batch = search.batch_size
    left = search.forward_samples - spent(view)[1]
    most = min(left, search.samples // PART, MOST_IMAGES) // batch * batch
    images = min(-(-facts.train_samples // batch) * batch, most)
    enough = min(facts.train_samples, LEAST_OF_A_CLASS * len(facts.labels))
    return images if images >= enough else 0


def _image_size(view: View) -> Any:
    return starts_of(view.spec.search.hyperparameters).get("imageSize", view.spec.search.image_size)


def _quality(figure: Measured) -> float:
    return figure.quality


def _probes(view: View) -> Iterator[Measured]:
    """Heads in closed form on the frozen root that the search itself looked at."""
    for _, plan, result in candidates(view):
        fitted = any(item.init == "lda" for item in plan.layers)
        if plan.kind == "probe" and result.usable and fitted and _is_root(view, plan.start) and _is_frozen(plan):
            yield Measured(quality=result.quality, samples=min(plan.samples, view.facts.train_samples))


def _fine_tuned(view: View) -> Iterator[Measured]:
    """Candidates of this search that are the root trained whole."""
    for ref, _, result in candidates(view):
        samples = _trained_whole(view, ref)
        if result.usable and samples:
            yield Measured(quality=result.quality, samples=samples)


def _trained_whole(view: View, ref: SlotRef) -> int:
    """Samples by which every layer of the root was trained in a candidate and those it continues; 0 if not every."""
    plan, result = view.plan(ref), view.result(ref)
    if plan is None or result is None or plan.kind != "train":
        return 0
    if any(item.action != "clone" for item in _body(plan)):
        return 0
    if _is_root(view, plan.start):
        return result.samples
    if not isinstance(plan.start, SlotRef):
        return 0
    before = view.plan(plan.start)
    if before is not None and before.kind == "probe":
        return result.samples if _is_root(view, before.start) and _is_frozen(before) else 0
    earlier = _trained_whole(view, plan.start)
    return earlier + result.samples if earlier else 0


def _is_root(view: View, start: str | SlotRef) -> bool:
    return view.root is not None and start == view.root.summary.id


def _is_frozen(plan: CandidatePlan) -> bool:
    """Whether all but the head stays as it was."""
    return all(item.action == "share" and not item.deltas for item in _body(plan))


def _body(plan: CandidatePlan) -> tuple[LayerPlan, ...]:
    """All layers but the head, which every plan has last."""
    return tuple(item for item in plan.layers[:-1] if item.kind != HEAD)
