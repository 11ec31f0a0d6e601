"""A stream of real searches with torch, on tiny images: what the promises say of the whole."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from evergraft import canonical
from evergraft.api.resolved import ResolvedDataset, ResolvedTask
from evergraft.api.root import Root
from evergraft.errors import IntegrityError, StoppedError, StoreUnavailableError
from evergraft.graph.route import RouteSummary
from evergraft.names import RunKey
from evergraft.search import ledger
from evergraft.search.claims import Crew, Timing
from evergraft.search.engine import Request, run_search
from evergraft.search.events import silent
from evergraft.search.folder import Folder
from evergraft.search.groups import Claimed
from evergraft.search.replayed import replay_search
from evergraft.search.starts import OUTDATED
from evergraft.search.values import CandidatePlan, DeltaPlan, LayerPlan, Reference, Schedule, SlotRef, TaskFacts
from evergraft.search.view import build_view
from evergraft.store import blobs, log
from evergraft.store.memory import MemoryStore
from evergraft.store.recording import RecordingStore
from evergraft.store.seam import Store
from evergraft.testing.arithmetic import make_request
from evergraft_trainer import profile
from evergraft_trainer.answers import check_answers
from evergraft_trainer.device import open_device
from evergraft_trainer.golden import golden_answers
from evergraft_trainer.predict import Predictor
from evergraft_trainer.roots import init
from evergraft_trainer.serving import serve
from evergraft_trainer.trainer import TorchTrainer

VIT = {"imageSize": 8, "patchSize": 4, "width": 16, "depth": 2, "heads": 2}
RESNET = {"imageSize": 8, "depths": [1, 1], "widths": [8, 16]}
DEVICE = open_device("cpu")


@pytest.fixture(autouse=True)
def numeric_profile() -> None:
    profile.apply(threads=1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three classes of 8×8 images that a tiny network can tell apart: bright left, right or middle."""
    numbers = np.random.default_rng(0)
    images = numbers.integers(0, 90, (90, 8, 8), dtype=np.uint8)
    labels = np.arange(90) % 3
    for label, columns in enumerate((slice(0, 3), slice(5, 8), slice(3, 5))):
        images[labels == label, :, columns] += np.uint8(150)
    splits = {"train": slice(0, 60), "validation": slice(60, 75), "test": slice(75, 90)}
    arrays: dict[str, Any] = {f"{name}_images": images[rows] for name, rows in splits.items()}
    arrays |= {f"{name}_labels": labels[rows] for name, rows in splits.items()}
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture
def store(request: pytest.FixtureRequest) -> MemoryStore:
    return fresh(request.node.name)


def fresh(name: str, backbone: Literal["vit", "resnet"] = "vit") -> MemoryStore:
    store = MemoryStore(name)
    for entry in list(store.list("")):
        store.delete(entry.key)
    init(store, Root(backbone=backbone, config=VIT if backbone == "vit" else RESNET, seed=0))
    return store


def request_of(task: str, data: Path, **search: Any) -> Request:
    asked = make_request(task, **{"samples": 128, "batch_size": 16, **search})
    spec = replace(
        asked.spec, dataset=ResolvedDataset(url=str(data), train="train", validation="validation", test="test")
    )
    return replace(asked, spec=spec, spec_hash=canonical.digest(spec.to_json()))


def search(store: Store, request: Request) -> RouteSummary:
    crew = Crew(timing=Timing(dead_s=0.0, first_poll_s=0.001))
    outcome, _ = run_search(store, log.read_graph(store), request=request, make_trainer=trainer, emit=silent, crew=crew)
    assert outcome.kind == "committed", outcome
    assert outcome.route is not None
    return outcome.route


def trainer(folder: Folder, spec: ResolvedTask) -> TorchTrainer:
    return TorchTrainer(folder=folder, spec=spec, device=DEVICE, cache=None, emit=silent)


def logits(store: Store, task: str) -> bytes:
    served = serve(store, task)
    return base64.b64decode(
        golden_answers(served.model, served.route.layers, served.preprocessing, device=DEVICE)["data"]
    )


