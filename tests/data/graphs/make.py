"""Make the graph beside this file, which a test reads for ever: ``python tests/data/graphs/make.py FOLDER``.

Only for a new format: then the old folders stay, and a new one comes beside them. It holds what a store can hold: a
root, a public, a private, a removed and a twice trained task of several strategies, deltas, optimiser state,
checkpoints, condemned and deleted blobs, a restored version, a hint, and the folder of a search that never closed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from evergraft import canonical
from evergraft.cli import main as evergraft
from evergraft.graph.state import TaskState
from evergraft.names import SEARCHES, RunKey, search_id
from evergraft.store import checkpoints, hint, log
from evergraft.store.files import TEMPORARY, FileStore
from evergraft.store.gc import gc
from evergraft.store.remove import remove_route
from evergraft.store.restore import restore
from evergraft.testing.aging import AgingStore, Clock
from evergraft_trainer.testing.datasets import DatasetMaker

GRACE_S = 3600.0
ROOT = "{backbone: vit, config: {imageSize: 8, patchSize: 4, width: 12, depth: 1, heads: 3}, seed: 0}"
TASK = """\
apiVersion: evergraft.dev/v1alpha1
kind: Task
metadata: {{name: {name}, namespace: old}}
spec:
  iteration: {iteration}
  visibility: {visibility}
  dataset: {{url: {url}}}
  search: {{strategy: {strategy}, samples: {samples}, batchSize: 8, validations: 2{more}}}
"""


def train(work: Path, name: str, strategy: str, *, iteration: int = 1, samples: int = 64, **more: str) -> None:
    """One task, through the command line."""
    path = work / f"{name}.yaml"
    fields = {"visibility": "Public", "more": "", **more}
    path.write_text(
        TASK.format(name=name, iteration=iteration, url=work / "images", strategy=strategy, samples=samples, **fields)
    )
    code = evergraft(["run", str(path), "--graph", str(work / "graph")])
    assert code == 0, name


def make(work: Path) -> None:
    """The graph, in ``work/graph``."""
    DatasetMaker(work).folder({"cat": 20, "dog": 20}).rename(work / "images")
    (work / "root.yaml").write_text(ROOT)
    assert evergraft(["graph", "init", str(work / "graph"), "--root", str(work / "root.yaml")]) == 0
    train(work, "pets", "mu2net", samples=128, more=", parameters: {generations: 2, candidates: 2}")
    train(work, "secret", "lora", visibility="Private", more=", parameters: {rank: 2}")
    train(work, "birds", "lora", more=", parameters: {rank: 2, parent: old/pets}")
    train(work, "gone", "finetune", more=", parameters: {parent: root}")
    train(work, "going", "finetune", more=", seed: 7, parameters: {parent: root}")
    train(work, "twice", "linear", more=", parameters: {parent: old/pets}")
    train(work, "twice", "linear", iteration=2, more=", seed: 5, parameters: {parent: old/birds}")
    store = AgingStore(FileStore(work / "graph"), Clock(now=time.time()))
    open_search = search_id("old/twice", RunKey(2, 1))
    header = json.loads(store.get(f"{SEARCHES}{open_search}/search.json"))
    remove_route(store, "old/gone")
    for _ in range(3):
        store.clock.advance(2 * GRACE_S)
        gc(store, grace_s=GRACE_S, clock=store.clock)
    remove_route(store, "old/going")
    restore(store, log.read_graph(store).version - 1, task="old/going")
    remove_route(store, "old/going")
    store.clock.advance(2 * GRACE_S)
    gc(store, grace_s=GRACE_S, clock=store.clock)
    keep_open(store, header)


def keep_open(store: AgingStore, header: dict[str, Any]) -> None:
    """The header of a search at work: that of an earlier one, for a run which nobody closed."""
    run = RunKey(3, 1)
    header = {**header, "run": str(run), "search": search_id("old/twice", run), "base": log.read_graph(store).version}
    store.put(f"{SEARCHES}{header['search']}/search.json", json.dumps(header, sort_keys=True).encode())


def expected(store: FileStore) -> dict[str, Any]:
    """What must be read of every version: a few facts of every task, so that new fields may come."""
    head = log.read_graph(store)
    versions = []
    for version in range(head.version + 1):
        graph = log.read_graph(store, version=version)
        versions.append({task: facts(state) for task, state in graph.tasks()})
    return {"versions": versions, "condemned": sorted(head.condemned), "swept": dict(head.swept)}


def facts(state: TaskState) -> dict[str, Any]:
    """What stays true of a task's state however the code around it changes."""
    route = state.route
    modules = canonical.digest(list(route.module_ids())) if route else None
    return {
        "run": str(state.run) if state.run else None,
        "outcome": state.outcome,
        "visibility": state.visibility,
        "route": route.id if route else None,
        "parent": route.parent if route else None,
        "modules": modules,
        "quality": route.quality if route else None,
    }


def main() -> None:
    """Make it, and write down what it must read as."""
    parser = argparse.ArgumentParser(description="Make the graph that a test reads for ever.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    checkpoints.EVERY, hint.EVERY_S = 4, 0.0
    with tempfile.TemporaryDirectory() as scratch:
        make(Path(scratch))
        shutil.copytree(Path(scratch) / "graph", folder, ignore=shutil.ignore_patterns(TEMPORARY))
    folder.with_suffix(".json").write_bytes(canonical.dumps(expected(FileStore(folder))) + b"\n")


if __name__ == "__main__":
    main()
