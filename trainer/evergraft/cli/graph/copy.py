"""`evergraft graph copy`: a whole graph to another store, resumable, verified at the end."""

from __future__ import annotations

import argparse
import sys

from evergraft.cli.arguments import Subparsers, command, open_store, print_json


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(
        commands,
        "copy",
        run,
        summary="copy a whole graph to another store, and verify it there",
        epilog="Cut off, the same command goes on. Searches at work stay where they are.",
    )
    parser.add_argument("source", metavar="FROM", help="URL or folder of the graph: gs://…, s3://…, ./graph")
    parser.add_argument("target", metavar="TO", help="an empty place, or an earlier copy of the same graph")


def run(args: argparse.Namespace) -> int:
    """Copy."""
    from evergraft.store.copy import copy_graph

    done = copy_graph(open_store(args.source), open_store(args.target), progress=_tell).to_json()
    if args.json:
        print_json(done)
        return 0
    for key in done["damaged"]:
        print(f"left out, since its bytes are damaged and no route needs it: {key}")
    print(
        f"version {done['version']}: {done['blobs']} blobs ({done['bytes']} bytes) and {done['commits']} commits copied"
    )
    print(f"{args.target}: everything holds")
    return 0


def _tell(what: str, done: int, total: int) -> None:
    print(f"copy: {what} {done} of {total}", file=sys.stderr, flush=True)
