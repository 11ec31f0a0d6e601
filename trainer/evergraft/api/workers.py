"""The `workers` of a Task, also found in a ModuleGraph's taskDefaults: the pods that train.

Ignored when a search runs on one machine. Objects of Kubernetes' own (tolerations, volumes …) are passed on as they
are; the API server checks them.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from evergraft.api.fields import IMAGE, TOPOLOGY, Items, Label, Labels, Name, Part, Quantity, problem

Objects = Annotated[Items[dict[str, Any]], Field(max_length=64)]
Amounts = Annotated[dict[str, Quantity], Field(max_length=32)]
Annotations = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)]


class TPU(Part):
    """A TPU slice of one host."""

    accelerator: Label
    """The node label cloud.google.com/gke-tpu-accelerator, such as tpu-v6e-slice."""
    topology: Annotated[str, Field(pattern=TOPOLOGY, max_length=16)]
    """The chips, such as 2x2; their product is `count`, since a slice is one host."""


class Accelerator(Part):
    """What a worker pod computes on."""

    type: Literal["CPU", "GPU", "TPU"] = "CPU"
    """The kind of device."""
    count: Annotated[int, Field(ge=1, le=64)] = 1
    """Devices in a pod."""
    resource_name: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$", max_length=253)] | None = None
    """The extended resource of a GPU, such as nvidia.com/gpu."""
    tpu: TPU | None = None
    """The slice; required with type TPU, refused otherwise."""

    @model_validator(mode="after")
    def _fits_type(self) -> Self:
        if self.type == "TPU" and self.tpu is None:
            raise problem("type TPU needs tpu: {accelerator, topology}")
        if self.type != "TPU" and self.tpu is not None:
            raise problem(f"tpu belongs to type TPU, not to {self.type}")
        if self.type != "GPU" and self.resource_name is not None:
            raise problem(f"resourceName belongs to type GPU, not to {self.type}")
        if self.tpu is not None and math.prod(map(int, self.tpu.topology.split("x"))) != self.count:
            raise problem(
                f"topology {self.tpu.topology} is not {self.count} chips; a slice of one host has count chips"
            )
        return self


class Resources(Part):
    """Requests and limits of the worker container."""

    requests: Amounts | None = None
    """What a pod is sure to get, such as cpu and memory."""
    limits: Amounts | None = None
    """What a pod may not exceed."""


class Scratch(Part):
    """Writable space of a pod."""

    size: Quantity
    """Its size, such as 50Gi."""


class PodTemplate(Part):
    """Fields passed on to the worker pods."""

    labels: Labels | None = None
    """Labels of the pods."""
    annotations: Annotations | None = None
    """Annotations of the pods."""
    node_selector: Labels | None = None
    """Labels a node must have."""
    tolerations: Objects | None = None
    """Taints the pods tolerate."""
    affinity: Annotated[dict[str, Any], Field(max_length=3)] | None = None
    """Which nodes and neighbours are preferred or required."""
    topology_spread_constraints: Objects | None = None
    """How the pods are spread."""
    priority_class_name: Name | None = None
    """The pods' PriorityClass."""
    runtime_class_name: Name | None = None
    """The pods' RuntimeClass."""
    scheduler_name: Name | None = None
    """The scheduler to use."""
    image_pull_secrets: Objects | None = None
    """Secrets for pulling the image."""
    env: Objects | None = None
    """Environment variables of the worker container."""
    env_from: Objects | None = None
    """Sources of environment variables."""
    volumes: Objects | None = None
    """More volumes."""
    volume_mounts: Objects | None = None
    """Where the worker container mounts them."""


class Workers(Part):
    """The pods that train."""

    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """How many pods; acts at once. Built-in default: 1."""
    image: Annotated[str, Field(pattern=IMAGE, max_length=1024)] | None = None
    """The trainer image; empty for the operator's image for the accelerator."""
    accelerator: Accelerator | None = None
    """What a pod computes on; left out, CPU."""
    resources: Resources | None = None
    """Requests and limits of the worker container."""
    queue_name: Name | None = None
    """The Kueue LocalQueue."""
    queue_priority_class: Name | None = None
    """The Kueue WorkloadPriorityClass."""
    service_account_name: Name | None = None
    """The identity the pods run under."""
    shm_size: Quantity | None = None
    """Size of /dev/shm."""
    scratch: Scratch | None = None
    """Writable space of a pod."""
    termination_grace_period_seconds: Annotated[int, Field(ge=0, le=86400)] | None = None
    """Seconds to save the state after SIGTERM."""
    pod_template: PodTemplate | None = None
    """Fields passed on to the worker pods."""
