"""The CRDs on a real API server: every rule and every sentence, valid and invalid, and everything that kubectl shows.

The cases are those of tests/evergraft/api/crd_cases.yaml, where another CEL implementation judges them too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.harness.cluster import Cluster
from tests.cluster.rest import APPLY, MERGE, Object, Rest
from tests.evergraft.api.test_admission import CASES, document, told

from evergraft.api import crd

ROOT = Path(__file__).resolve().parents[2]
NAMESPACES = ("ml", "vision")
PLURALS = {"Task": "tasks", "ModuleGraph": "modulegraphs"}
API = "/apis/evergraft.dev/v1alpha1"
NOT_CHECKED = "some validation rules were not checked because the object was invalid"


def path_of(value: Mapping[str, Any], *, named: bool) -> str:
    where = f"{API}/namespaces/{value['metadata']['namespace']}/{PLURALS[value['kind']]}"
    return f"{where}/{value['metadata']['name']}" if named else where


@pytest.fixture(scope="module")
def cluster(api_cluster: Cluster) -> Cluster:
    """A cluster that has the CRDs, and the namespaces of the cases."""
    api_cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "manifests" / "crds"))
    api_cluster.kubectl(
        "wait", "--for=condition=Established", "crd", *(f"{name}.evergraft.dev" for name in PLURALS.values())
    )
    for name in NAMESPACES:
        api_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return api_cluster


@pytest.fixture(scope="module")
def rest(cluster: Cluster) -> Iterator[Rest]:
    """The API server, asked by the administrator."""
    rest = Rest(cluster)
    yield rest
    rest.close()


@dataclass(frozen=True)
class Verdict:
    """What the server says to one case: sentences by field, none where it accepts."""

    status: int
    refused: Mapping[str, tuple[str, ...]]


def verdict(status: int, answer: Object) -> Verdict:
    """Read an answer of the server's."""
    if status < 300:
        return Verdict(status, {})
    found: dict[str, list[str]] = {}
    if status == 400:
        # Strict decoding stops before validation and knows no causes.
        for part in answer["message"].split("strict decoding error: ", 1)[1].split(", "):
            words, _, name = part.partition(' "')
            found.setdefault(name.rstrip('"'), []).append(words)
    for cause in answer.get("details", {}).get("causes", ()):
        if NOT_CHECKED not in cause["message"]:
            found.setdefault(cause["field"].replace("<nil>", ""), []).append(cause["message"])
    return Verdict(status, {name: tuple(sentences) for name, sentences in found.items()})


