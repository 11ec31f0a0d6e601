"""`evergraft explain`: why a task's route is what it is: its parent, the reason, what was changed, the figures.

The transfer ledger says by how much it is better than what the root alone reaches; below 0 is negative transfer.
"""

from __future__ import annotations

import argparse
from typing import Any

from evergraft.cli.arguments import (
    Subparsers,
    command,
    graph_argument,
    open_store,
    plain,
    print_json,
    print_table,
    version_argument,
)
from evergraft.cli.arguments import task_id as as_task_id


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(commands, "explain", run, summary="say why a task's route has this parent, with the figures")
    graph_argument(parser)
    parser.add_argument("task", metavar="TASK", help="the task, such as digits or vision/cifar10")
    version_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Carry it out."""
    from evergraft.cli.graph import serving_route
    from evergraft.store import blobs

    store = open_store(args.url)
    summary, version = serving_route(store, as_task_id(args.task), version=args.version)
    route = blobs.get_route(store, summary.id)
    facts: dict[str, Any] = {
        "task": route.task,
        "version": version,
        "route": summary.id,
        "parent": summary.parent_task,
        "parentRoute": summary.parent,
        "reason": route.transfer.get("reason", ""),
        "candidate": {"generation": route.generation, "slot": route.slot},
        "quality": route.metrics.get("quality"),
        "qualities": route.metrics.get("qualities"),
        "score": route.metrics.get("score"),
        "testQuality": route.metrics.get("testQuality"),
        "samples": route.samples_seen,
        "imageSize": route.preprocessing.get("imageSize"),
        "seconds": route.seconds,
        "parameters": dict(route.parameters),
        "mutations": list(route.mutations),
        "hyperparameters": dict(route.hyperparameters),
        "transfer": dict(route.transfer),
    }
    if args.json:
        print_json(facts)
        return 0
    for name in (
        "task",
        "version",
        "parent",
        "reason",
        "quality",
        "qualities",
        "testQuality",
        "score",
        "samples",
        "imageSize",
    ):
        print(f"{name:<13} {plain(facts[name])}")
    for name in ("parameters", "hyperparameters"):
        print(plain(f"{name:<13} {', '.join(f'{key} {value}' for key, value in facts[name].items())}"))
    for mutation in facts["mutations"]:
        print(plain(f"{'mutation':<13} {mutation}"))
    _table("a head in closed form, nothing trained:", route.transfer.get("probes"), ("task", "quality", "logLoss"))
    _ledger(route.transfer.get("ledger"))
    considered = route.transfer.get("considered")
    columns = ("task", "lineageSamples", "quality", "sampled")
    _table("routes that could have been the parent:", considered, columns)
    return 0


LEDGER = {"linearProbe": "a linear probe of the root", "fineTuned": "fine-tuning from the root"}
"""What the figures of a transfer ledger are called."""


def _ledger(ledger: Any) -> None:
    """The transfer ledger: what the root alone reaches, and the points by which this route is over it."""
    figures = [(words, ledger.get(name)) for name, words in LEDGER.items()] if isinstance(ledger, dict) else []
    known = [(words, figure) for words, figure in figures if isinstance(figure, dict)]
    if known:
        print("what the root alone reaches, and the points of quality by which this route is over it:")
        rows = [
            [words, figure.get("quality"), figure.get("samples"), _points(figure.get("over"))]
            for words, figure in known
        ]
        print_table(("against", "quality", "samples", "points over"), rows)


def _points(share: Any) -> str | None:
    """A difference of two qualities, in points; None for what is none."""
    return f"{share * 100:+.1f}" if isinstance(share, int | float) and abs(share) <= 1 else None


def _table(title: str, rows: Any, columns: tuple[str, ...]) -> None:
    if isinstance(rows, list) and rows and all(isinstance(item, dict) for item in rows):
        print(title)
        print_table(columns, [[item.get(name) for name in columns] for item in rows])
