"""`evergraft graph restore`: put back the routes of an earlier version, by a new commit."""

from __future__ import annotations

import argparse

from evergraft.cli.arguments import Subparsers, command, graph_argument, open_store, print_json, version_number
from evergraft.cli.arguments import task_id as as_task_id


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(
        commands,
        "restore",
        run,
        summary="put back the routes of an earlier version, by a new commit",
        epilog="Tasks that had no route at that version lose theirs, unless --task names one task. Run keys are never "
        "lowered: what was trained stays trained.",
    )
    graph_argument(parser)
    parser.add_argument("restored", type=version_number, metavar="VERSION", help="the version whose routes come back")
    parser.add_argument("--task", metavar="TASK", help="put back the route of this task alone")


def run(args: argparse.Namespace) -> int:
    """Restore."""
    from evergraft.store.restore import restore

    task = None if args.task is None else as_task_id(args.task)
    done = restore(open_store(args.url), args.restored, task=task).to_json()
    if args.json:
        print_json(done)
        return 0
    for name, route in done["routes"].items():
        print(f"{name}: {'no route, as then' if route is None else 'route ' + route[:12]}")
    what = "is how things stand already; nothing was written" if not done["routes"] else "is put back"
    print(f"version {done['version']}: version {args.restored} {what}")
    return 0
