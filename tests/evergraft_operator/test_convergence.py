"""Whatever happens to a Task's objects, reconciling them settles, and some things never happen.

The model cluster checks while it applies a plan: no second live Job for one search, no start of a run that HEAD was
read to have closed, no write without a change.
"""

from __future__ import annotations

import copy
import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evergraft.api.status import ModuleGraphStatus, TaskStatus, to_json
from evergraft.names import RunKey
from evergraft_operator import failures, labels, reading
from evergraft_operator.conditions import TASK_TYPES
from evergraft_operator.graphs import reconcile_graph
from evergraft_operator.observed import Job
from evergraft_operator.reconcile import reconcile
from evergraft_operator.testing.documents import Fields, graph_document, task_document
from evergraft_operator.testing.model import Cluster, heard_progress

KEY = ("vision", "cifar10")
TASK = "vision/cifar10"
QUICK = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

Step = Callable[[Cluster, int], object]


def workers(cluster: Cluster) -> list[tuple[str, str]]:
    jobs = cluster.jobs.items()
    return [key for key, job in jobs if job["metadata"]["labels"].get(labels.COMPONENT) == labels.WORKER]


def stewards_of(cluster: Cluster) -> list[tuple[str, str]]:
    jobs = cluster.jobs.items()
    return [key for key, job in jobs if job["metadata"]["labels"].get(labels.COMPONENT) == labels.STEWARD]


def with_job(step: Callable[[Cluster, tuple[str, str], int], None]) -> Step:
    def act(cluster: Cluster, number: int) -> None:
        if keys := workers(cluster):
            step(cluster, keys[number % len(keys)], number)

    return act


def with_pod(step: Callable[[Cluster, tuple[str, str], Fields, int], None]) -> Step:
    def act(cluster: Cluster, number: int) -> None:
        for key in workers(cluster):
            pods = [pod for pod in cluster.active(cluster.jobs[key]) if pod["status"]["phase"] == "Running"]
            if pods:
                step(cluster, key, pods[number % len(pods)], number)
                return

    return act


def change_spec(cluster: Cluster, **fields: Any) -> None:
    task = cluster.tasks.get(KEY)
    if task is not None:
        task["spec"] |= fields
        task["metadata"]["generation"] += 1


def make_and_start(cluster: Cluster, key: tuple[str, str], number: int) -> None:
    cluster.make_pods(key)
    for pod in cluster.active(cluster.jobs[key])[: number % 4]:
        cluster.start_pod(pod)


def vanish(cluster: Cluster, key: tuple[str, str], number: int) -> None:
    if number % 2:
        cluster.delete_job(key)
    else:
        cluster.collect_job(key)


def finish(cluster: Cluster, key: tuple[str, str], pod: Fields, number: int) -> None:
    outcome = ("committed", "committed", "kept", "none", "failed")[number % 5]
    cluster.finish_worker(key, pod, outcome, message=(None, None, "", "\x00{", '{"outcome": 3}')[number % 4])


def idle_success(cluster: Cluster, key: tuple[str, str], pod: Fields, number: int) -> None:
    cluster.end_pod(pod, 0, message="nothing was done")


def closes_and_dies(cluster: Cluster, key: tuple[str, str], pod: Fields, number: int) -> None:
    notes = cluster.jobs[key]["metadata"]["annotations"]
    cluster.close(notes[labels.TASK_ID], RunKey.parse(notes[labels.RUN_KEY]), "committed")
    cluster.end_pod(pod, 137)


def queue(cluster: Cluster, key: tuple[str, str], number: int) -> None:
    cluster.jobs[key]["spec"]["suspend"] = bool(number % 2)


def steward(cluster: Cluster, number: int) -> None:
    for key in stewards_of(cluster):
        if Job.read(cluster.jobs[key]).live:
            cluster.finish_steward(key, message=(None, None, None, "garbage")[number % 4])
        elif number % 3 == 0:
            cluster.collect_job(key)


def lose_steward(cluster: Cluster, number: int) -> None:
    """The node of every steward at work dies; one of them had begun."""
    for key in stewards_of(cluster):
        cluster.make_pods(key)
        for pod in cluster.active(cluster.jobs[key]):
            if number % 2:
                cluster.start_pod(pod)
            cluster.lose_node(pod)