def judge(rest: Rest, case: Mapping[str, Any]) -> Verdict:
    """Create, or create and change, without keeping it."""
    new, old = document(case["kind"], case["new"]), document(case["kind"], case.get("old"))
    assert new is not None
    if old is None:
        query = "?dryRun=All&fieldValidation=Strict"
        return verdict(*rest.call("POST", path_of(new, named=False) + query, new))
    stored = rest.must("POST", path_of(old, named=False), old)
    try:
        new["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
        query = "?dryRun=All&fieldValidation=Strict"
        return verdict(*rest.call("PUT", path_of(new, named=True) + query, new))
    finally:
        rest.must("DELETE", path_of(old, named=True))


@pytest.fixture(scope="module")
def verdicts(rest: Rest) -> tuple[Verdict, ...]:
    """The server's word on every case, asked at once."""
    return tuple(judge(rest, case) for case in CASES["cases"])


@pytest.mark.parametrize("index", range(len(CASES["cases"])), ids=[told(case) for case in CASES["cases"]])
def test_what_is_accepted_and_what_is_refused(index: int, verdicts: tuple[Verdict, ...]) -> None:
    expected: dict[str, str] = CASES["cases"][index].get("refused", {})
    found = verdicts[index]
    assert set(found.refused) == set(expected), found
    for field, part in expected.items():
        assert any(part in sentence for sentence in found.refused[field]), found
    assert found.status in ((200, 201) if not expected else (400, 422))


def sentences(schema: Mapping[str, Any]) -> Iterator[str]:
    """Every sentence that a rule of a schema says."""
    yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
    for inner in (*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")):
        if isinstance(inner, Mapping):
            yield from sentences(inner)


def test_every_rule_s_sentence_is_heard(verdicts: tuple[Verdict, ...]) -> None:
    heard = "\n".join(part for found in verdicts for told in found.refused.values() for part in told)
    written = {sentence for kind in crd.KINDS for sentence in sentences(crd.schema(kind))}
    assert len(written) > 20
    assert {sentence for sentence in written if sentence not in heard} == set()


def test_no_sentence_repeats_a_secret(verdicts: tuple[Verdict, ...]) -> None:
    secret = [found for case, found in zip(CASES["cases"], verdicts, strict=True) if "hunter2" in str(case)]
    assert len(secret) >= 3
    assert all(found.refused for found in secret)
    assert "hunter2" not in str(secret)


# --- What is stored.


def bare(name: str, **spec: Any) -> Object:
    """A Task with little more than its dataset."""
    return {
        "apiVersion": "evergraft.dev/v1alpha1",
        "kind": "Task",
        "metadata": {"name": name, "namespace": "vision"},
        "spec": {"dataset": {"url": "gs://acme-data/x"}, **spec},
    }


def test_the_server_takes_the_crds_as_they_are(cluster: Cluster) -> None:
    for kind in crd.KINDS:
        expected = crd.definition(kind)
        (found,) = cluster.objects("crd", f"--field-selector=metadata.name={expected['metadata']['name']}")
        states = {condition["type"]: condition["status"] for condition in found["status"]["conditions"]}
        assert states == {"NamesAccepted": "True", "Established": "True"}, (
            "a schema that is not structural is told here"
        )
        assert found["spec"]["versions"] == expected["spec"]["versions"]
        assert len(json.dumps(found)) < 256 << 10


def test_defaults_are_set_where_no_layer_may_differ(rest: Rest) -> None:
    task = bare("defaults", search={}, workers={"accelerator": {}})
    stored = rest.must("POST", path_of(task, named=False) + "?dryRun=All", task)
    assert stored["spec"] == {
        "graphRef": {"name": "default"},
        "iteration": 1,
        "suspend": False,
        "visibility": "Public",
        "deletionPolicy": "Retain",
        "metric": "Accuracy",
        "dataset": {"url": "gs://acme-data/x", "format": "Auto"},
        "search": {},
        "workers": {"accelerator": {"type": "CPU", "count": 1}},
    }


def test_unknown_fields_are_dropped_where_nobody_is_strict(rest: Rest) -> None:
    task = bare("lenient", serach={"samples": 1})
    stored = rest.must("POST", path_of(task, named=False) + "?dryRun=All&fieldValidation=Warn", task)
    assert "serach" not in stored["spec"]


@pytest.fixture
def task(rest: Rest) -> Iterator[Object]:
    """A Task with a status such as a search under way has."""
    value = bare("cifar10", workers={"replicas": 4}, graphRef={"name": "shared", "namespace": "ml"})
    rest.must("POST", path_of(value, named=False), value)
    status = {
        "phase": "Training",
        "waiting": "GPU quota: ClusterQueue gpu needs 4, has 1 (Kueue)",
        "progress": "2/4",
        "score": "0.9312",
        "search": {"runKey": "i1-c1", "attempt": 2, "generation": 2, "generations": 4},
        "route": {"id": "r", "version": 42, "parentTask": "vision/svhn"},
        "workers": {"desired": 4, "active": 3, "ready": 2, "selector": "evergraft.dev/task-uid=u"},
        "acceleratorSeconds": {"useful": 41230, "lost": 912},
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "Committed", "message": "", "observedGeneration": 1,
             "lastTransitionTime": "2026-01-01T00:00:00Z"}
        ],
    }  # fmt: skip
    rest.must("PATCH", f"{path_of(value, named=True)}/status?fieldValidation=Strict", {"status": status}, MERGE)
    yield value
    rest.must("DELETE", path_of(value, named=True))


def test_a_status_is_written_by_its_subresource_alone(rest: Rest, task: Object) -> None:
    where = path_of(task, named=True)
    rest.must("PATCH", where, {"status": {"phase": "Failed"}}, MERGE)
    rest.must("PATCH", f"{where}/status", {"spec": {"suspend": True}, "status": {"waiting": "x"}}, MERGE)
    found = rest.must("GET", where)
    assert (found["status"]["phase"], found["status"]["waiting"], found["spec"]["suspend"]) == ("Training", "x", False)
    assert found["metadata"]["generation"] == 1


