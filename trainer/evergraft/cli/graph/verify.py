"""`evergraft graph verify`: walk the log, every blob, every reference; say what is wrong and whom it touches."""

from __future__ import annotations

import argparse
from typing import Any

from evergraft.cli.arguments import Subparsers, check_counts, command, graph_argument, open_store, print_json


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(commands, "verify", run, summary="check the log, every blob, every reference and privacy")
    graph_argument(parser)
    parser.add_argument("--answers", action="store_true", help="also recompute every route's golden answers")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads for --answers (default 1)")


def run(args: argparse.Namespace) -> int:
    """Check the graph; exit 65 if anything is wrong."""
    from evergraft.store.verify import verify

    check_counts(args, "threads")
    report = verify(open_store(args.url)).to_json()
    if args.answers:
        from evergraft_trainer.answers import verify_answers

        report["answers"] = verify_answers(args.url, threads=args.threads)
        report["ok"] = report["ok"] and all(row["holds"] for row in report["answers"])
    if args.json:
        print_json(report)
    else:
        _print_report(report)
    return 0 if report["ok"] else 65


def _print_report(report: dict[str, Any]) -> None:
    for finding in report["findings"]:
        print(f"WRONG {finding['what']} (touches {', '.join(finding['routes']) or 'no route'})")
    for row in report.get("answers", ()):
        print(f"{'ok   ' if row['holds'] else 'WRONG'} {row['task']}: golden answers {row['how']}")
    print("everything holds" if report["ok"] else "the graph is damaged: see above")
