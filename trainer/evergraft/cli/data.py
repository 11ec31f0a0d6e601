"""`evergraft data check`: everything a search would check of a dataset, alone."""

from __future__ import annotations

import argparse

from evergraft.cli.arguments import Subparsers, command, print_json, print_table
from evergraft.errors import UserError


def add(commands: Subparsers) -> None:
    """Add the commands."""
    parser = commands.add_parser("data", help="check datasets", description="Check datasets.")
    parser.set_defaults(run=None, parser=parser)
    check = command(
        parser.add_subparsers(title="commands", metavar="COMMAND"),
        "check",
        run_check,
        summary="read a dataset as a search would: labels, counts, splits, what is refused and why",
    )
    check.add_argument("url", metavar="URL", help="folder, .npz or .parquet: a path, gs://… or s3://…")
    check.add_argument("--format", default="Auto", choices=("Auto", "ImageFolder", "Npz", "Parquet"))
    check.add_argument("--train", metavar="SPLIT", help="such as train or train[:90%%]")
    check.add_argument("--validation", metavar="SPLIT", help="such as train[90%%:]")
    check.add_argument("--test", metavar="SPLIT")
    check.add_argument("--max-bad-fraction", type=float, default=0.01, metavar="F", help="unreadable allowed (0.01)")


def run_check(args: argparse.Namespace) -> int:
    """Carry it out."""
    from pathlib import Path

    from evergraft.api.places import located
    from evergraft.api.resolved import ResolvedDataset
    from evergraft_trainer.data.check import check

    if not 0 <= args.max_bad_fraction <= 1:
        raise UserError(f"--max-bad-fraction {args.max_bad_fraction}: expected a number from 0 to 1")
    spec = ResolvedDataset(
        url=located(args.url, base=Path.cwd()),
        format=args.format,
        class_weights="None",
        max_bad_fraction=args.max_bad_fraction,
        train=args.train,
        validation=args.validation,
        test=args.test,
        endpoint=None,
    )
    report = check(spec)
    if args.json:
        print_json(report)
        return 0
    splits = list(report["counts"])
    labels = list(report["counts"].get("train", {}))
    print_table(
        ("label", *splits), [(label, *(report["counts"][split].get(label, 0) for split in splits)) for label in labels]
    )
    print(f"{len(labels)} labels; " + ", ".join(f"{split} {sum(report['counts'][split].values())}" for split in splits))
    return 0
