"""Evergraft on the test cluster as a user has it: installed, with a bucket, data, graphs and Tasks, one space a test.

A space is a namespace that enforces Pod Security `restricted`, with the bucket's keys in a Secret and a graph of its
own. Used by the tests of this folder and by `make cluster-demo`.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import s3fs
import yaml
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.errors import ClusterError

REPOSITORY = Path(__file__).resolve().parents[2]
GROUP = "/apis/evergraft.dev/v1alpha1"
OPERATOR_IMAGE, TRAINER_IMAGE = "evergraft/operator:test", "evergraft/trainer:test-cpu"
SYSTEM = "evergraft"
"""The operator's namespace."""
SECRET = "store"
VIT = {"backbone": "vit", "config": {"imageSize": 8, "patchSize": 4, "width": 32, "depth": 2, "heads": 2}, "seed": 0}
QUICK = {"strategy": "finetune", "samples": 512, "batchSize": 32, "validations": 2}
"""A search that is over soon after its worker is up."""
LONG = {"strategy": "finetune", "samples": 2_000_000, "batchSize": 32, "validations": 1000}
"""A search that goes on until it is told to stop, and saves its state several times a minute."""
COMPONENTS = ("worker", "steward")
SMALL = {"requests": {"cpu": "100m", "memory": "400Mi"}}

Object = dict[str, Any]


@dataclass
class Scene:
    """A cluster with Evergraft installed."""

    cluster: Cluster
    spaces: list[Space] = field(default_factory=list)

    def install(self, **environment: str) -> None:
        """CRDs and operator by kustomize, as the overlay for a whole cluster has them, with the tests' images."""
        values = {"EVERGRAFT_IMAGE_OPERATOR": OPERATOR_IMAGE, "EVERGRAFT_IMAGE_CPU": TRAINER_IMAGE, **environment}
        container = {
            "name": "operator",
            "image": OPERATOR_IMAGE,
            "env": [{"name": name, "value": value} for name, value in values.items()],
        }
        patch = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "evergraft-operator"},
            "spec": {"template": {"spec": {"containers": [container]}}},
        }
        with tempfile.TemporaryDirectory(dir=self.cluster.layout.folder) as folder:
            base = os.path.relpath(REPOSITORY / "manifests" / "overlays" / "cluster", Path(folder).resolve())
            kustomization = {"namespace": SYSTEM, "resources": [base], "patches": [{"patch": yaml.safe_dump(patch)}]}
            (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
            self.cluster.kubectl("apply", "--server-side", "--kustomize", folder)
        self.wait_operator()

    def wait_operator(self, timeout_s: float = 90) -> None:
        """Wait until every replica of the newest template is ready."""
        self.cluster.kubectl(
            "rollout", "status", "deployment/evergraft-operator", f"--namespace={SYSTEM}", f"--timeout={timeout_s:g}s",
            timeout_s=timeout_s + 10,
        )  # fmt: skip

    def scale_operator(self, replicas: int) -> None:
        """Start or stop the operator; returns when its pods are gone, or ready."""
        self.cluster.kubectl(
            "scale", "deployment/evergraft-operator", f"--namespace={SYSTEM}", f"--replicas={replicas}"
        )
        if replicas:
            self.wait_operator()
        else:
            self.cluster.wait("the operator to go", lambda: not self.operator_pods(), 60)

    def operator_pods(self) -> list[Object]:
        """The operator's pods."""
        return self.items(f"/api/v1/namespaces/{SYSTEM}/pods?labelSelector=app.kubernetes.io/component%3Doperator")

    def operator_log(self) -> str:
        """What the operator's pods have told so far."""
        return "".join(
            self.cluster.try_kubectl("logs", pod["metadata"]["name"], f"--namespace={SYSTEM}", "--tail=400").stdout
            for pod in self.operator_pods()
        )

    def items(self, path: str) -> list[Object]:
        """The items of the list at `path`."""
        return self.cluster.api.objects(path)

    def files(self) -> s3fs.S3FileSystem:
        """The bucket, from this process."""
        s3 = self.cluster.s3
        return s3fs.S3FileSystem(
            key=s3.key, secret=s3.secret, client_kwargs={"endpoint_url": s3.endpoint}, skip_instance_cache=True
        )

    def put_digits(self) -> str:
        """scikit-learn's digits, 8×8, as an npz file in the bucket; returns its URL."""
        from sklearn.datasets import load_digits

        url = f"{self.cluster.s3.url}/data/digits.npz"
        files = self.files()
        if files.exists(url):
            return url
        found = load_digits()
        images, labels = (found.images * 16).clip(0, 255).astype(np.uint8), found.target.astype(np.int64)
        order = np.random.default_rng(0).permutation(len(labels))
        parts = {"train": order[:1200], "validation": order[1200:1500], "test": order[1500:]}
        arrays: dict[str, Any] = {f"{name}_images": images[rows] for name, rows in parts.items()}
        arrays |= {f"{name}_labels": labels[rows] for name, rows in parts.items()}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        files.pipe_file(url, buffer.getvalue())
        return url

    @contextmanager
    def space(self, name: str, **graph: Any) -> Iterator[Space]:
        """A namespace of its own for a test; with everything in it gone at the end."""
        made = self.open(name, **graph)
        try:
            yield made
        finally:
            self.close(made)

    def open(self, name: str, **graph: Any) -> Space:
        """Make a space: namespace, keys, data, and a ModuleGraph called `default`."""
        s3 = self.cluster.s3
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        keys = {"AWS_ACCESS_KEY_ID": s3.key, "AWS_SECRET_ACCESS_KEY": s3.secret}
        made = Space(self, name, data=self.put_digits())
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": name}, "stringData": keys},
        )
        made.graph("default", **graph)
        self.spaces.append(made)
        return made

    def close(self, space: Space) -> None:
        """Delete the namespace; what it held ends with it."""
        self.cluster.kubectl("delete", "namespace", space.name, "--wait=false")
        self.spaces.remove(space)


