"""The demo's last step: the table of what was learned, and the proof that nothing was forgotten.

``python examples/demo/summary.py demo/graph --out demo/results.json`` reads the graph, recomputes every route's
golden answers from the store and compares them bit for bit with those kept when the route was committed. ``make
demo`` calls it after the run; it exits with 1 if an answer has changed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from evergraft.cli.arguments import print_table
from evergraft.store import blobs, log
from evergraft.store.open import open_store
from evergraft.store.seam import Store
from evergraft_trainer import profile
from evergraft_trainer.answers import check_answers
from evergraft_trainer.device import open_device


def summarise(store: Store) -> list[dict[str, Any]]:
    """One row a task, in the order in which they were committed; the root is left out."""
    graph = log.read_graph(store)
    answers = {row["task"]: row for row in check_answers(store, device=open_device("cpu"))}
    states = sorted(graph.tasks(), key=lambda item: item[1].version)
    rows = []
    for task, state in states:
        if state.route is None or state.route.is_root:
            continue
        route = blobs.get_route(store, state.route.id)
        rows.append(
            {
                "task": task,
                "parent": state.route.parent_task,
                "why": route.transfer["reason"],
                "quality": route.metrics["quality"],
                "testQuality": route.metrics["testQuality"],
                "parametersActive": route.parameters["total"],
                "parametersAdded": route.parameters["added"],
                "samples": route.samples_seen,
                "seconds": route.seconds,
                "answersUnchanged": bool(answers[task]["bitIdentical"]),
            }
        )
    return rows


def main() -> int:
    """Print the table and write the same facts as JSON."""
    parser = argparse.ArgumentParser(description="Show what the demo's graph knows, and that it forgot nothing.")
    parser.add_argument("graph", help="the graph's folder or URL")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads: those that the graph was trained with")
    arguments = parser.parse_args()
    profile.apply(threads=arguments.threads)
    rows = summarise(open_store(arguments.graph))
    arguments.out.write_text(json.dumps(rows, indent=2) + "\n")
    columns = ("task", "parent", "why", "validation", "test", "active", "added", "samples", "seconds", "same answers")
    print_table(columns, [_cells(row) for row in rows])
    mean = sum(row["testQuality"] for row in rows) / len(rows)
    unchanged = sum(row["answersUnchanged"] for row in rows)
    print(f"mean test quality {mean:.3f}; golden answers of {unchanged} of {len(rows)} tasks are the same bits")
    print(f"the same facts as JSON: {arguments.out}")
    return 0 if unchanged == len(rows) else 1


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    return (
        row["task"],
        row["parent"],
        row["why"],
        f"{row['quality']:.4f}",
        f"{row['testQuality']:.4f}",
        row["parametersActive"],
        row["parametersAdded"],
        row["samples"],
        f"{row['seconds']:.1f}",
        "yes" if row["answersUnchanged"] else "NO",
    )


if __name__ == "__main__":
    sys.exit(main())
