"""The Task: one classification problem, its search and the workers that run it.

The one source of validation, defaults, messages and documentation of the kind. Read by ``api.load``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from evergraft.api.dataset import Dataset
from evergraft.api.fields import Duration, Items, Label, Part, TaskID, problem
from evergraft.api.metadata import TaskMetadata
from evergraft.api.search import Search
from evergraft.api.workers import Workers

API_VERSION = "evergraft.dev/v1alpha1"
DEFAULT_NAMESPACE = "default"


class GraphRef(Part):
    """The ModuleGraph a Task grows."""

    name: Label = "default"
    """Its name."""
    namespace: Label | None = None
    """Its namespace; the Task's own if left out."""


class Timeouts(Part):
    """Soft limits: workers commit the best so far and record that they stopped early."""

    start: Duration | None = None
    """How long the workers may take to start."""
    search: Duration | None = None
    """How long the search may take."""


def _each_once(ids: tuple[str, ...]) -> tuple[str, ...]:
    for index, task in enumerate(ids):
        if task in ids[:index]:
            raise problem(f"{task} stands twice; name each task once")
    return ids


class TaskSpec(Part):
    """What a Task asks for."""

    graph_ref: GraphRef = Field(default_factory=GraphRef)
    """The ModuleGraph to grow; immutable."""
    task_id: TaskID | None = Field(default=None, alias="taskID")
    """The task's key in the graph; immutable. Left out, namespace/name."""
    iteration: Annotated[int, Field(ge=1, le=999_999_999)] = 1
    """Which evolution of the task; only grows. A higher one evolves the task again."""
    after: Annotated[Items[TaskID], Field(max_length=100), AfterValidator(_each_once)] = ()
    """Ids of tasks that must have committed before this one starts."""
    suspend: bool = False
    """Whether to hold the search; it stays open."""
    visibility: Literal["Public", "Private"] = "Public"
    """Whether other tasks may build on this one; immutable."""
    deletion_policy: Literal["Retain", "Delete"] = "Retain"
    """What becomes of the route when the Task is deleted."""
    metric: Literal["Accuracy", "BalancedAccuracy", "MacroF1", "AUROC", "Top5"] = "Accuracy"
    """What quality is, in 0…1, on the validation split."""
    dataset: Dataset
    """The samples."""
    search: Search | None = None
    """How the task is searched."""
    timeouts: Timeouts | None = None
    """Soft limits."""
    workers: Workers | None = None
    """The pods that train; ignored on one machine."""


class Task(Part):
    """One classification problem: a dataset, a metric, a search budget, a visibility."""

    api_version: Literal["evergraft.dev/v1alpha1"]
    """Group and version of the API."""
    kind: Literal["Task"]
    """The kind."""
    metadata: TaskMetadata
    """Name and labels."""
    spec: TaskSpec
    """What is asked for."""
    status: Any = Field(default=None, exclude=True)
    """Written by the operator, a TaskStatus; passed over here."""

    @property
    def namespace(self) -> str:
        """The namespace, `default` if the document names none."""
        return self.metadata.namespace or DEFAULT_NAMESPACE

    @property
    def id(self) -> str:
        """The task's key in the graph."""
        return self.spec.task_id or f"{self.namespace}/{self.metadata.name}"
