"""`evergraft plan`: what `run` would do, without writing anything."""

from __future__ import annotations

import argparse
from pathlib import Path

from evergraft.cli.arguments import Subparsers, command, print_json


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(
        commands, "plan", run, summary="show what run would do: values and their source, data, the first generation"
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="Task YAML files, or folders of them")
    parser.add_argument("--graph", required=True, metavar="URL", help="the graph: ./graph, gs://…, s3://…")


def run(args: argparse.Namespace) -> int:
    """Carry it out."""
    from evergraft_trainer.plan import plan_files

    plans = plan_files(args.files, graph_url=args.graph)
    if args.json:
        print_json([plan.to_json() for plan in plans])
        return 0
    for plan in plans:
        print("\n".join(plan.lines()))
    return 0
