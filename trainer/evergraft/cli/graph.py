"""`evergraft graph …`: make, check and look at a graph."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergraft.cli.arguments import (
    Subparsers,
    command,
    graph_argument,
    open_store,
    print_json,
    print_table,
    version_argument,
)
from evergraft.cli.arguments import task_id as as_task_id
from evergraft.errors import UserError

if TYPE_CHECKING:
    from evergraft.graph.commit import Action
    from evergraft.graph.route import RouteSummary
    from evergraft.store.lineage import LayerOrigin
    from evergraft.store.seam import Store


def add(commands: Subparsers) -> None:
    """Add the commands."""
    parser = commands.add_parser("graph", help="make, check and look at a graph", description="Work with a graph.")
    parser.set_defaults(run=None, parser=parser)
    graph = parser.add_subparsers(title="commands", metavar="COMMAND")

    init = command(graph, "init", run_init, summary="start a graph from a root, after probing that the store is fit")
    graph_argument(init)
    init.add_argument("--root", required=True, type=Path, metavar="FILE", help="a root or ModuleGraph YAML file")

    check = command(graph, "check", run_check, summary="probe that the store keeps the promises a graph needs")
    graph_argument(check)
    check.add_argument(
        "--deep", action="store_true", help="also race, lose answers and restart under a temporary prefix (a minute)"
    )

    show = command(graph, "show", run_show, summary="list the tasks and their routes")
    graph_argument(show)
    version_argument(show)

    history = command(graph, "log", run_log, summary="list the commits, newest first")
    graph_argument(history)
    history.add_argument("--limit", type=int, default=20, metavar="N", help="at most N commits (20)")

    lineage = command(graph, "lineage", run_lineage, summary="show a route's parents up to the root, layer by layer")
    graph_argument(lineage)
    lineage.add_argument("task", metavar="TASK", help="the task, such as digits or vision/cifar10")
    version_argument(lineage)

    verify = command(graph, "verify", run_verify, summary="check the log, every blob, every reference and privacy")
    graph_argument(verify)
    verify.add_argument("--answers", action="store_true", help="also recompute every route's golden answers")
    verify.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads for --answers (default 1)")

    imported = command(graph, "import-root", run_import_root, summary="turn a torchvision .pth file into a root file")
    imported.add_argument("weights", type=Path, metavar="PTH", help="a state dict as torchvision ships it")
    imported.add_argument("--backbone", required=True, metavar="NAME", help="such as vit_b_16 or resnet18")
    imported.add_argument("--out", required=True, type=Path, metavar="FILE", help="the root file to write")


def serving_route(store: Store, task: str, *, version: int | None) -> tuple[RouteSummary, int]:
    """The summary of a task's serving route, and the version read.

    Raises:
        UserError: the graph has no route of this task.
    """
    from evergraft.store import log

    state, at = log.read_task(store, task, version=version)
    if state is None or state.route is None:
        known = ", ".join(name for name, other in log.read_graph(store, version=version).tasks() if other.route)
        raise UserError(f"{task}: no route at version {at} of {store.url}; it has {known}")
    return state.route, at


def run_init(args: argparse.Namespace) -> int:
    """Start a graph."""
    from evergraft_trainer.roots import init_from_file

    graph = init_from_file(args.url, args.root)
    facts = {"graph": args.url, "version": graph.version}
    if args.json:
        print_json(facts)
    else:
        print(f"graph at {args.url} is ready (version {graph.version}); train into it with: evergraft run … --graph")
    return 0


def run_check(args: argparse.Namespace) -> int:
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


def run_show(args: argparse.Namespace) -> int:
    """List tasks."""
    from evergraft.store import log

    store = open_store(args.url)
    graph = log.read_graph(store, version=args.version)
    users = graph.users()
    rows: list[dict[str, Any]] = []
    for task, state in graph.tasks():
        route = state.route
        rows.append(
            {
                "task": task,
                "version": state.version,
                "run": str(state.run) if state.run else None,
                "outcome": state.outcome,
                "parent": route.parent_task if route else None,
                "quality": route.quality if route else None,
                "parametersActive": route.parameters if route else None,
                "parametersAdded": route.added if route else None,
                "users": max((users[module] for module in route.module_ids()), default=0) if route else None,
                "visibility": state.visibility,
                "route": route.id if route else None,
            }
        )
    if args.json:
        print_json({"version": graph.version, "tasks": rows})
        return 0
    print(f"version {graph.version}, {len(rows)} tasks, {len(users)} modules")
    columns = ("task", "version", "outcome", "parent", "quality", "active", "added", "users", "route")
    print_table(columns, [_show_row(row) for row in rows])
    return 0


def _show_row(row: dict[str, Any]) -> tuple[object, ...]:
    quality = row["quality"]
    return (
        row["task"],
        row["version"],
        row["outcome"],
        row["parent"],
        None if quality is None else f"{quality:.4f}",
        row["parametersActive"],
        row["parametersAdded"],
        row["users"],
        row["route"] and row["route"][:12],
    )


def run_log(args: argparse.Namespace) -> int:
    """List commits."""
    from evergraft.store import log

    store = open_store(args.url)
    newest = log.read_graph(store).version
    commits = [commit for commit, _ in log.read_commits(store, first=max(0, newest - args.limit + 1))][::-1]
    if args.json:
        print_json([commit.to_json() for commit in commits])
        return 0
    rows = [(c.version, c.time, c.author, "; ".join(map(_describe, c.actions))) for c in commits]
    print_table(("version", "time", "author", "actions"), rows)
    return 0


def _describe(action: Action) -> str:
    """An action in a few words."""
    value = action.to_json()
    match value["type"]:
        case "addModules":
            return f"add {len(value['modules'])} modules"
        case "putRoute":
            return f"put route {value['route']['id'][:12]} of {value['route']['task']}"
        case "closeSearch":
            return f"close {value['task']} {value['run']}: {value['outcome']}"
        case "removeRoute":
            return f"remove the route of {value['task']}"
        case "restore":
            return f"restore version {value['version']}"
        case other:
            return f"{other} {len(value['ids'])} ids"


def run_lineage(args: argparse.Namespace) -> int:
    """Show parents up to the root."""
    from evergraft.store.lineage import read_lineage

    store = open_store(args.url)
    summary, _ = serving_route(store, as_task_id(args.task), version=args.version)
    steps = read_lineage(store, summary.id)
    if args.json:
        print_json([step.to_json() for step in steps])
        return 0
    for step in steps:
        print(f"{step.route.task}  route {step.id[:12]}  {step.route.samples_seen} samples")
        columns = ("layer", "kind", "how", "by", "module", "deltas", "parameters")
        print_table(columns, [_lineage_row(origin) for origin in step.origins])
    return 0


def _lineage_row(origin: LayerOrigin) -> tuple[object, ...]:
    layer = origin.layer
    size = sum(parameters for _, parameters in layer.modules())
    return layer.name, layer.kind, origin.how, origin.by, layer.module[:12], len(layer.deltas) or None, size


def run_verify(args: argparse.Namespace) -> int:
    """Check the graph; exit 65 if anything is wrong."""
    from evergraft.store.verify import verify

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


def run_import_root(args: argparse.Namespace) -> int:
    """Turn a .pth file into a root file."""
    from evergraft_trainer.export import import_root

    facts = import_root(args.weights, backbone=args.backbone, out=args.out)
    if args.json:
        print_json(facts)
    else:
        print(f"{facts['file']}: {facts['layers']} layers, sha256 {facts['sha256']}")
    return 0
