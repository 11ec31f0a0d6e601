"""The operator's process against a real API server and job controller, with exactly its ServiceAccount's rights.

No node: the tests say themselves what became of pods. What is tested is everything between kopf's watches and the
objects in the API server.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from tests.cluster.harness.cluster import Cluster
from tests.cluster.operator_process import Kubelet, Operator, eventually, jobs_of
from tests.cluster.rest import APPLY, MERGE, Rest

from evergraft_operator import labels
from evergraft_operator.client import FIELD_MANAGER

Object = dict[str, Any]

GROUP = "/apis/evergraft.dev/v1alpha1"
ROUTE = "ab" * 32
ROOT = {"backbone": "vit", "config": {"imageSize": 28, "patchSize": 4, "width": 96, "depth": 6, "heads": 3}, "seed": 0}
FIGURES = {"version": 1, "tasks": 0, "modules": 8, "parameters": 400_000, "bytes": 1_600_000}


@pytest.fixture(scope="module")
def installed(api_cluster: Cluster) -> Iterator[Rest]:
    """Everything that the overlay for a whole cluster holds."""
    api_cluster.kubectl("apply", "--server-side", "-k", "manifests/overlays/cluster")
    admin = Rest(api_cluster)
    yield admin
    admin.close()


@pytest.fixture(scope="module")
def token(api_cluster: Cluster, installed: Rest) -> str:
    return api_cluster.kubectl("-n", "evergraft", "create", "token", "evergraft-operator", "--duration", "2h").strip()


@pytest.fixture
def start(api_cluster: Cluster, token: str) -> Callable[..., Operator]:
    """Makes operators."""

    def make(**more: Any) -> Operator:
        return Operator(api_cluster, token, **more)

    return make


@dataclass
class Space:
    """A namespace with a graph of its own. Everything in it is gone after the test."""

    admin: Rest
    name: str

    @property
    def kubelet(self) -> Kubelet:
        return Kubelet(self.admin)

    def graph(self, **spec: Any) -> None:
        """Create the ModuleGraph."""
        store = {"url": f"s3://acme/{self.name}"}
        self._create("ModuleGraph", "modulegraphs", "default", {"store": store, "root": ROOT, **spec})

    def task(self, name: str = "cifar10", **spec: Any) -> None:
        """Create a Task."""
        self._create("Task", "tasks", name, {"dataset": {"url": "s3://acme-data/cifar10/"}, **spec})

    def patch(self, name: str, **spec: Any) -> None:
        """Change a Task's spec."""
        self.admin.must("PATCH", f"{GROUP}/namespaces/{self.name}/tasks/{name}", {"spec": spec}, MERGE)

    def read(self, name: str = "cifar10", plural: str = "tasks") -> Object:
        return self.admin.must("GET", f"{GROUP}/namespaces/{self.name}/{plural}/{name}")

    def status(self, name: str = "cifar10", plural: str = "tasks") -> Object:
        found: Object = self.admin.call("GET", f"{GROUP}/namespaces/{self.name}/{plural}/{name}")[1].get("status", {})
        return found if isinstance(found, dict) else {}

    def condition(self, kind: str, name: str = "cifar10", plural: str = "tasks") -> Object:
        found = self.status(name, plural).get("conditions", [])
        return next((item for item in found if item["type"] == kind), {})

    def jobs(self, **tags: str) -> list[Object]:
        """The Jobs with these labels that are not being deleted."""
        wanted = {f"evergraft.dev/{key.replace('_', '-')}": value for key, value in tags.items()}
        found = jobs_of(self.admin, self.name)
        alive = (job for job in found if "deletionTimestamp" not in job["metadata"])
        return [job for job in alive if wanted.items() <= job["metadata"]["labels"].items()]

    def job(self, **tags: str) -> Object:
        """The newest unfinished Job with these labels, as soon as there is one."""

        def newest() -> Object | None:
            open_ = [job for job in self.jobs(**tags) if not job["status"].get("conditions")]
            return open_[-1] if open_ else None

        return eventually(newest, what=f"a Job with {tags} in {self.name}; status: {self.status()}")

    def answer(self, duty: str, **told: Any) -> None:
        """A steward of that duty ends well, with this answer."""
        name = self.job(duty=duty)["metadata"]["name"]
        self.kubelet.end(self.name, name, {"format": 1, "reason": "", "graph": FIGURES, **told})
        self.over(name)

    def over(self, job: str) -> None:
        """Wait until the job controller has seen a Job's end."""
        path = f"/apis/batch/v1/namespaces/{self.name}/jobs/{job}"
        eventually(lambda: self.admin.must("GET", path)["status"].get("conditions"), what=f"the end of {job}")

    def started(self, name: str = "cifar10", attempt: int = 1) -> str:
        """Lead a Task to its first Job: the graph is there, HEAD has never heard of it. The Job's name."""
        self.answer("init", graphID="cd" * 32)
        self.answer("heads", heads=[{"run": None}])
        return str(self.job(attempt=str(attempt))["metadata"]["name"])

    def phase(self, phase: str, name: str = "cifar10", within_s: float = 30) -> Object:
        """The status once it has this phase."""
        eventually(
            lambda: self.status(name).get("phase") == phase,
            what=f"phase {phase}: {json.dumps(self.status(name), indent=1)}",
            within_s=within_s,
        )
        return self.status(name)

    def samples(self, operator: Operator) -> float | None:
        """Samples that an operator has counted of workers that ended here."""
        series = f'{{graph="{self.name}/default",namespace="{self.name}"}}'
        return operator.figures().get(f"evergraft_finished_worker_samples_total{series}")

    def commit(self, job: str, name: str = "cifar10", run: str = "i1-c1") -> None:
        """A worker ends, having committed."""
        route = {"id": ROUTE, "quality": 0.95, "score": 0.93, "testQuality": 0.94, "parametersAdded": 812}
        report: Object = {"format": 1, "task": f"{self.name}/{name}", "run": run, "outcome": "committed", "reason": ""}
        report |= {"version": 2, "route": route, "graph": {**FIGURES, "version": 2}}
        self.kubelet.end(self.name, job, {**report, "counters": {"evergraft_worker_samples_total": 640.0}})
        self.over(job)

    def reasons(self, name: str = "cifar10") -> set[str]:
        """The reasons of the Events about a Task."""
        path = f"/api/v1/namespaces/{self.name}/events?fieldSelector=involvedObject.name={name}"
        return {event["reason"] for event in self.admin.must("GET", path)["items"]}

    def versions(self) -> dict[str, str]:
        """The resource version of everything that the operator could have written to."""
        paths = (
            f"{GROUP}/namespaces/{self.name}/tasks",
            f"{GROUP}/namespaces/{self.name}/modulegraphs",
            f"/apis/batch/v1/namespaces/{self.name}/jobs",
            f"/api/v1/namespaces/{self.name}/events",
        )
        items = (item for path in paths for item in self.admin.must("GET", path)["items"])
        return {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in items}

    def _create(self, kind: str, plural: str, name: str, spec: Object) -> None:
        document = {
            "apiVersion": "evergraft.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "namespace": self.name},
            "spec": spec,
        }
        self.admin.must("POST", f"{GROUP}/namespaces/{self.name}/{plural}", document)


