"""Record a search of each strategy with arithmetic for training: the folders beside this file, which tests replay.

Run it again after a change of what is recorded: ``python tests/data/searches/record.py``. A folder is a whole graph
without its weights and routes, of which a replay reads none.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from evergraft.search.claims import Crew
from evergraft.search.engine import Outcome, run_search
from evergraft.search.events import silent
from evergraft.store import log
from evergraft.store.files import FileStore
from evergraft.store.seam import Store
from evergraft.testing.arithmetic import ArithmeticTrainer, init_graph, make_request

HERE = Path(__file__).resolve().parent
SETTINGS: dict[str, dict[str, Any]] = {
    "mu2net": {"samples": 3 * 3 * 16, "parameters": {"generations": 3, "candidates": 3}, "size_decay": 0.98},
    "graft": {"parameters": {"rank": 4}},
    "finetune": {},
    "lora": {"parameters": {"rank": 4}},
    "linear": {"parameters": {"parent": "root"}},
}
"""What each strategy's recorded searches set; the task is trained twice, beside a public and a private one."""


def record(strategy: str, folder: Path) -> None:
    """Run the searches into `folder` and take out what a replay does not read."""
    store = FileStore(folder)
    init_graph(store)
    search(store, "kept/public")
    search(store, "kept/private", visibility="Private", seed=3)
    for iteration in (1, 2):
        search(store, "kept/task", iteration=iteration, seed=3 - iteration, strategy=strategy, **SETTINGS[strategy])
    kept = {(make_request("kept/task", iteration=iteration).search,) for iteration in (1, 2)}
    for path in sorted(folder.rglob("*"), reverse=True):
        parts = path.relative_to(folder).parts
        other = parts[0] in ("modules", "routes") or (parts[0] == "searches" and parts[1:2] not in kept)
        if path.is_file() and (other or path.suffix != ".json" or path.name.startswith("claim-")):
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def search(store: Store, task: str, **settings: Any) -> Outcome:
    """One search to its end."""
    outcome, _ = run_search(
        store,
        log.read_graph(store),
        request=make_request(task, **settings),
        make_trainer=ArithmeticTrainer,
        emit=silent,
        crew=Crew(),
    )
    return outcome


def main() -> None:
    """Record all of them anew."""
    for strategy in SETTINGS:
        with tempfile.TemporaryDirectory() as scratch:
            record(strategy, Path(scratch) / "graph")
            shutil.rmtree(HERE / strategy, ignore_errors=True)
            shutil.copytree(Path(scratch) / "graph", HERE / strategy)


if __name__ == "__main__":
    main()
