"""Eight candidates side by side over the same eight one after another, and a kept prefix over a recomputed one.

Each measurement is a process of its own, so that its peak memory is its own; modes alternate. Beside each ratio of
times stands the ratio of the operations that must be done, counted by torch's own counter on one step. Prints one
JSON line a figure. Run by ``make bench-training``.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from evergraft.api.resolved import ResolvedDataset, ResolvedSearch, ResolvedTask
from evergraft.api.root import Root
from evergraft.search.events import silent
from evergraft.search.folder import Folder
from evergraft.search.groups import Claimed
from evergraft.search.values import CandidatePlan, DeltaPlan, LayerPlan, Schedule, SlotRef
from evergraft.store import log
from evergraft.store.memory import MemoryStore
from evergraft_trainer import profile
from evergraft_trainer.candidate import Candidate
from evergraft_trainer.device import open_device
from evergraft_trainer.parents import read_parent
from evergraft_trainer.roots import init
from evergraft_trainer.trainer import PREFIX_BYTES, TorchTrainer

Case = Literal["top 2 of 12 layers", "lora in the top 2 of 12", "all layers", "all layers, crops and flips", "linear"]

CANDIDATES, BATCH, BATCHES, RUNS = 8, 32, 10, 3
EPOCHS, LINEAR_TRAIN = 20, 256
CONFIG = {"imageSize": 28, "patchSize": 4, "width": 128, "depth": 12, "heads": 4}
LORA = DeltaPlan("lora", {"rank": 8})
AUGMENTED = {"crop": True, "cropMinArea": 0.05, "flip": True}


def make_trainer(folder: Path, case: Case, *, prefix_bytes: int) -> TorchTrainer:
    """A trainer on a fresh graph with a 12-layer ViT and random gray images."""
    numbers = np.random.default_rng(0)
    counts = {"train": LINEAR_TRAIN if case == "linear" else 1024, "validation": BATCH}
    arrays: dict[str, Any] = {}
    for name, count in counts.items():
        arrays[f"{name}_images"] = numbers.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{name}_labels"] = np.arange(count) % 10
    np.savez(folder / "data.npz", **arrays)
    spec = ResolvedTask(
        task="bench/side-by-side",
        iteration=1,
        visibility="Public",
        metric="Accuracy",
        dataset=ResolvedDataset(url=str(folder / "data.npz"), train="train", validation="validation"),
        search=ResolvedSearch(strategy="mu2net", samples=1 << 20, batch_size=BATCH, validations=1),
        search_timeout_s=None,
        after=(),
    )
    store = MemoryStore("bench")
    init(store, Root(backbone="vit", config=CONFIG, seed=0))
    return TorchTrainer(
        folder=Folder(store, "search"),
        spec=spec,
        device=open_device("cpu"),
        cache=None,
        emit=silent,
        prefix_bytes=prefix_bytes,
    )


def make_plan(trainer: TorchTrainer, case: Case, number: int) -> CandidatePlan:
    """The candidate of that number; they differ in their rates alone."""
    root = next(iter(log.read_graph(trainer.folder.store).routes()))
    top = {f"block.{place:02d}" for place in (10, 11)}

    def layer(name: str) -> LayerPlan:
        if case.startswith("all layers"):
            return LayerPlan(name, "clone")
        if case == "linear" or (name not in top and name != "norm"):
            return LayerPlan(name, "share")
        if case.startswith("lora") and name in top:
            return LayerPlan(name, "share", deltas=(LORA,))
        return LayerPlan(name, "clone")

    samples = EPOCHS * LINEAR_TRAIN if case == "linear" else BATCH * BATCHES
    return CandidatePlan(
        kind="train",
        start=root.id,
        layers=(*(layer(item.name) for item in root.layers), LayerPlan("head", "new")),
        hyperparameters={
            "learningRate": 0.001 * (number + 1),
            "optimizer": "SGD",
            **(AUGMENTED if "crops" in case else {}),
        },
        samples=samples,
        validations=1,
        schedule=Schedule(span=samples),
    )


def measure(case: Case, mode: str) -> dict[str, float]:
    """CPU seconds and peak bytes of this process: `mode` is beside, alone, kept or recomputed.

    Everything runs in one thread, so the processor's seconds are those of an undisturbed machine, more or less.
    """
    profile.apply(threads=1)
    with tempfile.TemporaryDirectory() as folder:
        cap = PREFIX_BYTES if mode == "kept" or (mode in ("beside", "alone") and case != "linear") else 0
        trainer = make_trainer(Path(folder), case, prefix_bytes=cap)
        _ = trainer.data
        count = 1 if case == "linear" else CANDIDATES
        group = [Claimed(SlotRef(0, number), make_plan(trainer, case, number)) for number in range(count)]
        groups = [[claimed] for claimed in group] if mode == "alone" else [group]
        began = time.process_time()
        for part in groups:
            assert all(result.diverged is None for result in trainer.train(part))
        seconds = time.process_time() - began
        chosen = trainer.company(group[0], group[1:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "peak": peak, "company": len(chosen)}


def must(case: Case) -> dict[str, float]:
    """What one step of eight must cost with the prefix once, over eight steps alone: counted and timed in its parts.

    The counter knows matrix products and convolutions only; `parts_ratio` is from the seconds of prefix and rest.
    """
    profile.apply(threads=1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(Path(folder), case, prefix_bytes=0)
        plan = make_plan(trainer, case, 0)
        parent = read_parent(trainer.folder, plan, labels=trainer.data.labels, cache=None)
        candidate = Candidate(trainer, Claimed(SlotRef(0, 0), plan), parent)
        candidate.build({})
        model = candidate.model.train()
        images = torch.zeros(BATCH, 1, 28, 28)
        with FlopCounterMode(display=False) as prefix:
            hidden = model.run(images, stop=model.first_trained)
        with FlopCounterMode(display=False) as rest:
            model.finish(model.run(hidden, start=model.first_trained)).sum().backward()
        parts = []
        for _ in range(9):
            began = time.process_time()
            hidden = model.run(images, stop=model.first_trained)
            middle = time.process_time()
            model.finish(model.run(hidden, start=model.first_trained)).sum().backward()
            parts.append((middle - began, time.process_time() - middle))
    once, each = (statistics.median(column) for column in zip(*parts, strict=True))
    return {
        "operations_ratio": round(_once(prefix.get_total_flops(), rest.get_total_flops()), 4),
        "parts_ratio": round(_once(once, each), 4),
    }


def _once(prefix: float, rest: float) -> float:
    return float((prefix + CANDIDATES * rest) / (CANDIDATES * (prefix + rest)))


def run_alone(case: Case, mode: str) -> dict[str, float]:
    """`measure` in a process of its own."""
    done = subprocess.run([sys.executable, __file__, case, mode], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def compare(case: Case, first: str, second: str) -> dict[str, Any]:
    """Both modes in turn; the median of the ratios of times."""
    pairs = [(run_alone(case, first), run_alone(case, second)) for _ in range(RUNS)]
    ratios = sorted(a["seconds"] / b["seconds"] for a, b in pairs)
    return {
        "value": round(statistics.median(a["seconds"] for a, _ in pairs), 3),
        "unit": "CPU s",
        "peer_value": round(statistics.median(b["seconds"] for _, b in pairs), 3),
        "ratio": round(statistics.median(ratios), 4),
        "runs": RUNS,
        "spread": [round(ratios[0], 4), round(ratios[-1], 4)],
        "peak_bytes": round(statistics.median(a["peak"] for a, _ in pairs)),
        "peer_peak_bytes": round(statistics.median(b["peak"] for _, b in pairs)),
        "company": pairs[0][0]["company"],
    }


def figure(name: str, found: Mapping[str, Any], *, bar: float, words: str) -> dict[str, Any]:
    """One line of output."""
    return {"figure": name, **found, "bar": words, "holds": found["ratio"] <= bar}


def main() -> None:
    """Measure and print."""
    shared: tuple[Case, ...] = ("top 2 of 12 layers", "lora in the top 2 of 12")
    for case in shared:
        found = {**compare(case, "beside", "alone"), "peer": "alone", **must(case)}
        bar = 1.1 * found["operations_ratio"]
        line = figure(f"8 side by side over 8 alone, {case}", found, bar=bar, words="ratio <= 1.1 x operations_ratio")
        print(json.dumps(line), flush=True)
    everything: tuple[Case, ...] = ("all layers", "all layers, crops and flips")
    for case in everything:
        found = {**compare(case, "beside", "alone"), "peer": "alone", **must(case)}
        if not found["company"]:  # then the engine does the very thing that it is compared with
            found |= {"ratio": 1.0, "side_by_side_ratio": found["ratio"]}
        found["engine"] = "side by side" if found["company"] else "alone"
        print(
            json.dumps(figure(f"8 side by side over 8 alone, {case}", found, bar=1.0, words="ratio <= 1")), flush=True
        )
    found = {**compare("linear", "kept", "recomputed"), "peer": "recomputed"}
    name = f"linear, {EPOCHS} epochs without augmentation, prefix kept over recomputed"
    print(json.dumps(figure(name, found, bar=0.2, words="ratio <= 0.2")), flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], sys.argv[2])))  # type: ignore[arg-type]
    else:
        main()
