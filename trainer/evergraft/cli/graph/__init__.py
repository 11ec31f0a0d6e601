"""`evergraft graph …`: make, check, look at and keep a graph. One small file per command; this one only lists them."""

from __future__ import annotations

from evergraft.cli.arguments import Subparsers
from evergraft.cli.graph import check, copy, gc, import_root, init, lineage, log, remove, restore, show, verify
from evergraft.cli.graph.route import serving_route

__all__ = ["add", "serving_route"]

COMMANDS = (init, check, show, log, lineage, verify, gc, restore, remove, copy, import_root)


def add(commands: Subparsers) -> None:
    """Add the commands."""
    parser = commands.add_parser("graph", help="make, check and look at a graph", description="Work with a graph.")
    parser.set_defaults(run=None, parser=parser)
    graph = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        command.add(graph)
