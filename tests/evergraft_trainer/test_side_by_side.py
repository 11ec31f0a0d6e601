"""Candidates side by side end with the bits that each gets alone, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from evergraft.api.resolved import ResolvedDataset, ResolvedTask
from evergraft.api.root import Root
from evergraft.errors import OutOfMemoryError, StoppedError, SupersededError
from evergraft.graph.route import RouteSummary
from evergraft.search.duty import Duty
from evergraft.search.events import silent
from evergraft.search.folder import Folder
from evergraft.search.groups import Claimed
from evergraft.search.values import CandidatePlan, DeltaPlan, LayerAction, LayerPlan, Schedule, SlotRef, SlotResult
from evergraft.store import log
from evergraft.store.memory import MemoryStore
from evergraft.testing.arithmetic import make_request
from evergraft_trainer import profile
from evergraft_trainer.company import member, read_start
from evergraft_trainer.data.batches import Batch
from evergraft_trainer.device import Device, open_device
from evergraft_trainer.nn.assemble import RouteModel
from evergraft_trainer.nn.route_layer import RouteLayer
from evergraft_trainer.prefix import Prefixes
from evergraft_trainer.roots import init
from evergraft_trainer.trainer import TorchTrainer

pytestmark = pytest.mark.slow

Backbone = Literal["vit", "resnet"]
CONFIGS: Mapping[str, dict[str, Any]] = {
    "vit": {"imageSize": 8, "patchSize": 4, "width": 16, "depth": 3, "heads": 2},
    "resnet": {"imageSize": 8, "depths": [1, 1, 1], "widths": [8, 16, 16]},
}
LORA = DeltaPlan("lora", {"rank": 2})
SAMPLES = 192
NO_CACHE, CACHE = 0, 1 << 24


@pytest.fixture(autouse=True)
def numeric_profile() -> None:
    profile.apply(threads=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    numbers = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name, count in (("train", 44), ("validation", 21)):
        arrays[f"{name}_images"] = numbers.integers(0, 256, (count, 8, 8), dtype=np.uint8)
        arrays[f"{name}_labels"] = np.arange(count) % 3
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, **arrays)
    return path


@dataclass
class Bench:
    """One open search on a fresh graph."""

    data: Path
    backbone: Backbone
    store: MemoryStore
    search: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> ResolvedTask:
        asked = make_request("a/one", **{"samples": 9999, "batch_size": 8, "dropout": 0.1, **self.search})
        dataset = ResolvedDataset(url=str(self.data), train="train", validation="validation")
        return replace(asked.spec, dataset=dataset)

    @property
    def root(self) -> RouteSummary:
        return next(iter(log.read_graph(self.store).routes()))

    def trainer(self, **settings: Any) -> TorchTrainer:
        folder = Folder(self.store, "search")
        return TorchTrainer(
            folder=folder, spec=self.spec, device=open_device("cpu"), cache=None, emit=silent, **settings
        )

    def plan(self, action: Callable[[str, int], LayerAction | DeltaPlan], **hyperparameters: Any) -> CandidatePlan:
        """A plan; `action` says what becomes of each layer, by name and distance from the top."""
        layers = []
        for place, layer in enumerate(self.root.layers):
            chosen = action(layer.name, len(self.root.layers) - 1 - place)
            layers.append(
                LayerPlan(layer.name, "share", deltas=(chosen,))
                if isinstance(chosen, DeltaPlan)
                else LayerPlan(layer.name, chosen)
            )
        return CandidatePlan(
            kind="train",
            start=self.root.id,
            layers=(*layers, LayerPlan("head", "new")),
            hyperparameters={"learningRate": 0.02, "optimizer": "SGD", **hyperparameters},
            samples=SAMPLES,
            validations=3,
            schedule=Schedule(span=SAMPLES),
        )

    def plans(self, **shared: Any) -> list[CandidatePlan]:
        """Eight candidates: heads alone, the top one or two layers, low rank, everything; all rates differ."""
        vit = self.backbone == "vit"

        def top(count: int) -> Callable[[str, int], LayerAction | DeltaPlan]:
            return lambda _, height: "clone" if height < count else "share"

        def low_rank(name: str, height: int) -> LayerAction | DeltaPlan:
            return LORA if vit and "block" in name and height < 3 else top(1)(name, height)

        actions = [top(0), top(2), top(0), low_rank, top(1), top(99), top(3), low_rank]
        rates = [0.01, 0.02, 0.03, 0.01, 0.05, 0.02, 0.01, 0.03]
        kinds = ["SGD", "AdamW"]
        return [
            self.plan(action, learningRate=rate / (1 if number % 2 == 0 else 10), optimizer=kinds[number % 2], **shared)
            for number, (action, rate) in enumerate(zip(actions, rates, strict=True))
        ]


def bench(data: Path, backbone: Backbone, name: str, **search: Any) -> Bench:
    store = MemoryStore(name)
    for entry in list(store.list("")):
        store.delete(entry.key)
    init(store, Root(backbone=backbone, config=CONFIGS[backbone], seed=0))
    return Bench(data, backbone, store, search)


def facts(result: SlotResult) -> dict[str, Any]:
    """All of a result that must not depend on company."""
    value = result.to_json()
    weights = {state: value["weights"][state] for state in value["weights"]}
    return {**value, "seconds": 0, "claim": "", "weights": {s: (w["sha256"], w["layers"]) for s, w in weights.items()}}


def train(trainer: TorchTrainer, plans: Sequence[CandidatePlan], **duties: Duty) -> list[dict[str, Any]]:
    group = [Claimed(SlotRef(0, slot), plan, duties.get(f"slot{slot}")) for slot, plan in enumerate(plans)]
    return sorted((facts(result) for result in trainer.train(group)), key=lambda value: int(value["slot"]))


ALONE: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
CROP = {"crop": True, "cropMinArea": 0.5, "flip": True}


def alone(data: Path, backbone: Backbone, **shared: Any) -> list[dict[str, Any]]:
    """What each of the eight comes to when it is trained alone, without any kept activation."""
    key = (backbone, *sorted(shared.items()))
    if key not in ALONE:
        place = bench(data, backbone, "alone")
        trainer = place.trainer(prefix_bytes=NO_CACHE)
        group = [Claimed(SlotRef(0, slot), plan) for slot, plan in enumerate(place.plans(**shared))]
        ALONE[key] = [facts(result) for claimed in group for result in trainer.train([claimed])]
    return ALONE[key]


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["vit", "resnet"])
@pytest.mark.parametrize("shared", [{}, CROP], ids=["plain", "crop"])
@pytest.mark.parametrize("cap", [NO_CACHE, CACHE], ids=["recomputed", "kept"])
@pytest.mark.parametrize("loaders", [0, 2])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_bits_are_those_of_training_alone(
    data: Path, backbone: Backbone, shared: dict[str, Any], cap: int, loaders: int, count: int
) -> None:
    place = bench(data, backbone, "beside")
    trainer = place.trainer(prefix_bytes=cap, loaders=loaders)
    assert train(trainer, place.plans(**shared)[:count]) == alone(data, backbone, **shared)[:count]


@dataclass
class Told(Duty):
    """A duty without a thread, that does as told after a number of steps."""

    stop_after: int = 1 << 30
    taken_over_after: int = 1 << 30

    def tell(self, samples: int) -> None:
        self._samples = samples
        if samples >= self.taken_over_after:
            raise SupersededError("taken over")

    @property
    def should_stop(self) -> bool:
        return self._samples >= self.stop_after


def duty(
    place: Bench, slot: int, *, claim: int = 1, stop_after: int = 1 << 30, taken_over_after: int = 1 << 30
) -> Told:
    return Told(
        folder=Folder(place.store, "search"),
        place=f"0000-{slot:02d}",
        claim=claim,
        worker="me",
        beat_s=60.0,
        hang_after_s=None,
        asked_to_stop=lambda: False,
        stop_after=stop_after,
        taken_over_after=taken_over_after,
    )


@pytest.mark.parametrize("backbone", ["vit", "resnet"])
@pytest.mark.parametrize("cap", [NO_CACHE, CACHE], ids=["recomputed", "kept"])
def test_a_group_that_stops_goes_on_with_the_same_bits_and_laggards_catch_up(
    data: Path, backbone: Backbone, cap: int
) -> None:
    place = bench(data, backbone, "stopped")
    plans = place.plans()
    # Three of the eight get ahead by different lengths before all are together.
    for slot, stop_after in ((1, 24), (4, 80), (0, 136)):
        with pytest.raises(StoppedError):
            list(
                place.trainer().train(
                    [Claimed(SlotRef(0, slot), plans[slot], duty(place, slot, stop_after=stop_after))]
                )
            )
    duties: dict[str, Duty] = {f"slot{slot}": duty(place, slot, claim=2, stop_after=96) for slot in range(8)}
    with pytest.raises(StoppedError):
        train(place.trainer(prefix_bytes=cap), plans, **duties)
    duties = {f"slot{slot}": duty(place, slot, claim=3) for slot in range(8)}
    found = train(place.trainer(prefix_bytes=cap), plans, **duties)
    assert found == alone(data, backbone)


def test_one_that_is_taken_over_or_diverges_leaves_the_others_alone(data: Path) -> None:
    place = bench(data, "vit", "leaving")
    plans = place.plans()
    plans[2] = place.plan(lambda _, height: "clone" if height < 2 else "share", weightDecay=1e38)
    plans[6] = replace(plans[6], samples=64, validations=1)
    found = train(place.trainer(), plans, slot3=duty(place, 3, taken_over_after=40))
    by_slot = {value["slot"]: value for value in found}
    assert sorted(by_slot) == [0, 1, 2, 4, 5, 6, 7]
    assert by_slot[2]["diverged"] is not None
    assert by_slot[6]["samples"] == 64
    reference = alone(data, "vit")
    assert [by_slot[slot] for slot in (0, 1, 4, 5, 7)] == [reference[slot] for slot in (0, 1, 4, 5, 7)]


@pytest.mark.parametrize("when", ["building", "stepping", "validating"])
def test_exhausted_memory_lowers_how_many_go_side_by_side_and_changes_no_bit(
    data: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = bench(data, "vit", "exhausted")
    trainer = place.trainer()
    exhaust(when, above=2, monkeypatch=monkeypatch)
    assert train(trainer, place.plans()) == alone(data, "vit")
    assert trainer.width == 2


def test_one_candidate_that_alone_exhausts_the_memory_is_an_error(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = bench(data, "vit", "exhausted")
    exhaust("stepping", above=0, monkeypatch=monkeypatch)
    with pytest.raises(OutOfMemoryError, match=r"search\.batchSize"):
        train(place.trainer(), place.plans()[:3])


def exhaust(when: str, *, above: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let memory suffice for `above` models at a time."""
    from evergraft_trainer.candidate import Candidate

    built: set[Candidate] = set()
    build, release = Candidate.build, Candidate.release
    forward, logits = Prefixes.forward, Prefixes.logits

    def check(place: str) -> None:
        if place == when and len(built) > above:
            raise RuntimeError("CUDA out of memory (not really)")

    def building(self: Candidate, shared: Any) -> None:
        built.add(self)
        check("building")
        build(self, shared)

    def releasing(self: Candidate) -> None:
        built.discard(self)
        release(self)

    def stepping(self: Prefixes, model: RouteModel, batch: Batch) -> torch.Tensor:
        check("stepping")
        return forward(self, model, batch)

    def validating(self: Prefixes, *args: Any, **kwargs: Any) -> Any:
        check("validating")
        return logits(self, *args, **kwargs)

    monkeypatch.setattr(Candidate, "build", building)
    monkeypatch.setattr(Candidate, "release", releasing)
    monkeypatch.setattr(Prefixes, "forward", stepping)
    monkeypatch.setattr(Prefixes, "logits", validating)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each layer ran."""
    counted: dict[str, int] = {}
    forward = RouteLayer.forward

    def counting(self: RouteLayer, x: torch.Tensor) -> torch.Tensor:
        counted[self.name] = counted.get(self.name, 0) + 1
        return forward(self, x)

    monkeypatch.setattr(RouteLayer, "forward", counting)
    return counted


def test_a_shared_prefix_runs_once_a_batch(data: Path, calls: dict[str, int]) -> None:
    place = bench(data, "vit", "counted")
    calls.clear()
    train(place.trainer(prefix_bytes=NO_CACHE), [place.plans()[1]] * 3)
    steps, validations = SAMPLES // 8, 3 * 3
    assert calls["block.00"] == steps + validations
    assert calls["block.02"] == 3 * (steps + validations)


def test_a_kept_prefix_runs_once_an_image(data: Path, calls: dict[str, int]) -> None:
    place = bench(data, "vit", "counted")
    calls.clear()
    train(place.trainer(prefix_bytes=CACHE), [place.plans()[0]] * 3)
    tried, training, validation = 2, 6, 3
    assert calls["block.00"] == calls["norm"] == tried + training + validation


def test_nothing_is_kept_where_images_vary_or_are_seen_once(data: Path, calls: dict[str, int]) -> None:
    place = bench(data, "vit", "counted")
    calls.clear()
    train(place.trainer(), [place.plans(**CROP)[0]])
    assert calls["block.00"] == SAMPLES // 8 + 3
    place = bench(data, "vit", "counted")
    calls.clear()
    train(place.trainer(), [replace(place.plans()[0], samples=40)])
    assert calls["block.00"] == 40 // 8 + 3


def test_a_backward_pass_stops_at_the_lowest_trained_layer(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, bool]] = []
    forward = RouteLayer.forward

    def watching(self: RouteLayer, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            seen.append((self.name, x.requires_grad))
        return forward(self, x)

    monkeypatch.setattr(RouteLayer, "forward", watching)
    place = bench(data, "vit", "backward")
    train(place.trainer(), [place.plans()[1]])
    assert set(seen) == {("block.02", False), ("norm", True), ("head", True)}


def test_candidates_of_other_streams_take_their_turn_in_the_same_group(data: Path) -> None:
    place = bench(data, "vit", "streams")
    plain, cropped = place.plans(), place.plans(**CROP)
    found = train(place.trainer(), [plain[0], cropped[1], plain[2], cropped[3]])
    assert found[::2] == alone(data, "vit")[:4:2]
    assert found[1::2] == alone(data, "vit", **CROP)[1:4:2]


def test_company_shares_batches_and_something_costly(data: Path) -> None:
    place = bench(data, "vit", "company")
    cropped = place.plans(**CROP)
    plans = [*place.plans(), cropped[0], cropped[5]]
    claimed = [Claimed(SlotRef(0, slot), plan) for slot, plan in enumerate(plans)]
    trainer = place.trainer()
    assert [ref.slot for ref in trainer.company(claimed[0], claimed[1:])] == [1, 2, 3, 4, 6, 7]
    assert list(trainer.company(claimed[5], [*claimed[:5], *claimed[6:]])) == []
    assert [ref.slot for ref in trainer.company(claimed[8], [*claimed[:8], claimed[9]])] == [9]
    trainer.width = 3
    assert [ref.slot for ref in trainer.company(claimed[0], claimed[1:])] == [1, 2]


def test_company_leaves_half_of_the_free_memory(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = bench(data, "vit", "company")
    claimed = [Claimed(SlotRef(0, slot), place.plans(**CROP)[5]) for slot in range(8)]
    trainer = place.trainer()
    size = member(place.spec, claimed[0], read_start(trainer.folder, claimed[0].plan)).size
    for room in (0, 3):
        monkeypatch.setattr(Device, "free_memory", lambda _, room=room: 2 * size * (1 + room))
        assert [ref.slot for ref in trainer.company(claimed[0], claimed[1:])] == list(range(1, room + 1))
