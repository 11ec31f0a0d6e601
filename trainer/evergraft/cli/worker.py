"""`evergraft worker`: work on one search beside any number of others, as a pod does."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from evergraft.cli.arguments import Subparsers, command
from evergraft.errors import UserError


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(
        commands,
        "worker",
        run,
        summary="work on one search, beside any number of other workers, until it is closed",
        epilog="EVERGRAFT_SPEC may hold the search's JSON instead of --search or --task; EVERGRAFT_STATUS and "
        "EVERGRAFT_REPORT stand in for the flags. Exits 0 when the search is closed, 143 when asked to stop.",
    )
    parser.add_argument("--graph", required=True, metavar="URL", help="the graph: ./graph, gs://…, s3://…")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--search", metavar="ID", help="join this open search")
    which.add_argument("--task", type=Path, metavar="FILE", help="start, or join, the search of this Task")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default 1)")
    parser.add_argument("--device", choices=("cpu", "cuda", "xla"), default="cpu", help="where to train (default cpu)")
    parser.add_argument("--status", metavar="HOST:PORT", help="serve /metrics and /progress there")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the final report there")


def run(args: argparse.Namespace) -> int:
    """Carry it out."""
    from evergraft.cli.progress import worker_log
    from evergraft_trainer.worker import Assignment, Settings, run_worker

    report = args.report or os.environ.get("EVERGRAFT_REPORT")
    assignment = Assignment(args.graph, args.search, args.task, os.environ.get("EVERGRAFT_SPEC"))
    settings = Settings(
        device=args.device,
        threads=args.threads,
        status=_address(args.status or os.environ.get("EVERGRAFT_STATUS")),
        report=Path(report) if report else None,
    )
    return run_worker(assignment, settings, emit=worker_log())


def _address(text: str | None) -> tuple[str, int] | None:
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UserError(f"--status {text}: expected HOST:PORT, such as 127.0.0.1:9090")
    return host.strip("[]"), int(port)
