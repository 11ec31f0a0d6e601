"""`evergraft graph check`: try whether a store keeps the promises a graph needs."""

from __future__ import annotations

import argparse

from evergraft.cli.arguments import Subparsers, command, graph_argument, print_json


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(commands, "check", run, summary="probe that the store keeps the promises a graph needs")
    graph_argument(parser)
    parser.add_argument(
        "--deep", action="store_true", help="also race, lose answers and restart under a temporary prefix (a minute)"
    )


def run(args: argparse.Namespace) -> int:
    """Probe the store; exit 64 if it is unfit."""
    from evergraft.store.open import open_store as open_url
    from evergraft.store.probe import probe

    probe(open_url, args.url)
    if args.deep:
        return _check_deep(args)
    if args.json:
        print_json({"graph": args.url, "fit": True})
    else:
        print(f"{args.url}: fit (a second create loses, of racing writers one wins, a new object is seen at once)")
    return 0


def _check_deep(args: argparse.Namespace) -> int:
    """Try the store the hard way."""
    from evergraft.store.open import open_store as open_url
    from evergraft.testing.deep import deep_check

    report = deep_check(open_url, args.url, progress=None if args.json else lambda name: print(f"trying: {name}"))
    if args.json:
        print_json(report.to_json())
    else:
        for trial in report.trials:
            print(f"{'WRONG' if trial.wrong else 'ok   '} {trial.name} ({trial.seconds:.1f} s)")
            for what in trial.wrong:
                print(f"      {what}")
        if report.left:
            print(f"{report.left} objects under probe/ could not be deleted with these credentials")
        print(f"{args.url}: {'fit' if report.holds else 'cannot hold a graph: it would lose or confuse commits'}")
    return 0 if report.holds else 64