@dataclass
class Space:
    """A namespace with a graph; `data` is the digits' URL."""

    scene: Scene
    name: str
    data: str

    @property
    def cluster(self) -> Cluster:
        """The cluster it is in."""
        return self.scene.cluster

    @property
    def store_url(self) -> str:
        """Where its graphs are kept unless they say otherwise."""
        return f"{self.cluster.s3.url}/graphs/{self.name}"

    @property
    def access(self) -> Object:
        """How pods reach the bucket."""
        return {"endpoint": self.cluster.s3.endpoint, "secretRef": {"name": SECRET}}

    def graph(self, name: str, **spec: Any) -> Object:
        """Apply a ModuleGraph; returns what was applied."""
        given = {"store": {"url": self.store_url, **self.access}, "root": VIT, **spec}
        document = {**self._head("ModuleGraph", name), "spec": given}
        self.cluster.apply(document)
        return document

    def document(
        self, name: str, *, search: Object | None = None, workers: Object | None = None, **spec: Any
    ) -> Object:
        """A Task on the digits: one small CPU worker and a quick search unless said otherwise."""
        given = {
            "dataset": {"url": self.data, **self.access},
            "search": search or QUICK,
            "workers": {"resources": SMALL, "terminationGracePeriodSeconds": 20, **(workers or {})},
            **spec,
        }
        return {**self._head("Task", name), "spec": given}

    def task(self, name: str, **spec: Any) -> Object:
        """Apply a Task; returns what was applied."""
        document = self.document(name, **spec)
        self.cluster.apply(document)
        return document

    def patch(self, name: str, spec: Object) -> None:
        """Change fields of a Task's spec."""
        self.kubectl("patch", f"tasks.evergraft.dev/{name}", "--type=merge", f"--patch={json.dumps({'spec': spec})}")

    def kubectl(self, *argv: str) -> str:
        """kubectl in this namespace."""
        return self.cluster.kubectl(*argv, f"--namespace={self.name}")

    def read(self, name: str, kind: str = "tasks") -> Object:
        """A Task, or another of our kinds."""
        code, body = self.cluster.api.get(f"{GROUP}/namespaces/{self.name}/{kind}/{name}")
        if code != 200:
            raise ClusterError(f"{kind}/{name}: {code}: {body[:300]!r}")
        found: Object = json.loads(body)
        return found

    def manifest(self, name: str, kind: str = "tasks") -> Object:
        """What to apply for another of the same name and spec, as Git has it."""
        found = self.read(name, kind)
        return {**self._head(found["kind"], name), "spec": found["spec"]}

    def status(self, name: str, kind: str = "tasks") -> Object:
        """Its status, empty before the first."""
        found: Object = self.read(name, kind).get("status", {})
        return found

    def conditions(self, name: str, kind: str = "tasks") -> dict[str, str]:
        """Conditions as ``{"Ready": "True/Committed"}``."""
        found = self.status(name, kind).get("conditions", [])
        return {item["type"]: f"{item['status']}/{item['reason']}" for item in found}

    def wait_for(
        self, name: str, found: Callable[[Object], bool], *, what: str, timeout_s: float = 120, kind: str = "tasks"
    ) -> Object:
        """Wait until `found(status)`; returns that status.

        Raises:
            ClusterError: not in time; the text has the status, the pods and what the operator told.
        """
        deadline = time.monotonic() + timeout_s
        while not found(status := self.status(name, kind)):
            if time.monotonic() > deadline:
                raise ClusterError(f"{kind}/{name}: not {what} within {timeout_s:g} s\n{self.account(name, kind)}")
            time.sleep(0.3)
        return status

    def wait_phase(self, name: str, phase: str, timeout_s: float = 120) -> Object:
        """Wait for a Task's phase; returns the status."""
        return self.wait_for(name, lambda status: status.get("phase") == phase, what=phase, timeout_s=timeout_s)

    def wait_condition(
        self, name: str, condition: str, expected: str, *, kind: str = "tasks", timeout_s: float = 120
    ) -> Object:
        """Wait until a condition is, for example, ``True/Committed``; returns the status."""

        def met(status: Object) -> bool:
            return any(
                item["type"] == condition and f"{item['status']}/{item['reason']}" == expected
                for item in status.get("conditions", [])
            )

        return self.wait_for(name, met, what=f"{condition}={expected}", timeout_s=timeout_s, kind=kind)

    def wait_graph(self, name: str = "default", timeout_s: float = 120) -> Object:
        """Wait until the graph can be grown; returns its status."""
        return self.wait_condition(name, "Ready", "True/Initialized", kind="modulegraphs", timeout_s=timeout_s)

    def wait_training(self, name: str, *, done: int = 1, timeout_s: float = 120) -> str:
        """Wait until a worker has saved `done` states of its first candidate; returns its pod's name."""
        self.wait_phase(name, "Training", timeout_s)
        deadline = time.monotonic() + timeout_s
        while len(self.states()) < done:
            if time.monotonic() > deadline:
                raise ClusterError(f"tasks/{name}: no state was saved\n{self.account(name)}")
            time.sleep(0.3)
        return next(str(pod["metadata"]["name"]) for pod in self.pods() if pod["status"].get("phase") == "Running")

    def states(self) -> list[str]:
        """The weights that workers have saved in open searches."""
        files = self.scene.files()
        files.invalidate_cache()
        return [key for key in files.find(f"{self.store_url}/searches") if "weights" in key]

    def events(self, name: str) -> list[str]:
        """Reasons of the Events on an object, oldest first."""
        found = self.scene.items(f"/api/v1/namespaces/{self.name}/events")
        mine = [item for item in found if item["involvedObject"]["name"] == name]
        mine.sort(key=lambda item: item.get("firstTimestamp") or item.get("eventTime") or "")
        return [str(item["reason"]) for item in mine]

    def jobs(self, component: str = "worker") -> list[Object]:
        """Jobs of workers, or of stewards."""
        selector = f"app.kubernetes.io/component%3D{component}"
        return self.scene.items(f"/apis/batch/v1/namespaces/{self.name}/jobs?labelSelector={selector}")

    def pods(self, component: str = "worker") -> list[Object]:
        """Pods of workers, or of stewards."""
        selector = f"app.kubernetes.io/component%3D{component}"
        return self.scene.items(f"/api/v1/namespaces/{self.name}/pods?labelSelector={selector}")

    def live_jobs(self, component: str = "worker") -> list[Object]:
        """Jobs that are not finished."""
        return [job for job in self.jobs(component) if not _finished(job)]

    def assert_nothing_runs(self) -> None:
        """Within a minute no Job of a worker or steward at work and no pod of theirs running; no finalizer left."""
        deadline = time.monotonic() + 60
        while True:
            live = [job["metadata"]["name"] for kind in COMPONENTS for job in self.live_jobs(kind)]
            pods = [pod for kind in COMPONENTS for pod in self.pods(kind)]
            running = [pod["metadata"]["name"] for pod in pods if pod["status"].get("phase") in ("Pending", "Running")]
            if not live and not running:
                break
            if time.monotonic() > deadline:
                raise AssertionError(f"still there: jobs {live}, pods {running}")
            time.sleep(0.5)
        for item in self.scene.items(f"{GROUP}/namespaces/{self.name}/tasks"):
            assert not item["metadata"].get("finalizers"), item["metadata"]

    def commits(self, task: str) -> int:
        """How many entries of the graph's log put a route of this task."""
        entries = self.evergraft("graph", "log", self.store_url, "--limit=100000")
        return sum(
            action["type"] == "putRoute" and action["route"]["task"] == task
            for entry in entries
            for action in entry["actions"]
        )

    def tasks(self) -> set[str]:
        """The tasks that have a route at HEAD."""
        rows = self.evergraft("graph", "show", self.store_url)["tasks"]
        return {str(row["task"]) for row in rows if row["route"] is not None}

    def evergraft(self, *argv: str) -> Any:
        """What `evergraft … --json` says on the bucket, run in this process's environment."""
        import subprocess
        import sys

        s3 = self.cluster.s3
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_ACCESS_KEY_ID": s3.key or "",
            "AWS_SECRET_ACCESS_KEY": s3.secret or "",
            "AWS_ENDPOINT_URL": s3.endpoint,
        }
        program = shutil.which("evergraft", path=str(Path(sys.executable).parent))
        assert program is not None
        done = subprocess.run(
            [program, *argv, "--json"], check=False, capture_output=True, text=True, env=environment, timeout=120
        )
        if done.returncode:
            raise ClusterError(f"evergraft {' '.join(argv)}: exit {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def account(self, name: str, kind: str = "tasks") -> str:
        """What there is to know when something did not happen: status, pods, their logs, Events, the operator's log."""
        parts = [json.dumps(self.status(name, kind), indent=1)]
        parts += [self._pod_account(pod) for kind in COMPONENTS for pod in self.pods(kind)]
        for item in self.scene.items(f"/api/v1/namespaces/{self.name}/events"):
            parts.append(f"{item['involvedObject']['name']}: {item['reason']}: {item.get('message', '')[:200]}")
        return "\n".join([*parts, "operator:", self.scene.operator_log()[-4000:]])

    def _pod_account(self, pod: Object) -> str:
        name, status = pod["metadata"]["name"], pod["status"]
        states = json.dumps(status.get("containerStatuses") or status.get("conditions"))[:1500]
        said = self.cluster.try_kubectl("logs", name, f"--namespace={self.name}", "--tail=15")
        return f"{name}: {status.get('phase')} {states}\n{said.stdout}{said.stderr}"

    def _head(self, kind: str, name: str) -> Object:
        return {
            "apiVersion": "evergraft.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "namespace": self.name},
        }


def _finished(job: Object) -> bool:
    return any(
        item["type"] in ("Complete", "Failed") and item["status"] == "True"
        for item in job.get("status", {}).get("conditions", [])
    )
