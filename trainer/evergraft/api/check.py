"""A plain value, as YAML or the Kubernetes API gives it, becomes a Task or ModuleGraph, or a list of problems.

Called by ``api.load`` for files; the operator calls it for live objects.
"""

from __future__ import annotations

from typing import Any

from evergraft.api.ladders import shown
from evergraft.api.messages import Problem, did_you_mean, validate
from evergraft.api.modulegraph import ModuleGraph
from evergraft.api.strategies import strategy_problems
from evergraft.api.task import Task

KINDS = ("Task", "ModuleGraph")


def check(value: Any) -> tuple[Task | ModuleGraph | None, tuple[Problem, ...]]:
    """The document in `value`, or everything that is wrong with it."""
    if not isinstance(value, dict):
        return None, (Problem((), f"expected a Task or ModuleGraph object, got {shown(value)}"),)
    value = without_nulls(value)
    kind = value.get("kind")
    if kind == "Task":
        task, problems = validate(Task, value)
        return task, problems if task is None else _task_problems(task)
    if kind == "ModuleGraph":
        graph, problems = validate(ModuleGraph, value)
        return graph, problems if graph is None else _graph_problems(graph)
    if kind is None:
        return None, (Problem(("kind",), "required, but missing; allowed: " + ", ".join(KINDS)),)
    return None, (Problem(("kind",), f"{shown(kind)} is not known; {did_you_mean(str(kind), KINDS)}"),)


def without_nulls(value: Any) -> Any:
    """`value` without null fields: a field written as nothing is not written, as in Kubernetes."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def _task_problems(task: Task) -> tuple[Problem, ...]:
    waits = [
        Problem(("spec", "after", index), f"{other} is this task itself; it cannot wait for itself")
        for index, other in enumerate(task.spec.after)
        if other == task.id
    ]
    search = task.spec.search
    return (*waits, *(() if search is None else strategy_problems(search, ("spec", "search"))))


def _graph_problems(graph: ModuleGraph) -> tuple[Problem, ...]:
    defaults = graph.spec.task_defaults
    if defaults is None or defaults.search is None:
        return ()
    return strategy_problems(defaults.search, ("spec", "taskDefaults", "search"))
