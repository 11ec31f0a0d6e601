"""What a Task comes to in a cluster: Task over ModuleGraph over the operator's defaults over built-in values.

Done once, when an attempt starts; the result travels to the workers as canonical JSON. Called by ``admission`` and
the Job builders; raises only what names the field to change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from evergraft.api.dataset import Place
from evergraft.api.modulegraph import ModuleGraph, TaskDefaults
from evergraft.api.resolve import resolve, spec_hash, task_hash
from evergraft.api.resolved import ResolvedTask
from evergraft.api.search import Search
from evergraft.api.task import Task
from evergraft.api.workers import Accelerator, PodTemplate, Workers
from evergraft_operator.settings import Settings

STORE_VOLUME = PurePosixPath("/mnt/evergraft/store")
DATA_VOLUME = PurePosixPath("/mnt/evergraft/data")
"""Where pods find claims that stand in for URLs."""


@dataclass(frozen=True)
class Wanted:
    """A Task with its graph, everything settled. `workers` has the layers merged; `accelerator` is never absent."""

    task: Task
    graph: ModuleGraph
    resolved: ResolvedTask
    task_hash: str
    spec_hash: str
    workers: Workers

    @property
    def accelerator(self) -> Accelerator:
        """What a worker computes on."""
        return self.workers.accelerator or Accelerator()

    @property
    def replicas(self) -> int:
        """How many workers are asked for."""
        return 1 if self.workers.replicas is None else self.workers.replicas

    @property
    def cycles(self) -> int:
        """Searches in a row."""
        return self.resolved.search.cycles


def want(task: Task, graph: ModuleGraph, settings: Settings) -> Wanted:
    """Settle every value.

    Raises:
        SpecError: a value does not fit the strategy that will run, or the budget is too small for it.
    """
    written = graph.spec.task_defaults or TaskDefaults()
    search = _over(written.search, _fitting(settings.defaults.search, task, written), Search)
    defaults = TaskDefaults(search=search)
    layered = graph.model_copy(update={"spec": graph.spec.model_copy(update={"task_defaults": defaults})})
    resolved = resolve(_with_url(task), graph=layered, base=Path("/")).task
    workers = _over(task.spec.workers, _over(written.workers, settings.defaults.workers, Workers), Workers)
    return Wanted(
        task=task,
        graph=graph,
        resolved=resolved,
        task_hash=task_hash(task),
        spec_hash=spec_hash(resolved),
        workers=workers,
    )


def place_url(place: Place, volume: PurePosixPath) -> str:
    """The URL workers use: the place's own, or that of the folder where its claim is mounted."""
    if place.url is not None:
        return place.url
    assert place.persistent_volume_claim is not None  # The model holds one of the two.
    return f"file://{volume / (place.persistent_volume_claim.path or '')}"


def _with_url(task: Task) -> Task:
    """`task` with a claim replaced by where it is mounted; the hash is taken of the Task as it is written."""
    dataset = task.spec.dataset
    if dataset.url is not None:
        return task
    here = dataset.model_copy(update={"url": place_url(dataset, DATA_VOLUME), "persistent_volume_claim": None})
    return task.model_copy(update={"spec": task.spec.model_copy(update={"dataset": here})})


def _fitting(defaults: Search | None, task: Task, graph: TaskDefaults) -> Search | None:
    """The operator's defaults, without another strategy's settings where a layer above names a strategy."""
    above = (task.spec.search or Search()).strategy or (graph.search or Search()).strategy
    if defaults is None or above in (None, defaults.strategy):
        return defaults
    return defaults.model_copy(update={"strategy": None, "parameters": None, "hyperparameters": None})


def _over(upper: Any, lower: Any, model: type[Any]) -> Any:
    """Field by field, what `upper` sets, else what `lower` does; a podTemplate likewise."""
    if upper is None or lower is None:
        return upper or lower or model()
    values = {name: getattr(upper, name) for name in model.model_fields if getattr(upper, name) is not None}
    if isinstance(upper, Workers) and upper.pod_template is not None and lower.pod_template is not None:
        values["pod_template"] = _over(upper.pod_template, lower.pod_template, PodTemplate)
    return lower.model_copy(update=values)