def test_conditions_are_a_map_by_type(rest: Rest, task: Object) -> None:
    condition = {"reason": "QuotaWait", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z", "status": "False"}
    applied = {**{key: task[key] for key in ("apiVersion", "kind", "metadata")}}
    applied["status"] = {"conditions": [{"type": "Scheduled", **condition}]}
    where = f"{path_of(task, named=True)}/status?fieldManager=other&fieldValidation=Strict"
    found = rest.must("PATCH", where, applied, APPLY)
    assert [each["type"] for each in found["status"]["conditions"]] == ["Ready", "Scheduled"]


def test_a_wrong_status_is_refused(rest: Rest, task: Object) -> None:
    where = f"{path_of(task, named=True)}/status?fieldValidation=Strict"
    status, answer = rest.call("PATCH", where, {"status": {"phase": "Dancing"}}, MERGE)
    assert status == 422
    assert "status.phase" in answer["message"]


# --- What kubectl shows.


def rows(table: str) -> list[list[str]]:
    """The columns of each line; kubectl parts them by three spaces."""
    return [[cell for cell in line.split("   ") if cell.strip()] for line in table.splitlines()]


def test_kubectl_get_shows_how_far_a_task_is(cluster: Cluster, task: Object) -> None:
    head, row = (
        [cell.strip() for cell in line]
        for line in rows(cluster.kubectl("get", "et", "-n", "vision", "--field-selector=metadata.name=cifar10"))
    )
    assert head == ["NAME", "PHASE", "WAITING", "GEN", "SCORE", "PARENT", "VERSION", "WORKERS", "AGE"]
    assert row[:8] == [
        *("cifar10", "Training", "GPU quota: ClusterQueue gpu needs 4, has 1 (Kueue)"),
        *("2/4", "0.9312", "vision/svhn", "42", "2"),
    ]


def test_the_wide_table_adds_graph_run_attempt_and_loss(cluster: Cluster, task: Object) -> None:
    head, row = (
        [cell.strip() for cell in line]
        for line in rows(cluster.kubectl("get", "et", "cifar10", "-n", "vision", "-o", "wide"))
    )
    assert head[-4:] == ["GRAPH", "RUN", "ATTEMPT", "LOST"]
    assert row[-4:] == ["shared", "i1-c1", "2", "912"]


def test_the_graph_s_table(cluster: Cluster, rest: Rest) -> None:
    graph = document("ModuleGraph", {})
    assert graph is not None
    rest.must("POST", path_of(graph, named=False), graph)
    numbers = {"version": 42, "tasks": 7, "modules": 99, "parameters": 10**12, "bytes": 2**40}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {**numbers, "conditions": [ready]}
    rest.must("PATCH", f"{path_of(graph, named=True)}/status", {"status": status}, MERGE)
    try:
        head, row = rows(cluster.kubectl("get", "mg", "default", "-n", "ml", "-o", "wide"))
        assert [cell.strip() for cell in head] == [
            *("NAME", "READY", "VERSION", "TASKS", "MODULES", "PARAMETERS", "AGE", "STORE", "BYTES", "VERIFIED"),
        ]
        assert [cell.strip() for cell in row][1:6] == ["True", "42", "7", "99", "1000000000000"]
    finally:
        rest.must("DELETE", path_of(graph, named=True))


def names(cluster: Cluster, *arguments: str) -> list[str]:
    return sorted(cluster.kubectl("get", *arguments, "-o", "name").split())


def test_fields_select(cluster: Cluster, task: Object) -> None:
    own = "task.evergraft.dev/cifar10"
    for selector, expected in {
        "status.phase=Training": [own],
        "status.phase=Failed": [],
        "status.phase!=Training": [],
        "spec.graphRef.name=shared": [own],
        "spec.graphRef.name=default": [],
        "spec.graphRef.name=shared,status.phase=Training": [own],
    }.items():
        assert names(cluster, "tasks.evergraft.dev", "-A", f"--field-selector={selector}") == expected, selector
    done = cluster.try_kubectl("get", "et", "-A", "--field-selector=spec.suspend=true")
    assert "field label not supported: spec.suspend" in done.stderr


def test_the_category_holds_both_kinds(cluster: Cluster, rest: Rest, task: Object) -> None:
    graph = document("ModuleGraph", {"metadata.namespace": "vision"})
    assert graph is not None
    rest.must("POST", path_of(graph, named=False), graph)
    try:
        shown = names(cluster, "evergraft", "-n", "vision")
        assert shown == ["modulegraph.evergraft.dev/default", "task.evergraft.dev/cifar10"]
    finally:
        rest.must("DELETE", path_of(graph, named=True))


def test_kubectl_scale_sets_the_replicas(cluster: Cluster, rest: Rest, task: Object) -> None:
    scale = rest.must("GET", f"{path_of(task, named=True)}/scale")
    assert scale["spec"] == {"replicas": 4}
    assert scale["status"] == {"replicas": 3, "selector": "evergraft.dev/task-uid=u"}
    cluster.kubectl("scale", "et/cifar10", "-n", "vision", "--replicas=8")
    assert rest.must("GET", path_of(task, named=True))["spec"]["workers"]["replicas"] == 8
    done = cluster.try_kubectl("scale", "et/cifar10", "-n", "vision", "--replicas=1001")
    assert done.returncode != 0
    assert "spec.workers.replicas" in done.stderr


def test_a_task_without_workers_can_be_scaled_too(cluster: Cluster, rest: Rest) -> None:
    value = bare("scaled")
    rest.must("POST", path_of(value, named=False), value)
    try:
        cluster.kubectl("scale", "et/scaled", "-n", "vision", "--replicas=3")
        assert rest.must("GET", path_of(value, named=True))["spec"]["workers"] == {"replicas": 3}
    finally:
        rest.must("DELETE", path_of(value, named=True))


def test_a_strict_apply_names_the_field(cluster: Cluster) -> None:
    text = yaml.safe_dump(bare("typo", serach={"samples": 1}))
    done = cluster.try_kubectl("apply", "-f", "-", input=text)
    assert done.returncode != 0
    assert 'unknown field "spec.serach"' in done.stderr


def test_a_refusal_reads_well(cluster: Cluster) -> None:
    text = yaml.safe_dump(bare("Bad.Name" * 8, dataset={}))
    done = cluster.try_kubectl("apply", "-f", "-", input=text.replace("Bad.Name" * 8, "a" * 49))
    assert "exactly one of url and persistentVolumeClaim" in done.stderr
    assert "must have at most 48" in done.stderr


# --- kubectl explain.


def fields(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Every object below a path that kubectl can explain, and what it says of itself."""
    for name, inner in schema.get("properties", {}).items():
        target = inner.get("items", inner)
        if "properties" in target:
            yield f"{path}.{name}", inner["description"]
            yield from fields(target, f"{path}.{name}")


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.name)
def test_explain_reads_well(kind: crd.Kind, cluster: Cluster) -> None:
    text = cluster.kubectl("explain", f"{kind.plural}.evergraft.dev.spec", "--recursive")
    assert "<no description>" not in text
    top = cluster.kubectl("explain", f"{kind.plural}.evergraft.dev")
    assert " ".join((kind.model.__doc__ or "").split()) in " ".join(top.split())
    spec = crd.schema(kind)["properties"]["spec"]
    paths = list(fields(spec, f"{kind.plural}.evergraft.dev.spec"))
    assert len(paths) >= 5
    path, description = next(entry for entry in paths if entry[0].count(".") == 4)
    told_words = " ".join(cluster.kubectl("explain", path).split())
    assert description in told_words
    inner = spec["properties"][path.rsplit(".", maxsplit=1)[-1]]["properties"]
    for name, schema in inner.items():
        assert f"{name} <" in told_words
        assert " ".join(str(schema["description"]).split()) in told_words


def test_explain_of_the_search(cluster: Cluster) -> None:
    text = cluster.kubectl("explain", "task.spec.search")
    assert "KIND:       Task" in text
    assert "enum: SGD, AdamW" in text
    assert "Samples trained, in all. Built-in default: 20480." in " ".join(text.split())
