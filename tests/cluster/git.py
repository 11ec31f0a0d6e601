"""A namespace and the repository that says what should be in it: written, applied and compared as GitOps tools do it.

Used by test_gitops.py and test_flux.py, beside an operator that runs as a process and without nodes: pods end when and
as the tests say.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.harness.cluster import Cluster
from tests.cluster.operator_process import Kubelet, eventually, jobs_of
from tests.cluster.rest import Rest

Object = dict[str, Any]

GROUP = "/apis/evergraft.dev/v1alpha1"
ROOT = {"backbone": "vit", "config": {"imageSize": 28, "patchSize": 4, "width": 96, "depth": 6, "heads": 3}, "seed": 0}
SEARCH = {
    "strategy": "mu2net",
    "samples": 200000,
    "hyperparameters": [{"name": "learningRate", "start": "0.01", "values": ["0.005", "0.01", "0.02"]}],
}
SETTLED_S = 2.0
"""Several reconciles long."""


@dataclass
class Git:
    """A namespace, and what a repository says should be in it, applied under `manager`."""

    cluster: Cluster
    admin: Rest
    namespace: str
    manager: str
    documents: dict[str, Object] = field(default_factory=dict)

    def write(self, kind: str, name: str, **spec: Any) -> None:
        """Put a document into the repository, or change it."""
        metadata = {"name": name, "namespace": self.namespace, "labels": {"team": "vision"}}
        self.documents[kind] = {
            "apiVersion": "evergraft.dev/v1alpha1",
            "kind": kind,
            "metadata": metadata,
            "spec": {**self.documents.get(kind, {}).get("spec", {}), **spec},
        }

    def apply(self, *flags: str) -> None:
        """What the tools do at every interval. Without --force-conflicts a field of somebody else's is an error."""
        self.cluster.kubectl(
            "apply", "--server-side", f"--field-manager={self.manager}", *flags, "-f", "-", input=self.text()
        )

    def difference(self) -> str:
        """What a comparison of repository and cluster shows; empty where there is none."""
        done = self.cluster.try_kubectl(
            "diff", "--server-side", f"--field-manager={self.manager}", "-f", "-", input=self.text()
        )
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    def text(self) -> str:
        """The repository, as one List."""
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(self.documents.values())})

    def read(self, kind: str) -> Object:
        """The document of a kind as it is in the cluster."""
        name = self.documents[kind]["metadata"]["name"]
        return self.admin.must("GET", f"{GROUP}/namespaces/{self.namespace}/{kind.lower()}s/{name}")

    def versions(self) -> dict[str, str]:
        """The resource version of each."""
        return {kind: self.read(kind)["metadata"]["resourceVersion"] for kind in self.documents}

    def settle(self) -> dict[str, str]:
        """The resource versions once nobody writes any more.

        Raises:
            AssertionError: somebody still does after half a minute.
        """
        deadline = time.monotonic() + 30
        while True:
            before = self.versions()
            time.sleep(SETTLED_S)
            if (after := self.versions()) == before:
                return after
            assert time.monotonic() < deadline, (before, after, self.read("Task")["status"])

    def owners(self, kind: str) -> dict[tuple[str, str], set[str]]:
        """What each writer owns: (manager, subresource) to the fields below the root, metadata's one level deeper."""
        found = {}
        for entry in self.read(kind)["metadata"]["managedFields"]:
            fields = entry["fieldsV1"]
            names = {name for name in fields if name != "f:metadata"}
            names |= {f"f:metadata/{name}" for name in fields.get("f:metadata", {})}
            found[(entry["manager"], entry.get("subresource", ""))] = names
        return found

    def answer(self, duty: str, **told: Any) -> None:
        """A steward of that duty ends well, with this answer."""
        name = self.job(duty=duty)["metadata"]["name"]
        figures = {"version": 1, "tasks": 0, "modules": 8, "parameters": 400_000, "bytes": 1_600_000}
        Kubelet(self.admin).end(self.namespace, name, {"format": 1, "reason": "", "graph": figures, **told})

    def job(self, **tags: str) -> Object:
        """The unfinished Job with these labels, as soon as there is one."""
        wanted = {f"evergraft.dev/{key}": value for key, value in tags.items()}

        def found() -> Object | None:
            jobs = (job for job in jobs_of(self.admin, self.namespace) if not job["status"].get("conditions"))
            alive = (job for job in jobs if "deletionTimestamp" not in job["metadata"])
            return next((job for job in alive if wanted.items() <= job["metadata"]["labels"].items()), None)

        return eventually(found, what=f"a Job with {tags}")

    def start(self) -> Object:
        """Apply a graph and a Task and lead the Task to its first Job."""
        self.write("ModuleGraph", "default", store={"url": f"s3://acme/{self.namespace}"}, root=ROOT)
        self.write(
            "Task", "cifar10", dataset={"url": "s3://acme-data/cifar10/"}, search=SEARCH, workers={"replicas": 2}
        )
        self.apply()
        self.answer("init", graphID="cd" * 32)
        self.answer("heads", heads=[{"run": None}])
        return self.job(attempt="1")