def break_steward(cluster: Cluster, number: int) -> None:
    for key in stewards_of(cluster):
        cluster.make_pods(key)
        for pod in cluster.active(cluster.jobs[key]):
            cluster.start_pod(pod)
            cluster.end_pod(pod, (64, 65, 75, 1)[number % 4], message='{"reason": "no bucket", "format": 1}')


def tell(cluster: Cluster, number: int) -> None:
    cluster.heard = heard_progress(
        {"run": f"i1-c{1 + number % 2}", "generation": number % 5, "generations": 5, "bestScore": 0.5}, cluster.now
    )


def maybe_delete(cluster: Cluster, number: int) -> None:
    if number % 7 == 0 and KEY in cluster.tasks:
        cluster.delete_task(KEY)


def second_leader(cluster: Cluster, key: tuple[str, str], number: int) -> None:
    """Another leader, with an older view, has started a further attempt."""
    job = copy.deepcopy(cluster.jobs[key])
    meta = job["metadata"]
    attempt = int(meta["labels"][labels.ATTEMPT]) + number % 3
    meta["labels"][labels.ATTEMPT] = str(attempt)
    meta |= {"name": f"{meta['name']}-{number}", "uid": f"{meta['uid']}-{number}"}
    meta.pop("deletionTimestamp", None)
    cluster.jobs["vision", meta["name"]] = {**job, "status": {}}


WAITING = (
    *("ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "ContainerCreating", "CrashLoopBackOff"),
    *("ErrImagePull", "RunContainerError", "PodInitializing"),
)
FAILED_CREATE = (
    'pods "x" is forbidden: exceeded quota: q, requested: cpu=4',
    'pods "x" is forbidden: violates PodSecurity "restricted:latest"',
    "error looking up service account vision/x: serviceaccount not found",
    "Internal error occurred: the server is busy",
)
REFUSED = (
    ("", False),
    ('jobs "x" is forbidden: exceeded quota: q, requested: count/jobs.batch=1', False),
    ('admission webhook "w" denied the request', False),
    ("Job.batch is invalid: spec.template.spec.volumes[3]: Required value", True),
)


def hold(cluster: Cluster, key: tuple[str, str], number: int) -> None:
    """Pods are made, and their containers or their nodes wait."""
    cluster.make_pods(key)
    for pod in cluster.active(cluster.jobs[key]):
        cluster.hold_pod(pod, WAITING[number % len(WAITING)])


def fail_creation(cluster: Cluster, key: tuple[str, str], number: int) -> None:
    about = {"uid": cluster.jobs[key]["metadata"]["uid"]}
    message = FAILED_CREATE[number % len(FAILED_CREATE)]
    time = {"firstTimestamp": reading.written(cluster.now), "lastTimestamp": reading.written(cluster.now)}
    cluster.events.append({"involvedObject": about, "reason": "FailedCreate", "message": message, **time})


def refuse(cluster: Cluster, number: int) -> None:
    cluster.refuse, cluster.invalid = REFUSED[number % len(REFUSED)]


def lose_graph(cluster: Cluster, number: int) -> None:
    """The graph goes, is going, is not valid, shuts Tasks out or is to be adopted anew; or it is back."""
    graph = cluster.graph
    if graph is None or number % 6 == 5:
        return restore_graph(cluster)
    if number % 6 == 0:
        cluster.delete_graph()
    elif number % 6 == 1:
        graph["metadata"]["deletionTimestamp"] = reading.written(cluster.now)
    elif number % 6 == 2:
        graph["spec"]["root"] = {"backbone": "no such"}
    elif number % 6 == 3:
        graph["spec"]["allowedNamespaces"] = {"from": "Same"}
    else:
        graph.pop("status", None)
    return None


def restore_graph(cluster: Cluster) -> None:
    """Its owner applies it again; one that was deleted is another object."""
    known = cluster.graph
    if known is None or "deletionTimestamp" in known["metadata"]:
        cluster.delete_graph()
        cluster.graph = graph_document(ready=False, uid=f"graph-{cluster.step}")
        return
    right = graph_document()["spec"]
    if known["spec"] != right:
        known["spec"] = right
        known["metadata"]["generation"] += 1


STEPS: dict[str, Step] = {
    "reconcile": lambda cluster, number: cluster.reconcile(),
    "time": lambda cluster, number: setattr(cluster, "clock", cluster.clock + (1, 20, 70, 400, 100_000)[number % 5]),
    "pods": with_job(make_and_start),
    "vanish": with_job(vanish),
    "finish": with_pod(finish),
    "idle success": with_pod(idle_success),
    "closes and dies": with_pod(closes_and_dies),
    "exit": with_pod(lambda c, key, pod, n: c.end_pod(pod, (64, 65, 66, 70, 75, 1, 134, 137, 139, 143)[n % 10])),
    "oom": with_pod(lambda c, key, pod, n: c.end_pod(pod, 137, reason="OOMKilled")),
    "disrupt": with_pod(lambda c, key, pod, n: c.disrupt(pod, code=(143, 137, 1, 66)[n % 4], keep=n % 2 == 0)),
    "lose node": with_pod(lambda c, key, pod, n: c.lose_node(pod)),
    "queue": with_job(queue),
    "second leader": with_job(second_leader),
    "steward": steward,
    "broken steward": break_steward,
    "lost steward": lose_steward,
    "suspend": lambda cluster, number: change_spec(cluster, suspend=bool(number % 2)),
    "iteration": lambda cluster, number: change_spec(
        cluster, iteration=cluster.tasks[KEY]["spec"].get("iteration", 1) + 1 if KEY in cluster.tasks else 1
    ),
    "replicas": lambda cluster, number: change_spec(cluster, workers={"replicas": number % 5}),
    "wrong spec": lambda cluster, number: change_spec(cluster, metric=("Accuracy", "Luck")[number % 2]),
    "progress": tell,
    "lost status": lambda cluster, number: cluster.tasks.get(KEY, {}).pop("status", None),
    "delete": maybe_delete,
    "hold": with_job(hold),
    "failed create": with_job(fail_creation),
    "refuse": refuse,
    "graph": lose_graph,
}

scripts = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 1000)), max_size=60)


