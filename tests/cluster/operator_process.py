"""The operator as a process on this machine, with its ServiceAccount's own rights, beside a cluster without nodes.

`Operator` starts, stops, kills and asks it; `Kubelet` pretends that pods ran and ended, since nobody else does so
there. Used by test_operator_wiring.py.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from tests.cluster.harness.cluster import Cluster
from tests.cluster.rest import MERGE, Rest

Object = dict[str, Any]
T = TypeVar("T")

NOW = "%Y-%m-%dT%H:%M:%SZ"


def eventually(found: Callable[[], T | None], *, what: str, within_s: float = 30) -> T:
    """What `found` gives as soon as that is something."""
    deadline = time.monotonic() + within_s
    while not (value := found()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.1)
    return value


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Operator:
    """One operator process. `environment` is laid over what every one gets."""

    cluster: Cluster
    token: str
    environment: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ("-m", "evergraft_operator")
    told: str = ""
    """What it had logged when it ended."""
    _process: subprocess.Popen[bytes] | None = None
    _folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Operator:
        self._folder = tempfile.TemporaryDirectory(prefix="evergraft-operator-")
        self.metrics_port, self.probes_port = free_port(), free_port()
        environment = {**os.environ, **self._environment(Path(self._folder.name))}
        with self.log.open("ab") as log:
            argv = [sys.executable, *self.command]
            self._process = subprocess.Popen(argv, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            eventually(self.ready, what=f"readiness of {self.command}; log:\n{self.log_text()}", within_s=40)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.process.poll() is None:
                self.signal(signal.SIGTERM)
                assert self.process.wait(timeout=30) == 0, self.log_text()
        finally:
            self.kill()
            assert self._folder is not None
            self.told = self.log_text()
            self._folder.cleanup()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def log(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "log"

    def log_text(self) -> str:
        """What it has logged."""
        return self.log.read_text()

    def log_lines(self) -> list[Object]:
        """What it has logged, record by record."""
        return [json.loads(line) for line in self.log_text().splitlines()]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it without a chance to say anything."""
        self.process.kill()
        self.process.wait()

    def ready(self) -> bool:
        """Whether it says that it is ready."""
        assert self.process.poll() is None, self.log_text()
        try:
            return self._get(self.probes_port, "/readyz") == "ok"
        except OSError:
            return False

    def leads(self) -> bool:
        """Whether it says that it leads."""
        return self.figures()["evergraft_leader"] == 1

    def figures(self) -> dict[str, float]:
        """Its metrics by series."""
        lines = self._get(self.metrics_port, "/metrics").splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def writes(self) -> dict[str, float]:
        """How often it has written what, the Lease left out."""
        return {
            name: value
            for name, value in self.figures().items()
            if name.startswith("evergraft_kube_requests_total")
            and 'resource="leases"' not in name
            and any(f'verb="{verb}"' in name for verb in ("create", "patch", "update", "delete"))
        }

    def _get(self, port: int, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def _environment(self, folder: Path) -> dict[str, str]:
        configuration = yaml.safe_load(self.cluster.kubeconfig.read_text())
        configuration["users"] = [{"name": "operator", "user": {"token": self.token}}]
        for context in configuration["contexts"]:
            context["context"]["user"] = "operator"
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(configuration))
        return {
            "KUBECONFIG": str(kubeconfig),
            "EVERGRAFT_METRICS": f"127.0.0.1:{self.metrics_port}",
            "EVERGRAFT_PROBES": f"127.0.0.1:{self.probes_port}",
            **self.environment,
        }


@dataclass(frozen=True)
class Kubelet:
    """Says of pods that they run and how they ended."""

    admin: Rest

    def pods(self, namespace: str, job: str) -> list[Object]:
        """The pods of a Job that are not over."""
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=batch.kubernetes.io/job-name={job}"
        found: list[Object] = self.admin.must("GET", path)["items"]
        return [pod for pod in found if pod["status"]["phase"] in ("Pending", "Running")]

    def pod(self, namespace: str, job: str) -> Object:
        """The pod of a Job, as soon as there is one."""
        return eventually(lambda: self.pods(namespace, job), what=f"a pod of {job}")[0]

    def run(self, namespace: str, job: str) -> None:
        """A worker is ready."""
        now = time.strftime(NOW, time.gmtime())
        pod = self.pod(namespace, job)
        ready = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("PodScheduled", "Ready")]
        state = {"running": {"startedAt": now}}
        self._say(pod, {"phase": "Running", "conditions": ready, "podIP": "192.0.2.1"}, state, ready=True)

    def end(self, namespace: str, job: str, message: Object | str, *, exit_code: int = 0) -> None:
        """A pod is over, with its last words."""
        now = time.strftime(NOW, time.gmtime())
        pod = self.pod(namespace, job)
        text = message if isinstance(message, str) else json.dumps(message)
        over = {"exitCode": exit_code, "startedAt": now, "finishedAt": now, "message": text, "reason": "Completed"}
        phase = "Failed" if exit_code else "Succeeded"
        self._say(pod, {"phase": phase, "conditions": []}, {"terminated": over}, ready=False)

    def wait(self, namespace: str, job: str, reason: str, message: str) -> None:
        """A container cannot start."""
        pod = self.pod(namespace, job)
        self._say(pod, {"phase": "Pending"}, {"waiting": {"reason": reason, "message": message}}, ready=False)

    def _say(self, pod: Object, status: Object, state: Object, *, ready: bool) -> None:
        meta, box = pod["metadata"], pod["spec"]["containers"][0]
        told = {"name": box["name"], "image": box["image"], "imageID": "", "ready": ready, "restartCount": 0}
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        body = {"status": {**status, "containerStatuses": [{**told, "state": state}]}}
        self.admin.must("PATCH", path, body, MERGE)


def jobs_of(admin: Rest, namespace: str) -> Iterator[Object]:
    """The Jobs of a namespace, oldest first."""
    found = admin.must("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"]
    yield from sorted(found, key=lambda job: (job["metadata"]["creationTimestamp"], job["metadata"]["name"]))
