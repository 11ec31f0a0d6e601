"""The `dataset` of a Task and the references to Secrets, ConfigMaps and volumes that it shares with a store.

Called by ``api.task`` and ``api.modulegraph``.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from evergraft.api.fields import ClaimPath, Endpoint, Fraction, Name, Part, SplitText, Url, exactly_one, problem


class SecretRef(Part):
    """A Secret in the Task's own namespace."""

    name: Name
    """The Secret's name."""


class ConfigMapKeyRef(Part):
    """One key of a ConfigMap."""

    name: Name
    """The ConfigMap's name."""
    key: str = Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")
    """The key in it."""


class CABundle(Part):
    """Certificates to trust for the endpoint."""

    config_map_key_ref: ConfigMapKeyRef
    """The ConfigMap key that holds the PEM bundle."""


class PersistentVolumeClaim(Part):
    """A folder in a volume of the cluster."""

    claim_name: Name
    """The claim's name, in the same namespace."""
    path: ClaimPath | None = None
    """A folder inside the volume; its root if left out."""


class Place(Part):
    """Where objects are: a URL with what it takes to reach it, or a volume."""

    url: Url | None = None
    """A gs:// or s3:// URL, without user info or query. On one machine also file:// or a path."""
    persistent_volume_claim: PersistentVolumeClaim | None = None
    """A volume instead of a URL; only in a cluster."""
    endpoint: Endpoint | None = None
    """Another address of the object store than the cloud's own; only with secretRef, so that ambient tokens go nowhere
    else. http is allowed."""
    secret_ref: SecretRef | None = None
    """The Secret with the credentials; left out, the pod's identity is used."""
    ca_bundle: CABundle | None = Field(default=None, alias="caBundle")
    """Certificates to trust for the endpoint."""

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        exactly_one(self, "url", "persistent_volume_claim")
        if self.endpoint is not None and self.secret_ref is None:
            raise problem("endpoint needs a secretRef, so that the pod's own token is not sent there")
        extras = {"secretRef": self.secret_ref, "caBundle": self.ca_bundle}
        given = [name for name, value in extras.items() if value is not None]
        if self.persistent_volume_claim is not None and given:
            raise problem(f"{' and '.join(given)} belong to a url, not to a persistentVolumeClaim")
        return self


class Splits(Part):
    """Which samples train, which choose, which are read once at the end."""

    train: SplitText
    """The training split: its name, or a part of it, `name[a%:b%]`."""
    validation: SplitText
    """The split by which candidates are compared; must not overlap the training split."""
    test: SplitText | None = None
    """The split read once, for the winner; left out, there is no test quality."""


class Dataset(Place):
    """The samples of a task and how they are read."""

    format: Literal["Auto", "ImageFolder", "Npz", "Parquet"] = "Auto"
    """How the samples are stored; Auto looks."""
    class_weights: Literal["None", "Balanced"] | None = None
    """Balanced weighs the loss by the inverse frequency of a class. Built-in default: None."""
    max_bad_fraction: Fraction | None = None
    """How many samples may be unreadable, as a decimal in 0…1. Built-in default: "0.01"."""
    splits: Splits | None = None
    """The splits by name; left out, 80/10/10 by hash."""
