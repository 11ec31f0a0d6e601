"""Flux's own kustomize-controller applies the examples of docs/gitops, beside the operator.

Asked for by EVERGRAFT_TEST_FLUX=1, since it is built for minutes the first time. The controller runs alone, as a
process: the source-controller's part, a GitRepository with an artifact, is played by this file. So what Flux applies,
waits for and prunes is tried, not how it fetches.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.git import GROUP, Git
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.layout import cache_folder
from tests.cluster.operator_process import Kubelet, Operator, eventually, free_port
from tests.cluster.rest import MERGE, Rest

Object = dict[str, Any]

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "docs/gitops"
MODULE = REPOSITORY / "tests/gitops/flux"
CONTROLLER = "github.com/fluxcd/kustomize-controller"
SOURCE = "github.com/fluxcd/source-controller"
NAMESPACE = "vision"
KUSTOMIZATIONS = f"/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{NAMESPACE}/kustomizations"
SOURCES = f"/apis/source.toolkit.fluxcd.io/v1/namespaces/{NAMESPACE}/gitrepositories"
BUILD_S = 2400

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.environ.get("EVERGRAFT_TEST_FLUX") != "1", reason="opt-in: EVERGRAFT_TEST_FLUX=1"),
]


def go(*argv: str) -> str:
    """The output of the Go command in the module that pins the controller."""
    done = subprocess.run(
        ["nice", "-n", "15", "go", *argv], cwd=MODULE, check=False, capture_output=True, text=True, timeout=BUILD_S
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def program() -> Path:
    """The controller, built once for its pinned modules and kept outside of the tree."""
    digest = hashlib.sha256((MODULE / "go.sum").read_bytes()).hexdigest()[:16]
    built = cache_folder() / f"bin-flux-{digest}" / "kustomize-controller"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        made = built.with_name(f"new-{os.getpid()}")
        go("build", "-trimpath", "-ldflags=-s -w", "-o", str(made), CONTROLLER)
        made.replace(built)
    return built


def is_served(admin: Rest, path: str) -> bool:
    return admin.call("GET", path)[0] == 200


def is_empty(admin: Rest, path: str) -> bool:
    return not admin.must("GET", path)["items"]


@pytest.fixture(scope="module")
def flux_crds(api_cluster: Cluster) -> None:
    """Flux's own kinds, from its modules' files."""
    version = go("list", "-m", "-f", "{{.Version}}", f"{SOURCE}/api").strip()
    source = json.loads(go("mod", "download", "-json", f"{SOURCE}@{version}"))["Dir"]
    controller = go("list", "-m", "-f", "{{.Dir}}", CONTROLLER).strip()
    for folder in (source, controller):
        api_cluster.kubectl("apply", "--server-side", "-f", f"{folder}/config/crd/bases")
    admin = Rest(api_cluster)
    for path in (KUSTOMIZATIONS, SOURCES):
        eventually(functools.partial(is_served, admin, path), what=path)
    admin.close()


@pytest.fixture(scope="module")
def operator(api_cluster: Cluster) -> Iterator[Operator]:
    api_cluster.kubectl("apply", "--server-side", "-k", "manifests/overlays/cluster")
    token = api_cluster.kubectl("-n", "evergraft", "create", "token", "evergraft-operator", "--duration", "2h").strip()
    with Operator(api_cluster, token) as running:
        yield running


@pytest.fixture(scope="module")
def controller(
    api_cluster: Cluster, program: Path, flux_crds: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The controller at work; its log."""
    folder = tmp_path_factory.mktemp("flux")
    log = folder / "log"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "KUBECONFIG": str(api_cluster.kubeconfig),
        "RUNTIME_NAMESPACE": NAMESPACE,
    }
    flags = ["--enable-leader-election=false", "--watch-all-namespaces", "--no-remote-bases"]
    flags += [f"--{name}-addr=127.0.0.1:{free_port()}" for name in ("metrics", "health")]
    with log.open("wb") as said:
        process = subprocess.Popen([str(program), *flags], env=environment, stdout=said, stderr=subprocess.STDOUT)
    try:
        yield log
    finally:
        process.terminate()
        process.wait(timeout=30)


@dataclass
class Repository:
    """A Git repository as the source-controller would hand it on: archives, the newest one named in the status."""

    admin: Rest
    folder: Path
    port: int
    documents: dict[str, Object] = field(default_factory=dict)
    commits: int = 0

    def push(self) -> None:
        """Make the documents the newest revision."""
        self.commits += 1
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, document in self.documents.items():
                text = yaml.safe_dump(document).encode()
                entry = tarfile.TarInfo(f"tasks/{name}")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text))
        content = buffer.getvalue()
        name = f"{self.commits}.tar.gz"
        (self.folder / name).write_bytes(content)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        artifact = {
            "url": f"http://127.0.0.1:{self.port}/{name}",
            "path": name,
            "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
            "revision": f"main@sha1:{self.commits:040x}",
            "lastUpdateTime": now,
            "size": len(content),
        }
        ready = {"type": "Ready", "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": now}
        status = {"observedGeneration": 1, "artifact": artifact, "conditions": [ready]}
        self.admin.must("PATCH", f"{SOURCES}/training/status", {"status": status}, MERGE)

    @property
    def revision(self) -> str:
        """The newest revision."""
        return f"main@sha1:{self.commits:040x}"


