"""`evergraft replay`: recompute every decision of a search from what is recorded, and compare."""

from __future__ import annotations

import argparse

from evergraft.cli.arguments import Subparsers, check_search, command, graph_argument, open_store, print_json


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(
        commands, "replay", run, summary="recompute every decision of a search from its folder, and compare"
    )
    graph_argument(parser)
    parser.add_argument("search", metavar="SEARCH", help="the search's id, as graph log --json and explain show it")


def run(args: argparse.Namespace) -> int:
    """Carry it out; exit 65 if a decision differs."""
    from evergraft.search.replayed import replay_search

    check_search(args.search, named="SEARCH")
    found = replay_search(open_store(args.url), args.search)
    if args.json:
        print_json(found.to_json())
    else:
        print("\n".join(found.lines()))
    return 0 if found.same else 65
