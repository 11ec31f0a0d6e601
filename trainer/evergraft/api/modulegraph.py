"""The ModuleGraph: where a graph is stored, its root, who may use it, and defaults for its tasks.

The one source of validation, defaults, messages and documentation of the kind. Read by ``api.load``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from evergraft.api.dataset import Place
from evergraft.api.fields import CRON, Duration, Items, Labels, Name, Part, problem
from evergraft.api.metadata import Metadata
from evergraft.api.root import Root
from evergraft.api.search import Search
from evergraft.api.task import DEFAULT_NAMESPACE
from evergraft.api.workers import Workers


class Store(Place):
    """Where the graph is kept; immutable."""


class Selector(Part):
    """A label selector over namespaces."""

    match_labels: Labels | None = None
    """Labels a namespace must have."""
    match_expressions: Annotated[Items[dict[str, Any]], Field(max_length=64)] | None = None
    """Kubernetes label expressions a namespace must meet."""


class AllowedNamespaces(Part):
    """Whose Tasks may grow the graph."""

    from_: Literal["Same", "All", "Selector"] = Field(default="Same", alias="from")
    """The graph's own namespace, all, or those the selector meets."""
    selector: Selector | None = None
    """Which namespaces; required with from Selector, refused otherwise."""

    @model_validator(mode="after")
    def _selector_fits(self) -> Self:
        if (self.from_ == "Selector") != (self.selector is not None):
            raise problem("give selector with from: Selector, and only then")
        return self


class TaskDefaults(Part):
    """What the graph's Tasks use where they say nothing."""

    search: Search | None = None
    """Defaults of `spec.search`."""
    workers: Workers | None = None
    """Defaults of `spec.workers`."""


class Maintenance(Part):
    """Verification and collection of the store."""

    service_account_name: Name | None = None
    """The identity that may delete."""
    schedule: Annotated[str, Field(pattern=CRON, max_length=64)] | None = None
    """When unused blobs are collected, as cron."""
    verify: Literal["Never", "Daily", "Weekly", "Monthly"] | None = None
    """How often the whole store is verified."""
    grace_period: Duration | None = None
    """How long an unused blob is kept."""


class ModuleGraphSpec(Part):
    """What a ModuleGraph asks for."""

    store: Store | None = None
    """Where the graph is kept; immutable. Required in a cluster; on one machine --graph takes its place."""
    root: Root
    """The backbone every route descends from; immutable."""
    allowed_namespaces: AllowedNamespaces | None = None
    """Whose Tasks may grow the graph; left out, those of its own namespace."""
    task_defaults: TaskDefaults | None = None
    """What the graph's Tasks use where they say nothing."""
    maintenance: Maintenance | None = None
    """Verification and collection of the store."""

    @model_validator(mode="after")
    def _volume_serves_one_namespace(self) -> Self:
        volume = self.store is not None and self.store.persistent_volume_claim is not None
        if volume and self.allowed_namespaces is not None and self.allowed_namespaces.from_ != "Same":
            raise problem("a persistentVolumeClaim serves its own namespace only: allowedNamespaces.from must be Same")
        return self


class ModuleGraph(Part):
    """One growing graph of modules: its store, its root, its defaults."""

    api_version: Literal["evergraft.dev/v1alpha1"]
    """Group and version of the API."""
    kind: Literal["ModuleGraph"]
    """The kind."""
    metadata: Metadata
    """Name and labels."""
    spec: ModuleGraphSpec
    """What is asked for."""
    status: Any = Field(default=None, exclude=True)
    """Written by the operator, a ModuleGraphStatus; passed over here."""

    @property
    def namespace(self) -> str:
        """The namespace, `default` if the document names none."""
        return self.metadata.namespace or DEFAULT_NAMESPACE