@pytest.fixture
def space(installed: Rest, request: pytest.FixtureRequest) -> Iterator[Space]:
    name = f"w{abs(hash(request.node.name)) % 10**8}"
    installed.must("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    eventually(lambda: installed.call("GET", account)[0] == 200, what="the default ServiceAccount")
    found = Space(installed, name)
    yield found
    for plural in ("tasks", "modulegraphs"):
        for item in installed.must("GET", f"{GROUP}/namespaces/{name}/{plural}")["items"]:
            path = f"{GROUP}/namespaces/{name}/{plural}/{item['metadata']['name']}"
            installed.call("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)
            installed.call("DELETE", path)


def test_from_apply_to_a_committed_route(space: Space, start: Callable[..., Operator]) -> None:
    with start() as operator:
        space.graph()
        space.task(workers={"replicas": 2})
        name = space.started()
        job = space.job(attempt="1")
        assert job["spec"]["completionMode"] == "Indexed"
        assert (job["spec"]["parallelism"], job["spec"]["completions"], job["spec"]["backoffLimitPerIndex"]) == (
            2,
            1000,
            3,
        )
        assert job["metadata"]["ownerReferences"][0] | {"uid": ""} == {
            "apiVersion": "evergraft.dev/v1alpha1",
            "kind": "Task",
            "name": "cifar10",
            "uid": "",
            "controller": True,
            "blockOwnerDeletion": True,
        }
        space.kubelet.run(space.name, name)
        space.phase("Training")
        space.commit(name)
        status = space.phase("Succeeded")
        assert (status["route"]["id"], status["route"]["score"], status["search"]["outcome"]) == (
            ROUTE,
            "0.93",
            "committed",
        )
        assert {"SearchStarted", "WorkersReady", "Committed"} <= space.reasons()
        eventually(lambda: space.status("default", "modulegraphs").get("version") == 2, what="the graph's version")
        owners = {(item["manager"], item.get("subresource")) for item in space.read()["metadata"]["managedFields"]}
        assert {owner for owner in owners if owner[1] == "status"} == {(FIELD_MANAGER, "status")}
        assert set(space.read()["metadata"]) & {"finalizers", "annotations"} == set()
        figures = operator.figures()
        assert figures["evergraft_searches_started_total"] == 1
        assert figures['evergraft_searches_finished_total{outcome="committed"}'] == 1
        assert figures['evergraft_reconcile_total{outcome="error"}'] == 0
        assert space.samples(operator) == 640
        refused = {name: value for name, value in figures.items() if 'code="403"' in name}
        assert refused == {}
    for line in operator.told.splitlines():
        json.loads(line)


def test_a_restart_writes_nothing_where_nothing_changed(space: Space, start: Callable[..., Operator]) -> None:
    with start():
        space.graph()
        space.task("done")
        space.task("held", suspend=True)
        space.task("lost", graphRef={"name": "absent"})
        name = space.started("done")
        space.kubelet.run(space.name, name)
        space.phase("Training", "done")
        space.commit(name, "done")
        for task, phase in (("done", "Succeeded"), ("held", "Suspended"), ("lost", "Pending")):
            space.phase(phase, task)
        time.sleep(2)
    before = space.versions()
    with start() as operator:
        eventually(operator.leads, what="the lead")
        eventually(lambda: operator.figures()["evergraft_reconcile_duration_seconds_count"] >= 4, what="a look at all")
        time.sleep(3)
        assert operator.writes() == {}
        eventually(lambda: space.samples(operator) is not None, what="the figures")
        assert space.samples(operator) == 0  # The process before has counted them.
    assert space.versions() == before


def test_a_job_that_was_deleted_meanwhile_starts_nothing_before_head_was_read(
    space: Space, start: Callable[..., Operator]
) -> None:
    with start():
        space.graph()
        space.task()
        name = space.started()
    space.admin.must(
        "DELETE", f"/apis/batch/v1/namespaces/{space.name}/jobs/{name}", {"propagationPolicy": "Background"}
    )
    path = f"/apis/batch/v1/namespaces/{space.name}/jobs/{name}"
    eventually(lambda: space.admin.call("GET", path)[0] == 404, what="the Job's end")
    with start():
        space.job(duty="heads")
        assert space.jobs(attempt="2") == []
        route = {"id": ROUTE, "quality": 0.95, "score": 0.93}
        space.answer("heads", heads=[{"run": "i1-c1", "outcome": "committed", "route": {**route, "run": "i1-c1"}}])
        space.phase("Succeeded")
        assert space.jobs(attempt="2") == []


def test_suspend_resume_and_scale(space: Space, start: Callable[..., Operator]) -> None:
    with start():
        space.graph()
        space.task(workers={"replicas": 1})
        name = space.started()
        space.patch("cifar10", workers={"replicas": 3})
        eventually(lambda: space.job(attempt="1")["spec"]["parallelism"] == 3, what="the new size")
        space.patch("cifar10", suspend=True)
        space.phase("Suspended")
        path = f"/apis/batch/v1/namespaces/{space.name}/jobs/{name}"
        eventually(lambda: space.admin.call("GET", path)[0] == 404, what="the Job's end")
        assert {"Suspended"} <= space.reasons()
        space.patch("cifar10", suspend=False)
        space.answer("heads", heads=[{"run": None}])
        assert space.job(attempt="2")["spec"]["parallelism"] == 3


def test_deleting_takes_the_route_out_of_service(space: Space, start: Callable[..., Operator]) -> None:
    with start():
        space.graph()
        space.task(deletionPolicy="Delete")
        name = space.started()
        eventually(lambda: space.read()["metadata"].get("finalizers") == [labels.FINALIZER], what="the finalizer")
        space.commit(name)
        space.phase("Succeeded")
        space.admin.must("DELETE", f"{GROUP}/namespaces/{space.name}/tasks/cifar10")
        space.phase("Deleting")
        space.answer("remove")
        path = f"{GROUP}/namespaces/{space.name}/tasks/cifar10"
        eventually(lambda: space.admin.call("GET", path)[0] == 404, what="the Task's end")
        assert "RouteRemoved" in space.reasons()


@pytest.mark.parametrize(("what", "reason"), [("count/jobs.batch", "QuotaWait"), ("pods", "QuotaWait")])
def test_a_quota_is_said_and_waited_for(what: str, reason: str, space: Space, start: Callable[..., Operator]) -> None:
    with start():
        space.graph()
        space.task()
        space.answer("init", graphID="cd" * 32)
        heads = space.job(duty="heads")["metadata"]["name"]
        space.kubelet.pod(space.name, heads)
        quota = {"metadata": {"name": "none"}, "spec": {"hard": {what: "0"}}}
        path = f"/api/v1/namespaces/{space.name}/resourcequotas"
        space.admin.must("POST", path, quota)
        eventually(lambda: space.admin.must("GET", f"{path}/none")["status"].get("hard"), what="the quota")
        space.answer("heads", heads=[{"run": None}])
        eventually(lambda: "quota" in space.status().get("waiting", ""), what=f"why: {space.status()}", within_s=45)
        assert space.condition("Scheduled")["reason"] == reason
        space.admin.must("DELETE", f"{path}/none")
        # A Task that is touched is looked at at once.
        space.patch("cifar10", workers={"replicas": 2})
        assert space.job(attempt="1")


def test_a_worker_s_refusal_stalls_until_a_person_acts(space: Space, start: Callable[..., Operator]) -> None:
    with start() as operator:
        space.graph()
        space.task()
        name = space.started()
        report = {"format": 1, "task": f"{space.name}/cifar10", "run": "i1-c1", "outcome": "error"}
        space.kubelet.end(space.name, name, {**report, "reason": "splits.train: no such split\x1b[31m"}, exit_code=65)
        status = space.phase("Failed")
        assert space.condition("Stalled")["reason"] == "DataError"
        assert "splits.train: no such split" in space.condition("Stalled")["message"]
        assert "\x1b" not in json.dumps(status)
        assert (
            operator.figures()[f'evergraft_worker_failures_total{{namespace="{space.name}",reason="DataError"}}'] == 1
        )


def test_a_standby_takes_over_and_a_paused_leader_writes_nothing_any_more(
    space: Space, start: Callable[..., Operator]
) -> None:
    with start(environment={"EVERGRAFT_POD_NAME": "first"}) as first:
        space.graph()
        space.answer("init", graphID="cd" * 32)
        with start(environment={"EVERGRAFT_POD_NAME": "second"}) as second:
            assert (first.leads(), second.leads()) == (True, False)
            first.signal(signal.SIGSTOP)
            try:
                eventually(second.leads, what="the second's lead", within_s=60)
                space.task()
                space.job(duty="heads")
            finally:
                first.signal(signal.SIGCONT)
            wrote = first.writes()
            space.answer("heads", heads=[{"run": None}])
            space.job(attempt="1")
            eventually(lambda: not first.leads(), what="the first's retreat")
            assert first.writes() == wrote
            assert len(space.jobs(attempt="1")) == 1


def test_a_status_of_an_older_version_is_refused_and_one_of_another_owner_said_apart(space: Space) -> None:
    """What the operator relies on: an applied version is a condition, on the status of custom objects too."""
    space.task()
    path = f"{GROUP}/namespaces/{space.name}/tasks/cifar10"

    def apply(phase: str, version: str, manager: str = FIELD_MANAGER, force: str = "true") -> tuple[int, Object]:
        body = {
            "apiVersion": "evergraft.dev/v1alpha1",
            "kind": "Task",
            "metadata": {"name": "cifar10", "namespace": space.name, "resourceVersion": version},
            "status": {"phase": phase},
        }
        return space.admin.call("PATCH", f"{path}/status?fieldManager={manager}&force={force}", body, APPLY)

    read = space.admin.must("GET", path)["metadata"]["resourceVersion"]
    written = space.admin.must("PATCH", path, {"spec": {"suspend": True}}, MERGE)["metadata"]["resourceVersion"]
    code, answer = apply("Training", read)
    assert (code, answer["reason"]) == (409, "Conflict")
    assert not answer["details"].get("causes")
    assert space.status() == {}
    code, answer = apply("Pending", written)
    assert (code, answer["status"]) == (200, {"phase": "Pending"})
    code, answer = apply("Failed", answer["metadata"]["resourceVersion"], manager="another", force="false")
    assert code == 409
    assert {cause["reason"] for cause in answer["details"]["causes"]} == {"FieldManagerConflict"}


def test_what_another_field_manager_owns_of_a_status_is_taken_out_and_stays_out(
    space: Space, start: Callable[..., Operator]
) -> None:
    """As a restored backup leaves it: an apply by the operator alone removes none of it."""
    path = f"{GROUP}/namespaces/{space.name}/tasks/cifar10"
    condition = {"type": "Restored", "status": "True", "reason": "Backup", "message": "", "observedGeneration": 1}
    body = {
        "apiVersion": "evergraft.dev/v1alpha1",
        "kind": "Task",
        "metadata": {"name": "cifar10", "namespace": space.name},
        "status": {
            "waiting": "for a backup",
            "failures": {"Foreign": 3},
            "conditions": [{**condition, "lastTransitionTime": "2026-03-01T12:00:00Z"}],
        },
    }
    with start():
        space.graph()
        space.answer("init", graphID="cd" * 32)
        space.task(suspend=True)
        space.phase("Suspended")
        eventually(lambda: space.condition("Accepted").get("status") == "True", what="the graph's word")
        expected = space.status()
        space.admin.must("PATCH", f"{path}/status?fieldManager=backup&force=true", body, APPLY)
        eventually(lambda: space.status() == expected, what=f"the status as it was: {space.status()}")
        before = space.versions()
        time.sleep(3)
        assert space.versions() == before


def test_a_forged_answer_from_another_namespace_is_not_believed(
    space: Space, installed: Rest, start: Callable[..., Operator]
) -> None:
    with start():
        space.graph()
        space.task()
        space.answer("init", graphID="cd" * 32)
        genuine = space.job(duty="heads")
        uid = space.read()["metadata"]["uid"]
        about = {"tasks": [{"uid": uid, "task": f"{space.name}/cifar10", "run": "i1-c1", "attempt": 0}]}
        box = {"name": "steward", "image": "x", "command": ["x"]}
        forged = {
            "metadata": {
                "name": "forged",
                "labels": genuine["metadata"]["labels"],
                "annotations": {labels.QUESTION: json.dumps(about)},
            },
            "spec": {
                "template": {
                    "metadata": {"labels": genuine["metadata"]["labels"]},
                    "spec": {"restartPolicy": "Never", "containers": [box]},
                }
            },
        }
        installed.must("POST", "/apis/batch/v1/namespaces/default/jobs", forged)
        try:
            route = {"id": ROUTE, "run": "i1-c1"}
            told = {"format": 1, "heads": [{"run": "i1-c1", "outcome": "committed", "route": route}]}
            space.kubelet.end("default", "forged", told)
            time.sleep(3)
            assert "route" not in space.status()
        finally:
            path = "/apis/batch/v1/namespaces/default/jobs/forged"
            installed.must("DELETE", path, {"propagationPolicy": "Background"})


def test_in_one_namespace_it_needs_no_right_beyond_it(api_cluster: Cluster, space: Space) -> None:
    """The overlay for one namespace, moved to the test's: its account may read nothing of the cluster."""
    rendered = list(yaml.safe_load_all(api_cluster.kubectl("kustomize", "manifests/overlays/namespaced")))
    kept = [item for item in rendered if item["kind"] in ("ServiceAccount", "Role", "RoleBinding")]
    assert not [
        item for item in rendered if item["kind"].startswith("Cluster") and "operator" in item["metadata"]["name"]
    ]
    for item in kept:
        item["metadata"]["namespace"] = space.name
        for subject in item.get("subjects", []):
            subject["namespace"] = space.name
    api_cluster.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(kept))
    own = api_cluster.kubectl("-n", space.name, "create", "token", "evergraft-operator", "--duration", "1h").strip()
    environment = {"EVERGRAFT_WATCH_NAMESPACES": space.name, "EVERGRAFT_NAMESPACE": space.name}
    with Operator(api_cluster, own, environment) as operator:
        space.graph()
        space.task()
        name = space.started()
        space.kubelet.run(space.name, name)
        space.commit(name)
        space.phase("Succeeded")
        assert [name for name in operator.figures() if 'code="403"' in name] == []
        assert 'evergraft_watch_age_seconds{resource="namespaces"}' not in operator.figures()
    assert "forbidden" not in operator.told.lower()


def test_kopf_s_own_command_runs_it_too(space: Space, start: Callable[..., Operator]) -> None:
    with start(command=("-m", "kopf", "run", "-A", "-m", "evergraft_operator")):
        space.graph()
        space.answer("init", graphID="cd" * 32)
        eventually(
            lambda: space.condition("Ready", "default", "modulegraphs").get("status") == "True", what="the graph"
        )
