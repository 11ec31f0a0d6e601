"""The kinds of objects the operator deals with, and where the API server keeps them.

One frozen table, so that paths, watches and metric labels agree. Used by everything that reads or writes a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple
from urllib.parse import quote

from evergraft_operator import labels


@dataclass(frozen=True)
class Kind:
    """A kind of object. `selector` are the labels of those that are ours, empty where all are looked at."""

    name: str
    group: str
    version: str
    plural: str
    selector: str = ""
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What its objects say as their apiVersion."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", part: str = "") -> str:
        """The URL path of the collection, of an object, or of a `part` of it such as its status."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"
        place = f"/namespaces/{quote(namespace, safe='')}" if namespace and self.namespaced else ""
        return f"{root}{place}/{self.plural}" + "".join(f"/{quote(step, safe='')}" for step in (name, part) if step)


OURS = f"{labels.MANAGED_BY}={labels.MANAGER}"

TASK = Kind("Task", labels.GROUP, "v1alpha1", "tasks")
GRAPH = Kind("ModuleGraph", labels.GROUP, "v1alpha1", "modulegraphs")
JOB = Kind("Job", "batch", "v1", "jobs", selector=OURS)
POD = Kind("Pod", "", "v1", "pods", selector=OURS)
NAMESPACE = Kind("Namespace", "", "v1", "namespaces", namespaced=False)
EVENT = Kind("Event", "", "v1", "events")
ACCOUNT = Kind("ServiceAccount", "", "v1", "serviceaccounts")
LEASE = Kind("Lease", "coordination.k8s.io", "v1", "leases")
WORKLOADS = tuple(Kind("Workload", "kueue.x-k8s.io", version, "workloads") for version in ("v1beta2", "v1beta1"))

WATCHED = (TASK, GRAPH, JOB, POD)
"""What the cache holds; NAMESPACE too where the operator watches the whole cluster."""


class Key(NamedTuple):
    """What is reconciled: a Task or a ModuleGraph, by name."""

    kind: Literal["Task", "ModuleGraph"]
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"
