"""`evergraft graph show`: the tasks and their routes, at any version; what transfer was worth to each.

Everything comes from the summaries in the log: no route document is read.
"""

from __future__ import annotations

import argparse
from typing import Any

from evergraft.cli.arguments import (
    Subparsers,
    command,
    graph_argument,
    open_store,
    print_json,
    print_table,
    version_argument,
)


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(commands, "show", run, summary="list the tasks and their routes")
    graph_argument(parser)
    version_argument(parser)


def run(args: argparse.Namespace) -> int:
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
                "score": route.score if route else None,
                "overLinearProbe": _points(route.over_linear_probe) if route else None,
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
    columns = (
        "task",
        "version",
        "outcome",
        "parent",
        "quality",
        "transfer",
        "score",
        "active",
        "added",
        "users",
        "route",
    )
    print_table(columns, [_show_row(row) for row in rows])
    return 0


def _show_row(row: dict[str, Any]) -> tuple[object, ...]:
    return (
        row["task"],
        row["version"],
        row["outcome"],
        row["parent"],
        _share(row["quality"]),
        "-" if row["overLinearProbe"] is None else f"{row['overLinearProbe']:+.1f}",
        _share(row["score"]),
        row["parametersActive"],
        row["parametersAdded"],
        row["users"],
        row["route"] and row["route"][:12],
    )


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _points(share: float | None) -> float | None:
    """Points of quality, to the hundredth; -0.0 is 0.0."""
    return None if share is None else round(share * 100, 2) + 0.0
