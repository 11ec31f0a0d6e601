"""`evergraft graph gc`: condemn what no route needs, delete it after a grace period, and closed searches' folders."""

from __future__ import annotations

import argparse

from evergraft.cli.arguments import Subparsers, command, graph_argument, open_store, print_json
from evergraft.errors import UserError

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MAX_DIGITS = 10
"""Of a time's number: in seconds still more than 300 years."""


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(
        commands,
        "gc",
        run,
        summary="condemn blobs that no route needs, delete them after a grace period",
        epilog="A blob goes in three steps, each a grace period after the one before: condemned, deleted, its name "
        "free again. Each run takes every blob at most one step further.",
    )
    graph_argument(parser)
    parser.add_argument(
        "--grace", default="24h", metavar="TIME", help="how long each step waits, such as 90m, 24h or 7d (24h)"
    )
    parser.add_argument("--dry-run", action="store_true", help="write nothing, say what would be done")


def run(args: argparse.Namespace) -> int:
    """Collect."""
    from evergraft.store.gc import gc

    done = gc(open_store(args.url), grace_s=seconds(args.grace), dry_run=args.dry_run).to_json()
    if args.json:
        print_json(done)
        return 0
    print("would do:" if args.dry_run else f"version {done['version']}:")
    print(f"  {done['condemned']} blobs condemned, {done['waiting']} wait for {args.grace} to pass")
    freed = _size(done["bytesFreed"])
    print(f"  {done['deleted']} blobs, {done['optimizerStates']} optimiser states deleted ({freed})")
    print(f"  {done['swept']} names free again, {done['searchFolders']} folders of closed searches deleted")
    print(f"  {done['kept']} blobs in use")
    for search in done["openSearches"]:
        print(f"  open search {search}: what it may build on is kept")
    return 0


def seconds(text: str) -> float:
    """The seconds of a time such as 90m.

    Raises:
        UserError: it is none.
    """
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS_S or not number.isdecimal():
        raise UserError(f"--grace: {text!r} is no time; write a whole number and s, m, h or d, such as 24h")
    if len(number) > MAX_DIGITS:
        raise UserError(f"--grace: a number of {len(number)} digits; write at most {MAX_DIGITS}, such as 365d")
    return float(int(number) * UNITS_S[unit])


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