def play(cluster: Cluster, script: list[tuple[str, int]]) -> None:
    """Take the steps, with a reconcile in between as an operator that watches would."""
    for name, number in script:
        if KEY not in cluster.tasks and name == "iteration":
            continue
        STEPS[name](cluster, number)
        cluster.step += 1
        if number % 3:
            cluster.reconcile()


def healthy(cluster: Cluster) -> None:
    """What people finally have in hand: a valid spec, workers, no suspension, room for Jobs, a graph."""
    refuse(cluster, 0)
    cluster.events.clear()
    restore_graph(cluster)
    if KEY in cluster.tasks:
        change_spec(cluster, metric="Accuracy", suspend=False, workers={"replicas": 2})


def check_settled(cluster: Cluster) -> None:
    for key, task in cluster.tasks.items():
        status = task["status"]
        assert status["phase"] in ("Succeeded", "Failed", "Suspended"), status
        assert to_json(TaskStatus.model_validate(status)) == status
        assert len(json.dumps(status)) <= 8192
        assert [item["type"] for item in status["conditions"]] == list(TASK_TYPES)
        for later in (0, 3600, 10**7):
            plan = reconcile(cluster.observe(key), cluster.now + datetime.timedelta(seconds=later))
            assert not plan.writes, plan
    graph = cluster.graph
    assert graph is not None
    assert to_json(ModuleGraphStatus.model_validate(graph["status"])) == graph["status"]
    assert not reconcile_graph(cluster.observe_graph(), cluster.now).writes
    assert not [key for key in workers(cluster) if Job.read(cluster.jobs[key]).live]


@QUICK
@given(scripts, st.sampled_from([1, 2, 3]), st.booleans(), st.sampled_from(["Retain", "Delete"]))
def test_everything_settles(script: list[tuple[str, int]], cycles: int, ready: bool, policy: str) -> None:
    cluster = Cluster(graph=graph_document(ready=ready))
    cluster.tasks[KEY] = task_document(search={"cycles": cycles}, deletionPolicy=policy)
    play(cluster, script)
    healthy(cluster)
    cluster.calm(rounds=120)
    check_settled(cluster)
    if KEY in cluster.tasks:
        status = cluster.tasks[KEY]["status"]
        closed = cluster.head.get(TASK)
        if status["phase"] == "Succeeded":
            assert closed is not None
            assert status["search"]["runKey"] == str(closed.run)
            assert closed.outcome in ("committed", "kept")


HINDRANCES = (
    "failed create",
    "graph",
    "hold",
    "iteration",
    "pods",
    "reconcile",
    "refuse",
    "steward",
    "suspend",
    "time",
)


