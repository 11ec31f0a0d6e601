"""The worker Job as a value, and what a Task may put into it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evergraft import canonical
from evergraft.api.modulegraph import TaskDefaults
from evergraft.api.resolved import ResolvedTask
from evergraft.names import RunKey
from evergraft_operator import admission, jobs, labels, policy
from evergraft_operator.jobs import Attempt, worker_job
from evergraft_operator.observed import Thing
from evergraft_operator.resolving import Wanted, want
from evergraft_operator.settings import Images, Policy, Settings
from evergraft_operator.testing.documents import Fields, graph_document, task_document

ATTEMPT = Attempt(run=RunKey(1, 1), number=2, image="evergraft/trainer:cpu", before={"Preempted": 3})


def wanted(settings: Settings | None = None, graph: Fields | None = None, **spec: Any) -> Wanted:
    task, refusal = admission.read_task(Thing.read(task_document(**spec)))
    assert task is not None, refusal
    document, wrong = admission.read_graph(Thing.read(graph_document(**(graph or {}))))
    assert document is not None, wrong
    return want(task, document, settings or Settings())


def job(settings: Settings | None = None, graph: Fields | None = None, **spec: Any) -> Fields:
    task = Thing.read(task_document(**spec))
    return worker_job(task, wanted(settings, graph, **spec), ATTEMPT, parallelism=4, settings=settings or Settings())


def container(document: Fields) -> Fields:
    box: Fields = document["spec"]["template"]["spec"]["containers"][0]
    return box


def environment(document: Fields) -> dict[str, Any]:
    return {item["name"]: item.get("value") for item in container(document)["env"]}


def test_the_job_is_the_one_that_was_tried() -> None:
    made = job()
    spec = {key: value for key, value in made["spec"].items() if key != "template"}
    assert spec == {
        "completionMode": "Indexed",
        "completions": 1000,
        "parallelism": 4,
        "backoffLimitPerIndex": 3,
        "podReplacementPolicy": "Failed",
        "successPolicy": {"rules": [{"succeededCount": 1}]},
        "ttlSecondsAfterFinished": 86400,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "worker", "operator": "In", "values": [64, 65]},
                },
                {"action": "FailIndex", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {"action": "FailIndex", "onExitCodes": {"containerName": "worker", "operator": "In", "values": [143]}},
                {"action": "Ignore", "onExitCodes": {"containerName": "worker", "operator": "In", "values": [75]}},
            ]
        },
    }
    meta = made["metadata"]
    digest = canonical.digest(["task-uid", "i1-c1", 2])[:8]
    assert (meta["name"], meta["namespace"]) == (f"cifar10-{digest}", "vision")
    assert meta["labels"] == {
        "app.kubernetes.io/managed-by": "evergraft",
        "app.kubernetes.io/component": "worker",
        "evergraft.dev/task-uid": "task-uid",
        "evergraft.dev/attempt": "2",
    }
    assert json.loads(meta["annotations"][labels.FAILURES]) == {"Preempted": 3}
    assert meta["ownerReferences"][0]["uid"] == "task-uid"


def test_pods_meet_pod_security_restricted_and_hold_no_token() -> None:
    spec = job()["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["restartPolicy"] == "Never"
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    box = spec["containers"][0]["securityContext"]
    assert box == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert {"name": "evergraft-scratch", "mountPath": "/tmp"} in spec["containers"][0]["volumeMounts"]
    assert [item["tolerationSeconds"] for item in spec["tolerations"]] == [60, 60]


def test_the_spec_that_a_worker_gets_is_one_it_can_read() -> None:
    text = environment(job(search={"parameters": {"rank": 8}, "strategy": "lora"}))["EVERGRAFT_SPEC"].replace("$$", "$")
    value = json.loads(text)
    assert canonical.dumps(value).decode() == text
    assert ResolvedTask.from_json(value["spec"]).task == "vision/cifar10"
    assert RunKey.parse(value["run"]) == RunKey(1, 1)
    assert value["taskHash"] == wanted(search={"parameters": {"rank": 8}, "strategy": "lora"}).task_hash


def test_dollar_signs_of_a_task_are_not_the_kubelet_s() -> None:
    url = "gs://acme-data/$(HOME)/$$x"
    text = environment(job(dataset={"url": url}))["EVERGRAFT_SPEC"]
    assert "$$(HOME)/$$$$x" in text


def test_secrets_are_files_and_never_the_environment() -> None:
    store = {"store": {"url": "s3://b/x", "endpoint": "https://minio.acme", "secretRef": {"name": "store-key"}}}
    bundle = {"configMapKeyRef": {"name": "ca", "key": "ca.pem"}}
    dataset = {
        "url": "s3://d/x",
        "secretRef": {"name": "data-key"},
        "endpoint": "https://minio.acme",
        "caBundle": bundle,
    }
    made = job(graph=store, dataset=dataset)
    mounts = {item["name"]: item for item in container(made)["volumeMounts"]}
    assert mounts["evergraft-store"] == {
        "name": "evergraft-store",
        "mountPath": "/var/run/evergraft/store",
        "readOnly": True,
    }
    assert mounts["evergraft-data"]["mountPath"] == "/var/run/evergraft/data"
    volumes = {item["name"]: item for item in made["spec"]["template"]["spec"]["volumes"]}
    assert volumes["evergraft-data-ca"]["configMap"]["items"] == [{"key": "ca.pem", "path": "ca.crt"}]
    assert not [item for item in container(made)["env"] if "secretKeyRef" in json.dumps(item)]
    value = json.loads(environment(made)["EVERGRAFT_SPEC"])
    assert value["store"] == {
        "url": "s3://b/x",
        "endpoint": "https://minio.acme",
        "credentials": "/var/run/evergraft/store",
    }
    assert value["data"]["caBundle"] == "/var/run/evergraft/data-ca/ca.crt"


def test_claims_stand_in_for_urls_and_data_is_read_only() -> None:
    claim = {"persistentVolumeClaim": {"claimName": "cifar10", "path": "images"}}
    store = {"store": {"persistentVolumeClaim": {"claimName": "graph"}}, "allowedNamespaces": {"from": "Same"}}
    made = job(graph=store, dataset=claim)
    assert container(made)["args"][:3] == ["worker", "--graph", "file:///mnt/evergraft/store"]
    mounts = {item["name"]: item for item in container(made)["volumeMounts"]}
    assert mounts["evergraft-data"]["readOnly"] is True
    assert "readOnly" not in mounts["evergraft-store"]
    value = json.loads(environment(made)["EVERGRAFT_SPEC"])
    assert value["spec"]["dataset"]["url"] == "file:///mnt/evergraft/data/images"


def test_gpus_and_tpus() -> None:
    gpu = job(workers={"accelerator": {"type": "GPU", "count": 2}, "resources": {"requests": {"cpu": "4"}}})
    assert container(gpu)["resources"] == {
        "requests": {"cpu": "4", "nvidia.com/gpu": "2"},
        "limits": {"nvidia.com/gpu": "2"},
    }
    assert container(gpu)["args"][-1] == "cuda"
    tpu = {"type": "TPU", "count": 4, "tpu": {"accelerator": "tpu-v6e-slice", "topology": "2x2"}}
    made = job(workers={"accelerator": tpu, "podTemplate": {"nodeSelector": {"pool": "x"}}})
    assert made["spec"]["template"]["spec"]["nodeSelector"] == {
        "pool": "x",
        "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
        "cloud.google.com/gke-tpu-topology": "2x2",
    }
    assert container(made)["resources"]["limits"] == {"google.com/tpu": "4"}


def test_a_queue_holds_the_job_until_there_is_quota() -> None:
    made = job(workers={"queueName": "gpu", "queuePriorityClass": "batch"})
    assert made["spec"]["suspend"] is True
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpu"
    assert made["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "batch"
    assert "suspend" not in job()["spec"]


def test_a_pod_template_adds_and_replaces_nothing_of_ours() -> None:
    template = {
        "labels": {"team": "vision", labels.TASK_UID: "mine"},
        "annotations": {"a": "b"},
        "tolerations": [{"key": "gpu"}],
        "env": [{"name": "HOME", "value": "/root"}, {"name": "LOG", "value": "x"}],
        "envFrom": [{"configMapRef": {"name": "x"}}],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "priorityClassName": "high",
    }
    made = job(workers={"podTemplate": template, "shmSize": "2Gi", "scratch": {"size": "50Gi"}})
    pod = made["spec"]["template"]
    assert pod["metadata"]["labels"]["team"] == "vision"
    assert pod["metadata"]["labels"][labels.TASK_UID] == "task-uid"
    assert environment(made)["HOME"] == "/tmp"
    assert pod["spec"]["priorityClassName"] == "high"
    assert len(pod["spec"]["tolerations"]) == 3
    names = [item["name"] for item in pod["spec"]["volumes"]]
    assert names == ["evergraft-scratch", "evergraft-shm", "v"]
    assert pod["spec"]["volumes"][0]["emptyDir"] == {"sizeLimit": "50Gi"}


def test_defaults_come_from_the_task_then_the_graph_then_the_operator() -> None:
    search = {"samples": 1_000_000, "batchSize": 16, "strategy": "lora", "parameters": {"rank": 2}}
    operator = TaskDefaults.model_validate({"search": search, "workers": {"replicas": 7, "queueName": "q"}})
    graph = {"taskDefaults": {"search": {"samples": 500_000, "seed": 5}, "workers": {"replicas": 3}}}
    found = wanted(Settings(defaults=operator), graph, search={"seed": 9})
    made = found.resolved.search
    assert (made.seed, made.samples, made.batch_size, made.strategy) == (9, 500_000, 16, "lora")
    assert (found.replicas, found.workers.queue_name) == (3, "q")
    other = wanted(Settings(defaults=operator), graph, search={"strategy": "mu2net"})
    assert (other.resolved.search.strategy, other.resolved.search.batch_size) == ("mu2net", 16)
    assert other.task_hash == wanted(search={"strategy": "mu2net"}).task_hash


@pytest.mark.parametrize(
    ("rules", "spec", "told"),
    [
        (Policy(image_prefixes=("ours/",)), {"workers": {"image": "theirs/x"}}, "spec.workers.image"),
        (Policy(service_accounts=("t",)), {"workers": {"serviceAccountName": "x"}}, "serviceAccountName"),
        (Policy(max_devices=7), {"workers": {"replicas": 4, "accelerator": {"type": "GPU", "count": 2}}}, "at most 7"),
        (Policy(dataset_url_prefixes=("gs://ours/",)), {}, "spec.dataset.url"),
        (Policy(), {"workers": {"podTemplate": {"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}}}, "hostPath"),
        (Policy(), {"workers": {"podTemplate": {"volumes": [{"name": "evergraft-x"}]}}}, "volumes[0].name"),
        (Policy(), {"workers": {"podTemplate": {"env": [{"name": "EVERGRAFT_SPEC"}]}}}, "env[0].name"),
        *[
            (Policy(), {"workers": {"podTemplate": {"volumeMounts": [{"name": "v", "mountPath": path}]}}}, "mountPath")
            for path in ("/tmp", "/var/run/evergraft/store", "//tmp/./x", "/a/../tmp")
        ],
    ],
)
def test_what_a_platform_forbids(rules: Policy, spec: Fields, told: str) -> None:
    found = policy.violations(wanted(**spec), rules)
    assert len(found) == 1
    assert told in found[0]


def projecting(*sources: Fields) -> Fields:
    """Workers with a projected volume."""
    return {"podTemplate": {"volumes": [{"name": "t", "projected": {"sources": list(sources)}}]}}


@pytest.mark.parametrize(
    "token",
    [
        {"path": "token"},
        {"path": "token", "audience": ""},
        {"path": "token", "audience": "https://kubernetes.default.svc.cluster.local"},
        {"path": "token", "audience": "kubernetes.default.svc"},
    ],
)
def test_workers_project_no_token_for_the_api_server(token: Fields) -> None:
    harmless = [{"configMap": {"name": "c"}}] * 1200
    workers = projecting(*harmless, {"serviceAccountToken": token})
    (found,) = policy.violations(wanted(workers=workers), Policy())
    assert "volumes[0].projected.sources[1200].serviceAccountToken.audience" in found


def test_workers_may_project_a_token_by_which_a_cloud_knows_them() -> None:
    token = {"path": "token", "audience": "sts.amazonaws.com", "expirationSeconds": 3600}
    workers = projecting({"serviceAccountToken": token}, {"downwardAPI": {"items": []}})
    assert policy.violations(wanted(workers=workers), Policy()) == ()


def test_what_a_platform_allows() -> None:
    rules = Policy(("ours/",), ("t",), ("emptyDir",), 8, ("gs://acme-",))
    template = {"volumes": [{"name": "v", "emptyDir": {}}], "volumeMounts": [{"name": "v", "mountPath": "/tmpx"}]}
    workers = {"image": "ours/x", "serviceAccountName": "t", "replicas": 8, "podTemplate": template}
    assert policy.violations(wanted(workers=workers), rules) == ()


def test_images_follow_the_accelerator() -> None:
    images = Images()
    assert [images.trainer(kind) for kind in ("CPU", "GPU", "TPU")] == [images.cpu, images.cuda, images.tpu]


def test_names_fit_kubernetes() -> None:
    name = labels.worker_job_name(task="a" * 48, uid="u", run="i1-c1", attempt=1)
    assert len(name) <= 63
    long = labels.steward_job_name(graph="g" * 42 + "-" + "x" * 20, uid="u", duty="collect", about={"due": "x"})
    assert len(long) <= 63
    assert jobs.RESERVE == 1000
