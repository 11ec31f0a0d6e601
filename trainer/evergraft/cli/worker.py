"""`evergraft worker`: work on one search beside any number of others, as a pod does."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from evergraft.cli.arguments import Subparsers, check_counts, check_search, command
from evergraft.errors import UserError


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(
        commands,
        "worker",
        run,
        summary="work on one search, beside any number of other workers, until it is closed",
        epilog="EVERGRAFT_SPEC may hold the search's JSON instead of --search or --task; EVERGRAFT_STATUS, "
        "EVERGRAFT_REPORT and EVERGRAFT_DEVICES stand in for the flags. Exits 0 when the search is closed, 143 when "
        "asked to stop.",
    )
    parser.add_argument("--graph", required=True, metavar="URL", help="the graph: ./graph, gs://…, s3://…")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--search", metavar="ID", help="join this open search")
    which.add_argument("--task", type=Path, metavar="FILE", help="start, or join, the search of this Task")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default 1)")
    parser.add_argument("--device", choices=("cpu", "cuda", "xla"), default="cpu", help="where to train (default cpu)")
    parser.add_argument("--devices", type=int, metavar="N", help="one worker process on each of N devices (default 1)")
    parser.add_argument("--status", metavar="HOST:PORT", help="serve /metrics and /progress there")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the final report there")


def run(args: argparse.Namespace) -> int:
    """Carry it out."""
    from evergraft_trainer.stopping import empty_report, ends_at_once

    report = args.report or os.environ.get("EVERGRAFT_REPORT")
    path = Path(report) if report else None
    if path is not None:
        empty_report(path, named="--report (or EVERGRAFT_REPORT)")
    with ends_at_once(path):
        try:
            check_counts(args, "threads")
            if args.search is not None:
                check_search(args.search, named="--search")
            status = _address(args.status or os.environ.get("EVERGRAFT_STATUS"))
            count = _devices(args.devices, os.environ.get("EVERGRAFT_DEVICES"))
            return _one(args, status, path) if count == 1 else _several(args, count, status, path)
        except UserError as error:
            _say_why(path, error)
            raise


def _one(args: argparse.Namespace, status: tuple[str, int] | Path | None, report: Path | None) -> int:
    from evergraft.cli.worker_log import worker_log
    from evergraft_trainer.pool import FOLLOW_PARENT
    from evergraft_trainer.worker import Assignment, Settings, run_worker

    together = os.environ.get(FOLLOW_PARENT, "")
    assignment = Assignment(args.graph, args.search, args.task, os.environ.get("EVERGRAFT_SPEC"))
    settings = Settings(
        device=args.device,
        threads=args.threads,
        status=status,
        report=report,
        expected=max(1, int(together) - 1) if together.isdecimal() else 1,
        follow_parent=bool(together),
    )
    return run_worker(assignment, settings, emit=worker_log(os.environ))


def _several(args: argparse.Namespace, count: int, status: tuple[str, int] | Path | None, report: Path | None) -> int:
    from evergraft_trainer.devices import run_devices

    arguments = ["--graph", args.graph, "--threads", str(args.threads), "--device", args.device]
    arguments += ["--search", args.search] if args.search else []
    arguments += ["--task", str(args.task)] if args.task else []
    return run_devices(arguments, count=count, kind=args.device, status=status, report_path=report)


def _say_why(report: Path | None, error: UserError) -> None:
    """A report for what went wrong before a worker was there to write one."""
    if report is None or (report.exists() and report.stat().st_size):
        return
    from evergraft_trainer.report import encode, failed, write

    write(report, encode(failed(None, error)))


def _devices(flag: int | None, variable: str | None) -> int:
    text = str(flag) if flag is not None else variable or "1"
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= 64:
        raise UserError(f"--devices (or EVERGRAFT_DEVICES) {text!r}: expected a number from 1 to 64")
    return int(text)


def _address(text: str | None) -> tuple[str, int] | Path | None:
    """HOST:PORT, or unix:PATH as a parent gives it to its workers."""
    if not text:
        return None
    if text.startswith("unix:"):
        return Path(text.removeprefix("unix:"))
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise UserError(f"--status {text}: expected HOST:PORT, such as 127.0.0.1:9090")
    return host.strip("[]"), int(port)