@QUICK
@given(st.lists(st.tuples(st.sampled_from(HINDRANCES), st.integers(0, 1000)), max_size=30))
def test_what_keeps_workers_from_starting_costs_no_more_than_a_suspend_and_a_resume(
    script: list[tuple[str, int]],
) -> None:
    cluster = Cluster(tasks={KEY: task_document(search={"cycles": 2})})
    cluster.reconcile()
    for key in stewards_of(cluster):
        cluster.finish_steward(key)
    cluster.reconcile()
    assert len(workers(cluster)) == 1
    play(cluster, script)
    for suspend in (True, False):
        healthy(cluster)
        change_spec(cluster, suspend=suspend)
        cluster.calm(rounds=120)
        check_settled(cluster)
    assert cluster.tasks[KEY]["status"]["phase"] == "Succeeded"


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([("hold", 0), ("time", 4)], "ImagePull"),
        ([("hold", 1)], "ImagePull"),
        ([("failed create", 1)], "PodRejected"),
        ([("refuse", 3), ("iteration", 1), ("vanish", 2)], "PodRejected"),
        ([("graph", 3)], "GraphAccessDenied"),
    ],
)
def test_the_steps_do_hinder(steps: list[tuple[str, int]], reason: str) -> None:
    """Else what settles above would have had nothing in its way."""
    cluster = Cluster(tasks={KEY: task_document()})
    cluster.reconcile()
    for key in stewards_of(cluster):
        cluster.finish_steward(key)
    play(cluster, [("reconcile", 1), *steps, ("reconcile", 1)])
    told = {item["type"]: item for item in cluster.tasks[KEY]["status"]["conditions"]}
    assert (told["Stalled"]["status"], told["Stalled"]["reason"]) == ("True", reason)


texts = st.text(max_size=80) | st.sampled_from(
    ["i1-c1", "i2-c1", "True", "False", "Stalled", "2026-03-01T12:00:00Z", TASK]
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)
condition = st.fixed_dictionaries(
    {
        "type": st.sampled_from([*TASK_TYPES, "Other"]),
        "status": st.sampled_from(["True", "False", "Unknown", "Maybe"]),
        "reason": st.sampled_from(["UserError", "OutOfMemory", "SpecDiffersFromCommitted", "ImagePull", "x y", ""]),
        "message": texts,
        "lastTransitionTime": st.sampled_from(["2026-03-01T11:00:00Z", "0001-01-01T00:00:00Z", "yesterday"]),
    }
)
statuses = st.fixed_dictionaries(
    {},
    optional={
        "search": st.fixed_dictionaries(
            {"runKey": st.sampled_from(["i1-c1", "i1-c2", "i1-c9", "i2-c1", "i9-c9", "junk"])},
            optional={
                "attempt": st.integers(-1, 5) | junk,
                "outcome": st.sampled_from(["committed", "none", "failed", "kept", "removed", "?"]),
                "image": texts,
                "startTime": texts,
                "bestScore": junk,
            },
        )
        | junk,
        "route": st.fixed_dictionaries({"id": st.sampled_from(["ab" * 32, "?"]), "version": junk}) | junk,
        "failures": st.dictionaries(st.sampled_from([*failures.SIZE, *failures.WORLD, "junk"]), junk, max_size=4)
        | junk,
        "acceleratorSeconds": st.fixed_dictionaries({"useful": junk, "lost": junk}) | junk,
        "conditions": st.lists(condition | junk, max_size=8) | junk,
        "phase": texts,
        "waiting": junk,
        "workers": junk,
    },
)


@QUICK
@given(statuses, scripts)
def test_any_status_is_a_start(status: Fields, script: list[tuple[str, int]]) -> None:
    cluster = Cluster()
    cluster.tasks[KEY] = task_document()
    cluster.tasks[KEY]["status"] = status
    play(cluster, script[:10])
    healthy(cluster)
    cluster.calm(rounds=120)
    check_settled(cluster)


@QUICK
@given(st.lists(st.sampled_from(["disrupt", "lose node", "pods", "time", "reconcile", "queue"]), max_size=80))
def test_preemption_never_counts_as_the_user_s_failure(names: list[str]) -> None:
    cluster = Cluster()
    cluster.tasks[KEY] = task_document(workers={"replicas": 3})
    cluster.calm_until_running()
    play(cluster, [(name, 2 + 3 * number) for number, name in enumerate(names) if name != "time" or number % 5 < 3])
    counted = cluster.tasks[KEY]["status"].get("failures", {})
    assert not {*counted} & {*failures.YOURS, *failures.SIZE}
    assert cluster.tasks[KEY]["status"]["phase"] != "Failed"
    cluster.calm()
    assert cluster.tasks[KEY]["status"]["phase"] == "Succeeded"