@pytest.mark.parametrize("backbone", ["vit", "resnet"])
def test_after_a_stream_every_earlier_answer_is_the_same_bits(
    request: pytest.FixtureRequest, data: Path, backbone: Literal["vit", "resnet"]
) -> None:
    store = fresh(request.node.name, backbone)
    strategies = ["finetune", "finetune", "linear"] if backbone == "resnet" else ["finetune", "lora", "linear"]
    answers: dict[str, bytes] = {}
    for number, strategy in enumerate(strategies):
        task = f"stream/{number}"
        search(store, request_of(task, data, strategy=strategy))
        answers[task] = logits(store, task)
        for earlier, golden in answers.items():
            assert logits(store, earlier) == golden
    rows = {row["task"]: row for row in check_answers(store, device=DEVICE)}
    assert set(rows) == {*answers, "root"}
    assert all(row["bitIdentical"] and row["sameProfile"] and row["holds"] for row in rows.values())
    for task, golden in answers.items():
        assert base64.b64decode(serve(store, task).route.golden["data"]) == golden


def test_a_class_that_is_added_is_served_however_well_the_task_was_solved_without_it(
    store: MemoryStore, data: Path, tmp_path: Path
) -> None:
    arrays = dict(np.load(data))
    for split in ("train", "validation", "test"):
        kept = arrays[f"{split}_labels"] < 2
        arrays |= {f"{split}_{name}": arrays[f"{split}_{name}"][kept] for name in ("images", "labels")}
    np.savez(tmp_path / "two.npz", **arrays)
    before = search(store, request_of("a/one", tmp_path / "two.npz", samples=512))
    after = search(store, request_of("a/one", data, iteration=2, samples=16, validations=1))
    assert before.quality is not None
    assert after.quality is not None
    assert after.quality < before.quality
    route = blobs.get_route(store, after.id)
    assert (route.parent, route.labels) == (before.id, ("0", "1", "2"))
    assert route.transfer["reason"].endswith(OUTDATED)


def test_a_changed_weight_is_found_by_its_answers(store: MemoryStore, data: Path) -> None:
    route = search(store, request_of("a/one", data))
    served = serve(store, "a/one")
    with np.errstate(all="ignore"):
        head = served.model.head
        assert head is not None
        head.bias.data[0] += 1e-6
    from evergraft_trainer.golden import compare

    found = compare(served.route.golden, served.model, served.route.layers, served.preprocessing, device=DEVICE)
    assert not found.bit_identical
    assert served.summary == route


def test_it_learns(store: MemoryStore, data: Path) -> None:
    route = search(store, request_of("a/one", data, samples=1024, strategy="finetune"))
    document = blobs.get_route(store, route.id)
    assert document.metrics["testQuality"] >= 0.8
    assert document.samples_seen == 1024
    assert np.array(document.metrics["confusion"]).sum() == 15
    assert len(document.metrics["qualities"]) == 2


class CutAfter:
    """A store whose writes fail once the given key has been written a number of times."""

    def __init__(self, inner: Store, *, name: str, times: int) -> None:
        self.inner, self.name, self.times, self.cut = inner, name, times, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def put(self, key: str, data: bytes) -> None:
        if self.cut:
            raise StoreUnavailableError("cut off")
        self.inner.put(key, data)
        if key.endswith(self.name):
            self.times -= 1
            self.cut = self.times <= 0


