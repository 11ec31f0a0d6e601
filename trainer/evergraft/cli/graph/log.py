"""`evergraft graph log`: the commits, newest first, each in a line."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from evergraft.cli.arguments import (
    Subparsers,
    check_counts,
    command,
    graph_argument,
    open_store,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from evergraft.graph.commit import Action


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(commands, "log", run, summary="list the commits, newest first")
    graph_argument(parser)
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="at most N commits (20)")


def run(args: argparse.Namespace) -> int:
    """List commits."""
    from evergraft.store import log

    check_counts(args, "limit")
    store = open_store(args.url)
    newest = log.read_graph(store).version
    commits = [commit for commit, _ in log.read_commits(store, first=max(0, newest - args.limit + 1))][::-1]
    if args.json:
        print_json([commit.to_json() for commit in commits])
        return 0
    rows = [(c.version, c.time, c.author, "; ".join(map(_describe, c.actions))) for c in commits]
    print_table(("version", "time", "author", "actions"), rows)
    return 0


def _describe(action: Action) -> str:
    """An action in a few words."""
    value = action.to_json()
    match value["type"]:
        case "addModules":
            return f"add {len(value['modules'])} modules"
        case "putRoute":
            return f"put route {value['route']['id'][:12]} of {value['route']['task']}"
        case "closeSearch":
            return f"close {value['task']} {value['run']}: {value['outcome']}"
        case "removeRoute":
            return f"remove the route of {value['task']}"
        case "restore":
            return f"restore version {value['version']}"
        case other:
            return f"{other} {len(value['ids'])} ids"