@QUICK
@given(st.integers(0, 6))
def test_suspend_deletes_the_job_and_keeps_the_search(rounds: int) -> None:
    cluster = Cluster()
    cluster.tasks[KEY] = task_document()
    cluster.calm_until_running()
    for _ in range(rounds):
        cluster.reconcile()
    change_spec(cluster, suspend=True)
    cluster.calm()
    status = cluster.tasks[KEY]["status"]
    assert (status["phase"], status["search"]["runKey"], status["search"]["attempt"]) == ("Suspended", "i1-c1", 1)
    assert "outcome" not in status["search"]
    assert not workers(cluster)
    change_spec(cluster, suspend=False)
    cluster.calm()
    status = cluster.tasks[KEY]["status"]
    assert (status["phase"], status["search"]["runKey"], status["search"]["attempt"]) == ("Succeeded", "i1-c1", 2)


def test_a_cluster_rebuilt_from_git_trains_nothing() -> None:
    cluster = Cluster(graph=graph_document(ready=False))
    for number in range(165):
        name = f"task{number:03}"
        cluster.tasks["vision", name] = task_document(name, uid=f"uid-{number}")
        cluster.close(f"vision/{name}", RunKey(1, 1), "committed")
    cluster.calm()
    phases = {task["status"]["phase"] for task in cluster.tasks.values()}
    created = [line for line in cluster.log if " create " in line]
    assert phases == {"Succeeded"}
    assert len(created) == 3  # One that adopts the graph, two that read 160 and 5 heads.
    assert sum("AlreadyCommitted" in line for line in cluster.log) == 165


@QUICK
@given(scripts, st.permutations(["a", "b", "c", "d"]))
def test_tasks_that_wait_for_each_other_all_end(script: list[tuple[str, int]], order: list[str]) -> None:
    harmless = ("reconcile", "time", "pods", "disrupt", "steward", "vanish")
    cluster = Cluster(graph=graph_document(ready=False))
    for number, name in enumerate(order):
        after = [f"vision/{other}" for other in order[:number]]
        cluster.tasks["vision", name] = task_document(name, uid=f"uid-{name}", after=after)
    play(cluster, [item for item in script[:25] if item[0] in harmless])
    cluster.calm(rounds=200)
    assert {task["status"]["phase"] for task in cluster.tasks.values()} == {"Succeeded"}
    first = [next(i for i, line in enumerate(cluster.log) if f"create {name}-" in line) for name in order]
    assert first == sorted(first)


@pytest.mark.parametrize(("ready", "duties"), [(False, ["init", "heads"]), (True, ["heads"])])
def test_a_node_that_dies_under_each_steward_holds_no_task_up(ready: bool, duties: list[str]) -> None:
    cluster = Cluster(graph=graph_document(ready=ready), tasks={KEY: task_document()})
    lost: list[str] = []
    while not workers(cluster):
        assert cluster.clock < 1000, "no steward came after the one that was lost"
        cluster.reconcile()
        for key in stewards_of(cluster):
            job = Job.read(cluster.jobs[key])
            if job.live and job.duty not in lost:
                lost.append(job.duty)
                lose_steward(cluster, 1)
            elif job.live and all("deletionTimestamp" not in p["metadata"] for p in cluster.pods_of(cluster.jobs[key])):
                cluster.finish_steward(key)
        cluster.clock += 15
        cluster.step += 1
    assert lost == duties


def test_of_two_tasks_with_one_id_the_younger_takes_over_once_the_older_is_gone() -> None:
    cluster = Cluster()
    cluster.tasks[KEY] = task_document()
    cluster.tasks["vision", "copy"] = task_document("copy", uid="younger", taskID=TASK)
    cluster.tasks["vision", "copy"]["metadata"]["creationTimestamp"] = "2026-03-01T12:00:05Z"
    cluster.calm()
    accepted = cluster.tasks["vision", "copy"]["status"]["conditions"][0]
    assert (accepted["status"], accepted["reason"]) == ("False", "TaskIDTaken")
    cluster.delete_task(KEY)
    cluster.calm()
    assert cluster.tasks["vision", "copy"]["status"]["phase"] == "Succeeded"
    assert sum("create copy-" in line for line in cluster.log) == 0
