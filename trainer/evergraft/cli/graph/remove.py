"""`evergraft graph remove`: take a task's route away; refused while others build on it, unless forced."""

from __future__ import annotations

import argparse

from evergraft.cli.arguments import Subparsers, command, graph_argument, open_store, print_json
from evergraft.cli.arguments import task_id as as_task_id


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(
        commands, "remove", run, summary="take a task's route away; its modules stay while others use them"
    )
    graph_argument(parser)
    parser.add_argument("task", metavar="TASK", help="the task, such as digits or vision/cifar10")
    parser.add_argument("--force", action="store_true", help="also while other tasks build on it")


def run(args: argparse.Namespace) -> int:
    """Remove."""
    from evergraft.store.remove import remove_route

    task = as_task_id(args.task)
    version = remove_route(open_store(args.url), task, force=args.force).version
    if args.json:
        print_json({"task": task, "version": version})
    else:
        print(f"version {version}: {task} has no route; graph restore {version - 1} --task {task} would put it back")
    return 0
