"""`evergraft export`: a task's route as files of its own, checked against its golden answers first."""

from __future__ import annotations

import argparse
from pathlib import Path

from evergraft.cli.arguments import Subparsers, command, graph_argument, print_json, version_argument
from evergraft.cli.arguments import task_id as as_task_id


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(commands, "export", run, summary="write a task's route as safetensors and JSON, checked first")
    graph_argument(parser)
    parser.add_argument("task", metavar="TASK", help="the task, such as digits or vision/cifar10")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, metavar="FILE", help="write FILE.safetensors and FILE.json")
    target.add_argument(
        "--as-root", type=Path, metavar="FILE", help="write the route, without its head, as a root file"
    )
    version_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Carry it out."""
    from evergraft_trainer.export import export_root, export_route

    store_task = as_task_id(args.task)
    if args.as_root is not None:
        facts = export_root(args.url, store_task, out=args.as_root, version=args.version)
    else:
        facts = export_route(args.url, store_task, out=args.out, version=args.version)
    if args.json:
        print_json(facts)
    else:
        for name, value in facts.items():
            print(f"{name:<10} {value}")
    return 0
