"""The final report of a worker: JSON of at most 4,096 bytes, written to a path, as a pod's termination message.

The operator reads it, so it says what the operator must know without opening the store. Called by the worker.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evergraft import canonical
from evergraft.graph.state import Graph
from evergraft.search.engine import Outcome, Request

MAX_BYTES = 4096
MAX_REASON = 1000
SPARE = ("counters", "graph", "route")
"""What is left out first where the report would be too long."""


def closed(request: Request, outcome: Outcome, graph: Graph) -> dict[str, Any]:
    """The report of a search that is closed."""
    route = outcome.route
    return {
        "task": request.spec.task,
        "search": request.search,
        "run": str(request.run),
        "outcome": outcome.kind,
        "reason": outcome.reason,
        "version": outcome.version,
        "route": None
        if route is None
        else {
            "id": route.id,
            "quality": route.quality,
            "parentTask": route.parent_task,
            "parameters": route.parameters,
            "parametersAdded": route.added,
            "samples": route.samples,
        },
        "graph": graph_totals(graph),
    }


def ended(request: Request | None, *, outcome: str, reason: str, exit_code: int) -> dict[str, Any]:
    """The report of a worker that ended before its search was closed: error, stopped or crashed."""
    where = {"task": request.spec.task, "search": request.search, "run": str(request.run)} if request else {}
    return {**where, "outcome": outcome, "reason": reason, "exitCode": exit_code}


def graph_totals(graph: Graph) -> dict[str, int]:
    """Version, tasks with a route (the root not counted), modules in use and their parameters."""
    routes = list(graph.routes())
    sizes = {module: size for route in routes for layer in route.layers for module, size in layer.modules()}
    tasks = sum(not route.is_root for route in routes)
    return {"version": graph.version, "tasks": tasks, "modules": len(sizes), "parameters": sum(sizes.values())}


def encode(report: Mapping[str, Any], counters: Mapping[str, float]) -> bytes:
    """The bytes of a report, at most 4,096: the reason is cut, then what matters least is left out."""
    whole = {"format": canonical.FORMAT, **report, "counters": dict(counters)}
    whole["reason"] = str(whole.get("reason", ""))[:MAX_REASON]
    for spare in (None, *SPARE):
        whole.pop(spare or "", None)
        data = json.dumps(whole, ensure_ascii=True, sort_keys=True).encode()
        if len(data) <= MAX_BYTES:
            return data
    return json.dumps({**whole, "reason": whole["reason"][:200]}, ensure_ascii=True).encode()[:MAX_BYTES]


def write(path: Path, data: bytes) -> None:
    """Write the report; the path is given by whoever started the worker."""
    path.write_bytes(data)
