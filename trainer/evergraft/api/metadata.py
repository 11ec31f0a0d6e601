"""The `metadata` of a manifest: what we read of it, and what Kubernetes adds and we pass over.

Called by ``api.task`` and ``api.modulegraph``.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from evergraft.api.fields import DNS_LABEL, Label, Part

_KUBERNETES_OWN = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)


class Metadata(Part):
    """Name and labels of a manifest."""

    name: Label
    """The object's name."""
    namespace: Label | None = None
    """Its namespace; on one machine `default` if left out."""
    labels: dict[str, str] | None = None
    """Labels, ours to pass over."""
    annotations: dict[str, str] | None = None
    """Annotations, ours to pass over."""

    @model_validator(mode="before")
    @classmethod
    def _without_kubernetes_own(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if key not in _KUBERNETES_OWN}


class TaskMetadata(Metadata):
    """Name and labels of a Task."""

    name: Annotated[str, Field(pattern=DNS_LABEL, min_length=1, max_length=48)]
    """The Task's name, at most 48 characters, so that the names of its Jobs fit."""
