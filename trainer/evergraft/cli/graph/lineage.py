"""`evergraft graph lineage`: a route's parents up to the root, layer by layer."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from evergraft.cli.arguments import (
    Subparsers,
    command,
    graph_argument,
    open_store,
    print_json,
    print_table,
    version_argument,
)
from evergraft.cli.arguments import task_id as as_task_id
from evergraft.cli.graph.route import serving_route

if TYPE_CHECKING:
    from evergraft.store.lineage import LayerOrigin


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(commands, "lineage", run, summary="show a route's parents up to the root, layer by layer")
    graph_argument(parser)
    parser.add_argument("task", metavar="TASK", help="the task, such as digits or vision/cifar10")
    version_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Show parents up to the root."""
    from evergraft.store.lineage import read_lineage

    store = open_store(args.url)
    summary, _ = serving_route(store, as_task_id(args.task), version=args.version)
    steps = read_lineage(store, summary.id)
    if args.json:
        print_json([step.to_json() for step in steps])
        return 0
    for step in steps:
        print(f"{step.route.task}  route {step.id[:12]}  {step.route.samples_seen} samples")
        columns = ("layer", "kind", "how", "by", "module", "deltas", "parameters")
        print_table(columns, [_lineage_row(origin) for origin in step.origins])
    return 0


def _lineage_row(origin: LayerOrigin) -> tuple[object, ...]:
    layer = origin.layer
    size = sum(parameters for _, parameters in layer.modules())
    return layer.name, layer.kind, origin.how, origin.by, layer.module[:12], len(layer.deltas) or None, size
