"""The cache: newest wins, gone stays gone, indexes agree with what is there, objects are trimmed."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evergraft_operator import labels
from evergraft_operator.cache import Cache, Entry
from evergraft_operator.facts import JobFacts, PodFacts, TaskFacts
from evergraft_operator.kinds import Key
from evergraft_operator.observed import Job, Pod, Thing
from evergraft_operator.routing import concerned
from evergraft_operator.testing.documents import graph_document, pod_document, task_document

Fields = dict[str, Any]


def at_version(document: Fields, version: int) -> Fields:
    document["metadata"]["resourceVersion"] = str(version)
    return document


def task(version: int = 1, name: str = "cifar10", *, uid: str = "task-uid", **spec: Any) -> Fields:
    return at_version(task_document(name, uid=uid, **spec), version)


def job(version: int = 1, uid: str = "j1", **more: Any) -> Fields:
    return {
        "metadata": {
            "name": f"job-{uid}",
            "namespace": "vision",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {labels.TASK_UID: "task-uid", labels.ATTEMPT: "1", "other": "x"},
            "annotations": {labels.RUN_KEY: "i1-c1", "kubectl": "y" * 1000},
            "managedFields": [{"manager": "m"}],
        },
        "spec": {
            "parallelism": 2,
            "template": {"spec": {"containers": [{"image": "i", "env": [{"value": "x" * 60_000}]}]}},
        },
        "status": {"active": 2, "uncountedTerminatedPods": {}},
        **more,
    }


def test_an_older_version_changes_nothing() -> None:
    cache = Cache()
    assert cache.see("Task", task(10, suspend=True)) is not None
    assert cache.see("Task", task(9)) is None
    assert cache.see("Task", task(10)) is None
    entry = cache.get("task-uid")
    assert entry is not None
    assert entry.document()["spec"]["suspend"] is True


def test_versions_are_numbers_not_texts() -> None:
    cache = Cache()
    cache.see("Task", task(9))
    assert cache.see("Task", task(10)) is not None


def test_what_is_gone_stays_gone_however_late_an_answer_comes() -> None:
    cache = Cache()
    cache.see("Task", task(10))
    assert cache.lose("task-uid") is not None
    assert cache.lose("task-uid") is None
    assert cache.see("Task", task(11)) is None
    assert (len(cache), cache.named("Task", "vision", "cifar10")) == (0, None)


def test_an_object_made_anew_takes_the_name() -> None:
    cache = Cache()
    cache.see("Task", task(10))
    cache.see("Task", task(20, uid="second"))
    assert [entry.uid for entry in cache.each("Task")] == ["second"]
    cache.lose("task-uid")
    found = cache.named("Task", "vision", "cifar10")
    assert found is not None
    assert found.uid == "second"


def test_objects_are_trimmed_to_what_is_read_of_them() -> None:
    cache = Cache()
    document, parsed = job(), Job.read(job())
    cache.see("Job", document)
    entry = cache.get("j1")
    assert entry is not None
    assert Job.read(entry.document()) == parsed
    assert len(json.dumps(entry.document())) < 700
    pod = at_version(pod_document("p", job="j1", exit_code=1, phase="Failed", message="m", ready=True), 5)
    cache.see("Pod", pod | {"spec": {"containers": ["x"] * 1000}})
    kept = cache.get("p-uid")
    assert kept is not None
    assert Pod.read(kept.document()) == Pod.read(pod)
    assert "spec" not in kept.document()
    whole = task(7, iteration=3)
    cache.see("Task", whole | {"metadata": whole["metadata"] | {"managedFields": [1], "annotations": {"a": "b"}}})
    thing = cache.get("task-uid")
    assert thing is not None
    assert set(thing.document()["metadata"]) & {"managedFields", "annotations"} == set()
    read = Thing.read(thing.document())
    assert (read.spec, read.uid, read.created) == (whole["spec"], "task-uid", Thing.read(whole).created)


def test_hostile_objects_are_taken_in() -> None:
    cache = Cache()
    values: list[Any] = [None, 5, "x", [], {"a": []}, {"conditions": 7, "containerStatuses": "x"}]
    for number, value in enumerate(values):
        for kind in ("Task", "ModuleGraph", "Job", "Pod", "Namespace"):
            meta = {"uid": f"{kind}{number}", "resourceVersion": "1", "labels": value, "ownerReferences": value}
            cache.see(kind, {"metadata": {**meta, "annotations": value}, "spec": value, "status": value})
            entry = cache.get(f"{kind}{number}")
            assert entry is not None
            entry.document()
    assert cache.see("Task", {"metadata": None}) is None
    assert cache.see("Task", {"metadata": {"uid": "v", "resourceVersion": "²"}}) is not None


IDS = st.sampled_from(["u1", "u2", "u3"])
STEP = st.one_of(
    st.tuples(st.just("see"), IDS, st.integers(1, 9), st.sampled_from(["n1", "n2"]), st.sampled_from(["a", "b"])),
    st.tuples(st.just("lose"), IDS, st.just(0), st.just(""), st.just("")),
)


@given(st.lists(STEP, max_size=40))
def test_indexes_agree_with_what_is_there(steps: list[tuple[str, str, int, str, str]]) -> None:
    cache = Cache()
    for what, uid, version, name, task_id in steps:
        if what == "see":
            cache.see("Task", task(version, name, uid=uid, taskID=task_id, after=[f"x-{task_id}"]))
        else:
            cache.lose(uid)
    there = list(cache.each("Task"))
    assert len({(entry.namespace, entry.name) for entry in there}) == len(there)
    for index, prefix in (("tasks by id", ""), ("tasks after", "x-")):
        for task_id in "ab":
            expected = [
                entry.uid for entry in there if isinstance(entry.facts, TaskFacts) and entry.facts.task_id == task_id
            ]
            assert [entry.uid for entry in cache.found(index, f"ml/default {prefix}{task_id}")] == sorted(expected)
    for entry in there:
        assert cache.named("Task", entry.namespace, entry.name) is entry


def keys(cache: Cache, kind: str, document: Fields) -> set[str]:
    change = cache.see(kind, document)
    assert change is not None
    return {key.name for key in concerned(change, cache)}


def test_a_route_wakes_those_who_wait_for_it_and_those_with_its_id() -> None:
    cache = Cache()
    keys(cache, "Task", task(1, "first", uid="a", taskID="t"))
    keys(cache, "Task", task(2, "rival", uid="b", taskID="t"))
    keys(cache, "Task", task(3, "waits", uid="c", after=["t"]))
    assert keys(cache, "Task", task(4, "first", uid="a", taskID="t") | {"status": {"phase": "Training"}}) == {"first"}
    routed = task(5, "first", uid="a", taskID="t") | {"status": {"route": {"id": "ab"}}}
    assert keys(cache, "Task", routed) == {"first", "rival", "waits"}
    change = cache.lose("a")
    assert change is not None
    assert {key.name for key in concerned(change, cache)} == {"first", "rival", "waits"}


def test_a_graph_wakes_its_tasks_when_they_can_see_the_change() -> None:
    cache = Cache()
    keys(cache, "Task", task())
    assert keys(cache, "ModuleGraph", at_version(graph_document(ready=False), 2)) == {"default", "cifar10"}
    assert keys(cache, "ModuleGraph", at_version(graph_document(), 3)) == {"default", "cifar10"}
    more = at_version(graph_document(), 4)
    more["status"]["version"] = 9
    assert keys(cache, "ModuleGraph", more) == {"default"}
    inside = {"url": "gs://acme-evergraft/prod/inside"}
    keys(cache, "ModuleGraph", at_version(graph_document(uid="g2", name="other", store=inside), 5))
    beside = {"url": "gs://acme-evergraft/prod2"}
    keys(cache, "ModuleGraph", at_version(graph_document(uid="g3", name="beside", store=beside), 5))
    changed = at_version(graph_document(), 6)
    changed["metadata"]["generation"] = 2
    assert keys(cache, "ModuleGraph", changed) == {"default", "other", "cifar10"}


def test_jobs_and_pods_wake_whom_they_are_of_and_whom_they_are_about() -> None:
    cache = Cache()
    keys(cache, "Task", task())
    keys(cache, "ModuleGraph", at_version(graph_document(), 1))
    assert keys(cache, "Job", job()) == {"cifar10"}
    about = {"tasks": [{"uid": "task-uid"}, {"uid": "nobody"}, 5]}
    steward = job(2, "s1")
    steward["metadata"] |= {
        "labels": {labels.GRAPH_UID: "graph-uid"},
        "annotations": {labels.QUESTION: json.dumps(about)},
    }
    assert keys(cache, "Job", steward) == {"default"}
    pod = at_version(pod_document("p", job="s1"), 1)
    pod["metadata"]["labels"] |= {labels.GRAPH_UID: "graph-uid"}
    assert keys(cache, "Pod", pod) == {"default"}
    done = steward | {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    assert keys(cache, "Job", at_version(done, 3)) == {"default", "cifar10"}
    assert keys(cache, "Pod", at_version(pod, 2)) == {"default", "cifar10"}


def test_a_namespace_wakes_tasks_that_its_labels_decide_about() -> None:
    cache = Cache()
    keys(cache, "Task", task())
    keys(cache, "Task", at_version(task_document("home", namespace="ml", uid="h"), 1))
    space: Fields = {"metadata": {"name": "vision", "uid": "n", "resourceVersion": "1", "labels": {"a": "b"}}}
    assert keys(cache, "Namespace", space) == {"cifar10"}
    same = {"metadata": space["metadata"] | {"resourceVersion": "2"}}
    assert keys(cache, "Namespace", same) == set()
    going = {"metadata": space["metadata"] | {"resourceVersion": "3", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert keys(cache, "Namespace", going) == {"cifar10"}


def test_facts_say_whether_a_pod_can_be_asked() -> None:
    pod = pod_document("p", job="j1", ready=True)
    pod["status"]["podIP"] = "10.0.0.7"
    assert PodFacts.read(pod) == PodFacts("j1", "", "", ready=True, address="10.0.0.7")
    assert PodFacts.read(pod_document("p", job="j1", ready=True, deleting=5)).ready is False
    assert JobFacts.read(job()).finished is False


def test_keys_read_well() -> None:
    assert str(Key("Task", "a", "b")) == "Task a/b"
    assert Entry.__slots__
