"""`evergraft predict`: classify images with a task's committed route."""

from __future__ import annotations

import argparse
from pathlib import Path

from evergraft.cli.arguments import Subparsers, command, graph_argument, print_json, print_table, version_argument
from evergraft.cli.arguments import task_id as as_task_id


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(commands, "predict", run, summary="classify images with the route of a task")
    graph_argument(parser)
    parser.add_argument("task", metavar="TASK", help="the task, such as digits or vision/cifar10")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files")
    version_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Carry it out."""
    import evergraft

    predictor = evergraft.load(args.url, as_task_id(args.task), version=args.version)
    labels, probabilities = predictor.predict(args.images)
    rows = [
        {"image": str(image), "label": label, "probability": round(float(row.max()), 6)}
        for image, label, row in zip(args.images, labels, probabilities, strict=True)
    ]
    if args.json:
        print_json(rows)
    else:
        print_table(
            ("image", "label", "probability"), [(r["image"], r["label"], f"{r['probability']:.3f}") for r in rows]
        )
    return 0