@pytest.mark.parametrize("strategy", ["finetune", "lora", "mu2net"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_resumed_from_any_saved_state_a_candidate_ends_with_the_same_bits(
    request: pytest.FixtureRequest, data: Path, strategy: str, times: int
) -> None:
    settings: dict[str, Any] = {"strategy": strategy, "samples": 256, "validations": 4, "dropout": 0.1}
    if strategy == "mu2net":
        settings |= {"parameters": {"generations": 2, "candidates": 2}}
    undisturbed = search(fresh(request.node.name), request_of("a/one", data, **settings))
    store = fresh(f"{request.node.name}-cut")
    with pytest.raises(StoreUnavailableError, match="cut off"):
        search(CutAfter(store, name="state-1.json", times=times), request_of("a/one", data, **settings))
    resumed = search(store, request_of("a/one", data, **settings))
    assert [layer.to_json() for layer in resumed.layers] == [layer.to_json() for layer in undisturbed.layers]


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_continuing_a_candidate_gives_the_bits_of_one_that_never_stopped(
    request: pytest.FixtureRequest, data: Path, optimizer: str
) -> None:
    asked = request_of("a/one", data, samples=256, dropout=0.1)
    store = fresh(request.node.name)
    root = next(iter(log.read_graph(store).routes()))
    lora = DeltaPlan("lora", {"rank": 2, "targets": ["qkv"]})
    body = [LayerPlan(layer.name, "share", deltas=(lora,) if "block" in layer.name else ()) for layer in root.layers]
    whole = CandidatePlan(
        kind="train",
        start=root.id,
        layers=(*body, LayerPlan("head", "new")),
        hyperparameters={"learningRate": 0.01, "optimizer": optimizer, "crop": True, "flip": True},
        samples=256,
        validations=2,
        schedule=Schedule(span=256),
    )
    [once] = trainer(Folder(store, asked.search), asked.spec).train([Claimed(SlotRef(0, 0), whole)])

    folder = Folder(fresh(f"{request.node.name}-parts"), asked.search)
    worker = trainer(folder, asked.spec)
    first = replace(whole, samples=128, validations=1)
    [begun] = worker.train([Claimed(SlotRef(0, 0), first)])
    folder.put_result(SlotRef(0, 0), begun)
    goes_on = replace(lora, config={**lora.config, "continue": True})
    layers = [
        replace(item, action="clone" if item.name == "head" else "share", deltas=(goes_on,) if item.deltas else ())
        for item in whole.layers
    ]
    second = replace(
        first,
        start=SlotRef(0, 0),
        state="last",
        layers=tuple(layers),
        schedule=Schedule(span=256, offset=128),
        optimizer="carry",
    )
    [continued] = worker.train([Claimed(SlotRef(1, 0), second)])
    assert continued.weights["last"]["layers"] == once.weights["last"]["layers"]
    assert continued.samples == once.samples // 2


def test_predict_and_search_read_only_the_route_they_start_from(store: MemoryStore, data: Path) -> None:
    search(store, request_of("a/one", data, strategy="lora"))
    search(store, request_of("a/two", data, strategy="finetune", parameters={"parent": "root"}))
    record = RecordingStore(store)
    served = serve(record, "a/one")
    labels, probabilities = Predictor(served).predict([np.zeros((8, 8), np.uint8)])
    assert labels[0] in {"0", "1", "2"}
    assert probabilities.shape == (1, 3)
    assert abs(probabilities.sum() - 1) < 1e-9
    read = {operation.key for operation in record.operations if operation.key.startswith("modules/")}
    assert read == {f"modules/{module[:2]}/{module}.safetensors" for module in served.summary.module_ids()}
    record = RecordingStore(store)
    root = next(route for route in log.read_graph(store).routes() if route.is_root)
    search(record, request_of("a/three", data, strategy="finetune", parameters={"parent": "root"}))
    read = {op.key for op in record.operations if op.name == "get" and op.key.startswith("modules/")}
    assert read == {f"modules/{module[:2]}/{module}.safetensors" for module in root.module_ids()}


def test_a_prediction_does_not_depend_on_its_company(store: MemoryStore, data: Path) -> None:
    search(store, request_of("a/one", data))
    predictor = Predictor(serve(store, "a/one"))
    images = [np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8) for seed in range(40)]
    together = predictor.predict(images)[1]
    alone = np.concatenate([predictor.predict([image])[1] for image in images])
    assert (together == alone).all()


def test_labels_that_stay_keep_their_rows_when_a_task_evolves(store: MemoryStore, data: Path, tmp_path: Path) -> None:
    search(store, request_of("a/one", data))
    arrays: dict[str, Any] = dict(np.load(data))
    for name in ("train", "validation", "test"):
        arrays[f"{name}_labels"] = np.where(arrays[f"{name}_labels"] == 0, 7, arrays[f"{name}_labels"])
    other = tmp_path / "other.npz"
    np.savez(other, **arrays)
    asked = request_of("a/one", other, samples=512)
    again = replace(asked, run=RunKey(2, 1), spec=replace(asked.spec, iteration=2))
    outcome, _ = run_search(
        store,
        log.read_graph(store),
        request=again,
        make_trainer=trainer,
        emit=silent,
        crew=Crew(timing=Timing(dead_s=0.0)),
    )
    assert outcome.kind in ("committed", "kept")
    if outcome.kind == "committed":
        assert serve(store, "a/one").route.labels == ("1", "2", "7")


def test_a_graft_looks_first_and_starts_from_the_fitted_head(store: MemoryStore, data: Path) -> None:
    search(store, request_of("a/one", data, strategy="graft", parameters={"rank": 2}))
    second = request_of("b/two", data, strategy="graft", parameters={"rank": 2})
    route = blobs.get_route(store, search(store, second).id)
    assert route.transfer["parentTask"] == "a/one"
    probes = {item["task"]: item["quality"] for item in route.transfer["probes"]}
    assert set(probes) == {"a/one", "root"}
    folder = Folder(store, second.search)
    looked = folder.result(SlotRef(0, 0))
    assert looked is not None
    assert (looked.samples, looked.forward_samples) == (0, 60 + 15 + 15)
    # The chain has been trained on this very data: its features tell the classes apart before anything is trained.
    assert probes["a/one"] >= 0.9
    assert route.samples_seen == 128
    kinds = {layer.name: [delta.kind for delta in layer.deltas] for layer in route.layers}
    assert kinds["block.00"] == ["lora", "lora", "bias", "norm"]
    assert all(row["bitIdentical"] for row in check_answers(store, device=DEVICE))


def test_a_linear_probe_of_the_root_is_measured_once_and_alike_for_every_strategy(
    store: MemoryStore, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    original = TorchTrainer.look

    def counted(self: TorchTrainer, plan: CandidatePlan, pulse: Any) -> Any:
        looked.append(self.spec.task)
        return original(self, plan, pulse)

    monkeypatch.setattr(TorchTrainer, "look", counted)
    asked = {name: request_of(name, data, samples=512, **given) for name, given in STREAM.items()}
    routes = {task: search(store, request) for task, request in asked.items()}
    ledgers = {task: blobs.get_route(store, route.id).transfer["ledger"] for task, route in routes.items()}
    assert looked == ["a/whole", "b/lora", "d/linear"]  # a graft has looked for itself
    figures = {task: (told["linearProbe"]["quality"], told["linearProbe"]["samples"]) for task, told in ledgers.items()}
    assert len(set(figures.values())) == 1
    assert figures["a/whole"][1] == 60
    assert {task: told.get("forwardSamples") for task, told in ledgers.items()} == {
        "a/whole": 60 + 15,
        "b/lora": 60 + 15,
        "c/graft": None,
        "d/linear": 60 + 15,
    }
    assert {task for task, told in ledgers.items() if "fineTuned" in told} == {"a/whole"}
    for task, route in routes.items():
        assert route.transfer is not None
        assert route.over_linear_probe == pytest.approx(ledgers[task]["linearProbe"]["over"])
        assert replay_search(store, asked[task].search).differences == ()
    base = log.read_graph(store)
    manifest = Folder(store, asked["b/lora"].search).manifest()
    view = build_view(
        base, spec=asked["b/lora"].spec, facts=TaskFacts(("0", "1", "2"), 60, 15), reference=Reference(1, 1)
    )
    reopened = trainer(Folder(store, "another"), view.spec).open(None)[1]
    for seen in (manifest, reopened):  # the same data: a later search of the task asks for no other probe
        assert seen is not None
        assert ledger.known_of(view, basis=ledger.basis_of(view, seen)) == routes["b/lora"].transfer


STREAM: dict[str, dict[str, Any]] = {
    "a/whole": {},
    "b/lora": {"strategy": "lora"},
    "c/graft": {"strategy": "graft", "parameters": {"rank": 2}},
    "d/linear": {"strategy": "linear"},
}


def test_a_root_that_cannot_be_probed_costs_the_ledger_and_nothing_else(
    store: MemoryStore, data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise IntegrityError("module ab… is damaged")

    search(store, request_of("a/one", data))
    monkeypatch.setattr("evergraft_trainer.probe.read_parent", fails)
    route = search(store, request_of("b/two", data))
    assert route.transfer is None
    assert "ledger" not in blobs.get_route(store, route.id).transfer
    assert "its transfer ledger has no linear probe: module ab… is damaged" in caplog.text


def test_a_closing_that_is_stopped_while_it_looks_is_begun_again(
    store: MemoryStore, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TorchTrainer.look
    asked: list[bool] = []

    def stops(self: TorchTrainer, plan: CandidatePlan, pulse: Any) -> Any:
        asked.append(True)
        return original(self, plan, pulse)

    crew = Crew(timing=Timing(dead_s=0.0, first_poll_s=0.001))
    monkeypatch.setattr(TorchTrainer, "look", stops)
    monkeypatch.setattr(crew.stop, "asked", lambda: bool(asked))
    with pytest.raises(StoppedError):
        run_search(
            store,
            log.read_graph(store),
            request=request_of("a/one", data),
            make_trainer=trainer,
            emit=silent,
            crew=crew,
        )
    assert log.read_graph(store).task("a/one") is None
    stopped = search(store, request_of("a/one", data))
    again = fresh("unstopped")
    assert stopped.transfer == search(again, request_of("a/one", data)).transfer
    assert stopped.transfer is not None


def test_a_graft_on_a_resnet_trains_every_layer(request: pytest.FixtureRequest, data: Path) -> None:
    store = fresh(request.node.name, "resnet")
    route = blobs.get_route(store, search(store, request_of("a/one", data, strategy="graft")).id)
    assert route.parameters["added"] == route.parameters["total"]