@pytest.fixture
def repository(api_cluster: Cluster, controller: Path, operator: Operator, tmp_path: Path) -> Iterator[Repository]:
    """The examples, pushed; gone with everything applied from them after the test."""
    admin = Rest(api_cluster)
    admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    api_cluster.kubectl("apply", "--server-side", "-f", str(EXAMPLES / "flux/source.yaml"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = Repository(admin, tmp_path, server.server_port)
        made.documents = {path.name: yaml.safe_load(path.read_text()) for path in EXAMPLES.glob("tasks/*.yaml")}
        made.push()
        yield made
        for item in admin.must("GET", KUSTOMIZATIONS)["items"]:
            admin.call("DELETE", f"{KUSTOMIZATIONS}/{item['metadata']['name']}")
        jobs = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
        for path in (KUSTOMIZATIONS, jobs):
            eventually(functools.partial(is_empty, admin, path), what=f"the end of all {path}", within_s=60)
        server.shutdown()
    admin.close()


@dataclass
class Kustomization:
    """One of the examples, applied."""

    admin: Rest
    name: str
    log: Path

    def read(self) -> Object:
        return self.admin.must("GET", f"{KUSTOMIZATIONS}/{self.name}")

    def ready(self) -> Object:
        """The condition Ready, empty before the first."""
        found = self.read().get("status", {}).get("conditions", [])
        return next((item for item in found if item["type"] == "Ready"), {})

    def wait_ready(self, revision: str, within_s: float = 60) -> None:
        """Wait until it is done with a revision."""

        def done() -> bool:
            status = self.read().get("status", {})
            return self.ready().get("status") == "True" and status.get("lastAppliedRevision") == revision

        eventually(done, what=f"{self.ready()}\n{self.log.read_text()[-3000:]}", within_s=within_s)

    def reconcile(self) -> None:
        """What `flux reconcile kustomization` does: ask, and wait until it was done."""
        asked = str(time.monotonic_ns())
        body = {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": asked}}}
        self.admin.must("PATCH", f"{KUSTOMIZATIONS}/{self.name}", body, MERGE)
        eventually(lambda: self.read()["status"].get("lastHandledReconcileAt") == asked, what="an answer", within_s=60)


def apply(cluster: Cluster, admin: Rest, example: str, log: Path) -> Kustomization:
    path = EXAMPLES / f"flux/{example}.yaml"
    cluster.kubectl("apply", "--server-side", "-f", str(path))
    return Kustomization(admin, yaml.safe_load(path.read_text())["metadata"]["name"], log)


def as_git(cluster: Cluster, repository: Repository) -> Git:
    git = Git(cluster, repository.admin, NAMESPACE, "kustomize-controller")
    git.documents = {document["kind"]: document for document in repository.documents.values()}
    return git


def begin(git: Git) -> str:
    """The graph is started, HEAD is read, the Task's Job is made; the Job's name."""
    git.answer("init", graphID="cd" * 32)
    git.answer("heads", heads=[{"run": None}])
    return str(git.job(attempt="1")["metadata"]["name"])


def test_accepted_is_ready_once_every_task_is_accepted(
    api_cluster: Cluster, repository: Repository, controller: Path
) -> None:
    git = as_git(api_cluster, repository)
    flux = apply(api_cluster, repository.admin, "accepted", controller)
    git.job(duty="init")
    assert flux.ready().get("status") != "True"
    begin(git)
    flux.wait_ready(repository.revision)
    git.settle()

    # Spec is Flux's, status the operator's; applied again, nothing is written.
    owners = git.owners("Task")
    assert set(owners) == {("kustomize-controller", ""), ("evergraft-operator", "status")}
    before = git.versions()
    flux.reconcile()
    flux.reconcile()
    assert git.versions() == before
    assert "configured" not in controller.read_text()

    # A change in Git is carried out.
    task = repository.documents["cifar10.yaml"]
    task["spec"]["workers"]["replicas"] = 6
    repository.push()
    flux.wait_ready(repository.revision)
    assert git.read("Task")["spec"]["workers"]["replicas"] == 6
    eventually(lambda: git.job(attempt="1")["spec"]["parallelism"] == 6, what="the new size")

    # What a person changed is taken back.
    api_cluster.kubectl("scale", "et/cifar10", "--replicas=1", "-n", NAMESPACE)
    flux.reconcile()
    assert git.read("Task")["spec"]["workers"]["replicas"] == 6

    # What is gone from Git is pruned; the graph is left.
    del repository.documents["cifar10.yaml"]
    repository.push()
    flux.wait_ready(repository.revision)
    path = f"{GROUP}/namespaces/{NAMESPACE}/tasks/cifar10"
    eventually(lambda: repository.admin.call("GET", path)[0] == 404, what="the Task's end")
    assert git.read("ModuleGraph")["status"]["graphID"] == "cd" * 32


def test_trained_is_ready_when_the_route_serves(api_cluster: Cluster, repository: Repository, controller: Path) -> None:
    git = as_git(api_cluster, repository)
    flux = apply(api_cluster, repository.admin, "trained", controller)
    job = begin(git)
    kubelet = Kubelet(repository.admin)
    kubelet.run(NAMESPACE, job)
    eventually(lambda: git.read("Task").get("status", {}).get("phase") == "Training", what="training")
    time.sleep(5)
    assert flux.ready().get("status") != "True"
    route = {"id": "ab" * 32, "quality": 0.95, "score": 0.93, "testQuality": 0.94, "parametersAdded": 812}
    figures = {"version": 2, "tasks": 1, "modules": 8, "parameters": 400_000, "bytes": 1_600_000}
    report = {"format": 1, "task": f"{NAMESPACE}/cifar10", "run": "i1-c1", "outcome": "committed", "reason": ""}
    kubelet.end(NAMESPACE, job, {**report, "version": 2, "route": route, "graph": figures})
    flux.wait_ready(repository.revision)
    assert git.read("Task")["status"]["phase"] == "Succeeded"
