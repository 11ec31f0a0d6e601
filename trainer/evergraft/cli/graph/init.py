"""`evergraft graph init`: start a graph from a root, after probing that the store is fit."""

from __future__ import annotations

import argparse
from pathlib import Path

from evergraft.cli.arguments import Subparsers, command, graph_argument, print_json


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(commands, "init", run, summary="start a graph from a root, after probing that the store is fit")
    graph_argument(parser)
    parser.add_argument("--root", required=True, type=Path, metavar="FILE", help="a root or ModuleGraph YAML file")


def run(args: argparse.Namespace) -> int:
    """Start a graph."""
    from evergraft_trainer.roots import init_from_file

    graph = init_from_file(args.url, args.root)
    facts = {"graph": args.url, "version": graph.version}
    if args.json:
        print_json(facts)
    else:
        print(f"graph at {args.url} is ready (version {graph.version}); train into it with: evergraft run … --graph")
    return 0
