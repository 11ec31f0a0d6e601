"""`evergraft run`: train the tasks of some files into a graph, here, without a cluster."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from evergraft.cli.arguments import Subparsers, check_counts, command, print_json, print_table

COLUMNS = ("task", "outcome", "parent", "quality", "test", "active", "added", "samples", "seconds", "why")


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(
        commands,
        "run",
        run,
        summary="train tasks, one after another, into a graph on this machine",
        epilog="Tasks run in file order, after those they name in `after`. Run again after a stop: it goes on.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="Task YAML files, or folders of them")
    parser.add_argument("--graph", required=True, metavar="URL", help="the graph: ./graph, gs://…, s3://…")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of the worker (default 1)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="worker processes (default 1)")
    parser.add_argument(
        "--at-once", action="store_true", help="let each worker begin with another task: several searches at once"
    )
    parser.add_argument("--passes", type=int, default=1, metavar="N", help="go over all tasks N times (default 1)")
    parser.add_argument("--device", choices=("cpu", "cuda", "xla"), default="cpu", help="where to train (default cpu)")


def run(args: argparse.Namespace) -> int:
    """Carry it out."""
    from evergraft.cli.progress import reporter
    from evergraft_trainer.run import Settings, run_files

    check_counts(args, "threads", "workers", "passes")
    settings = Settings(
        threads=args.threads,
        device=args.device,
        workers=args.workers,
        passes=args.passes,
        at_once=args.at_once,
    )
    with reporter(as_json=args.json) as emit:
        report = run_files(args.files, graph_url=args.graph, settings=settings, emit=emit)
    rows = [row.to_json() for row in report.rows]
    if args.json:
        print_json(rows)
        return report.exit_code
    print_table(COLUMNS, [_cells(row) for row in rows])
    for row in report.rows:
        if row.exit_code:
            print(f"evergraft: {row.task}: {row.outcome}: {row.reason}", file=sys.stderr)
    return report.exit_code


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    return (
        row["task"],
        row["outcome"],
        row.get("parent"),
        _share(row.get("quality")),
        _share(row.get("testQuality")),
        row.get("parametersActive"),
        row.get("parametersAdded"),
        row.get("samples"),
        f"{row['seconds']:.1f}",
        row.get("why") if row["outcome"] in ("committed", "already") else row["reason"],
    )


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"
