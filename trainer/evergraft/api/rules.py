"""Rules beyond a document's own form: what a cluster refuses, and what may not change.

Pure functions of documents; the CRDs state the same rules in CEL. Called by the operator, and by the command line
to say what a cluster would not take.
"""

from __future__ import annotations

import re
from typing import Any

from evergraft.api.messages import Problem
from evergraft.api.modulegraph import ModuleGraph
from evergraft.api.task import Task, TaskSpec

_HOST = r"[A-Za-z0-9][-.:_A-Za-z0-9]*(/[^?#\x00-\x1f]*)?$"
CLUSTER_URL = r"^(gs|s3)://" + _HOST
"""What a cluster reads, without user info, query or fragment; the CRDs hold the same."""
CLUSTER_WEIGHTS = r"^(gs|s3|https)://" + _HOST
"""The same for the weights of a root."""


def cluster_problems(document: Task | ModuleGraph) -> tuple[Problem, ...]:
    """What a cluster refuses in a document that is fine on one machine: local places, a missing store."""
    if isinstance(document, Task):
        return _place_problems(document.spec.dataset.url, ("spec", "dataset", "url"))
    store, weights = document.spec.store, document.spec.root.weights
    problems: tuple[Problem, ...] = () if store is not None else (Problem(("spec", "store"), "required, but missing"),)
    problems += _place_problems(store.url if store else None, ("spec", "store", "url"))
    if weights is not None and not re.search(CLUSTER_WEIGHTS, weights.url):
        problems += (Problem(("spec", "root", "weights", "url"), "a cluster reads gs://, s3:// and https:// only"),)
    return problems


def _place_problems(url: str | None, path: tuple[str, ...]) -> tuple[Problem, ...]:
    if url is None or re.search(CLUSTER_URL, url):
        return ()
    return (Problem(path, f'"{url}" is on one machine; a cluster reads gs:// and s3:// or a persistentVolumeClaim'),)


def ignored_locally(task: Task) -> tuple[str, ...]:
    """The fields that the document writes and a run on one machine passes over, for one line of notice."""
    written = task.spec.model_fields_set
    names = [name for name in ("suspend", "deletion_policy", "workers") if name in written]
    fields = [TaskSpec.model_fields[name].alias or name for name in names]
    if task.spec.timeouts is not None and task.spec.timeouts.start is not None:
        fields.append("timeouts.start")
    if task.spec.dataset.secret_ref is not None:
        fields.append("dataset.secretRef")
    return tuple(f"spec.{field}" for field in fields)


def transition_problems(old: Task | ModuleGraph, new: Task | ModuleGraph) -> tuple[Problem, ...]:
    """What of the change from `old` to `new`, two states of one object, is not allowed."""
    if isinstance(old, Task) and isinstance(new, Task):
        return _task_transition(old.spec, new.spec)
    if isinstance(old, ModuleGraph) and isinstance(new, ModuleGraph):
        return _graph_transition(old, new)
    raise ValueError("a Task and a ModuleGraph are not two states of one object")


def _task_transition(old: TaskSpec, new: TaskSpec) -> tuple[Problem, ...]:
    problems = [
        *_immutable("graphRef", old.graph_ref, new.graph_ref),
        *_immutable("taskID", old.task_id, new.task_id),
        *_immutable("visibility", old.visibility, new.visibility),
    ]
    if new.iteration < old.iteration:
        problems.append(Problem(("spec", "iteration"), f"only grows; it is {old.iteration}"))
    if new.iteration <= old.iteration:
        problems += [
            Problem(("spec", name), f"changes only with a higher iteration; set iteration to {old.iteration + 1}")
            for name in ("dataset", "metric", "search")
            if getattr(old, name) != getattr(new, name)
        ]
    return tuple(problems)


def _graph_transition(old: ModuleGraph, new: ModuleGraph) -> tuple[Problem, ...]:
    places = [
        (spec.store.url if spec.store else None, spec.store.persistent_volume_claim if spec.store else None)
        for spec in (old.spec, new.spec)
    ]
    return (
        *_immutable("store.url", places[0][0], places[1][0]),
        *_immutable("store.persistentVolumeClaim", places[0][1], places[1][1]),
        *_immutable("root", old.spec.root, new.spec.root),
    )


def _immutable(field: str, old: Any, new: Any) -> tuple[Problem, ...]:
    if old == new:
        return ()
    return (Problem(("spec", *field.split(".")), "immutable; make a new object instead"),)
