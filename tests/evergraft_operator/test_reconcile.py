"""The life of a Task, case by case: what is planned for what is seen."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from evergraft.api.modulegraph import TaskDefaults
from evergraft.names import RunKey
from evergraft_operator import labels
from evergraft_operator.conditions import Condition, read
from evergraft_operator.course import READING_HEAD
from evergraft_operator.observed import HeadFact, Job, KubeEvent, Observed, Pod, RemovalFact, Thing, Workload
from evergraft_operator.plan import Plan
from evergraft_operator.reconcile import reconcile
from evergraft_operator.report import HeadState, Heard, Progress, RouteReport
from evergraft_operator.settings import Policy, Settings
from evergraft_operator.stewards import Removal
from evergraft_operator.testing.documents import (
    ROUTE,
    Fields,
    at,
    graph_document,
    pod_document,
    report_message,
    task_document,
)

TASK = "vision/cifar10"
RUN = RunKey(1, 1)
JOB = Job(
    name="cifar10-12345678",
    namespace="vision",
    uid="j1",
    created=at(0),
    run=RUN,
    attempt=1,
    image="evergraft/trainer:cpu",
    parallelism=1,
    active=1,
)


def seen(status: Fields | None = None, *, spec: Fields | None = None, **more: Any) -> Observed:
    """A Task as observed, its graph ready."""
    document = task_document(**(spec or {}))
    if status is not None:
        document["status"] = status
    return Observed(**{"task": Thing.read(document), "graph": Thing.read(graph_document()), **more})


def open_status(attempt: int = 1, **more: Any) -> Fields:
    return {"search": {"runKey": "i1-c1", "attempt": attempt, "jobName": JOB.name, **more}}


def pod(name: str = "p", **more: Any) -> Pod:
    return Pod.read(pod_document(name, job="j1", **more))


def heads(state: HeadState, *, attempt: int = 0, run: RunKey = RUN) -> tuple[HeadFact, ...]:
    return (HeadFact(uid="task-uid", run=run, attempt=attempt, state=state),)


def conditions(plan: Plan) -> dict[str, Condition]:
    assert plan.status is not None
    return read(plan.status)


def reasons(plan: Plan) -> list[str]:
    return [event.reason for event in plan.events]


def stalled(plan: Plan) -> str:
    found = conditions(plan)["Stalled"]
    return found.reason if found.holds else ""


OPEN = HeadState()
CLOSED = HeadState(run=RUN, outcome="committed", route=RouteReport(id=ROUTE, run="i1-c1"))


def test_a_new_task_asks_head_before_anything() -> None:
    plan = reconcile(seen(), at(0))
    assert plan.create == ()
    assert plan.question is not None
    assert (plan.question.task, plan.question.run, plan.question.attempt) == (TASK, RUN, 0)
    assert plan.status is not None
    assert plan.status["waiting"] == READING_HEAD


def test_it_starts_once_head_is_open() -> None:
    plan = reconcile(seen(heads=heads(OPEN)), at(0))
    (job,) = plan.create
    assert job["metadata"]["labels"][labels.ATTEMPT] == "1"
    assert plan.status is not None
    assert plan.status["search"]["jobName"] == job["metadata"]["name"]
    assert plan.status["phase"] == "Starting"
    assert reasons(plan) == ["SearchStarted"]


def test_what_head_has_closed_is_not_started() -> None:
    plan = reconcile(seen(heads=heads(CLOSED)), at(0))
    assert plan.create == ()
    assert plan.status is not None
    assert plan.status["phase"] == "Succeeded"
    assert reasons(plan) == ["AlreadyCommitted"]


def test_another_spec_than_the_committed_one_stalls() -> None:
    other = replace(CLOSED, task_hash="0" * 64)
    plan = reconcile(seen(heads=heads(other)), at(0))
    assert stalled(plan) == "SpecDiffersFromCommitted"
    assert "spec.iteration to 2" in conditions(plan)["Stalled"].message
    again = reconcile(seen(plan.status), at(60))
    assert not again.writes
    assert again.create == ()


def test_another_spec_stalls_also_where_a_cycle_would_follow() -> None:
    other = replace(CLOSED, task_hash="0" * 64)
    plan = reconcile(seen(heads=heads(other), spec={"search": {"cycles": 3}}), at(0))
    assert stalled(plan) == "SpecDiffersFromCommitted"
    again = reconcile(seen(plan.status, spec={"search": {"cycles": 3}}), at(60))
    assert (again.create, again.writes) == ((), False)


@pytest.mark.parametrize(
    ("known", "iteration", "cycles", "starts"),
    [
        ("i1-c1", 1, 1, None),
        ("i1-c1", 1, 2, "i1-c2"),
        ("i1-c2", 1, 2, None),
        ("i1-c2", 2, 2, "i2-c1"),
        ("i3-c1", 2, 2, None),
    ],
)
def test_iterations_and_cycles(known: str, iteration: int, cycles: int, starts: str | None) -> None:
    status = {"search": {"runKey": known, "attempt": 4, "outcome": "committed"}, "route": {"id": ROUTE}}
    plan = reconcile(seen(status, spec={"iteration": iteration, "search": {"cycles": cycles}}), at(0))
    created = [job["metadata"]["annotations"][labels.RUN_KEY] for job in plan.create]
    assert created == ([starts] if starts else [])
    if starts:
        assert plan.create[0]["metadata"]["labels"][labels.ATTEMPT] == "1"


@pytest.mark.parametrize("layer", ["graph", "operator"])
def test_a_platform_default_that_changed_since_starts_no_run(layer: str) -> None:
    search = {"search": {"cycles": 2}}
    graph = Thing.read(graph_document(taskDefaults=search))
    settings = Settings(defaults=TaskDefaults.model_validate(search))
    change: dict[str, Any] = {"graph": graph} if layer == "graph" else {"settings": settings}
    done = reconcile(seen(heads=heads(CLOSED)), at(0)).status
    plan = reconcile(seen(done, **change), at(60))
    assert (plan.create, plan.question, plan.writes) == ((), None, False)
    again = reconcile(seen(done, spec={"iteration": 2}, **change, heads=heads(OPEN)), at(60))
    assert [job["metadata"]["annotations"][labels.RUN_KEY] for job in again.create] == ["i2-c1"]
    first = {"search": {"runKey": "i2-c1", "attempt": 1, "outcome": "committed"}}
    assert again.status is not None
    second = reconcile(seen(again.status | first, spec={"iteration": 2}, **change), at(90))
    assert [job["metadata"]["annotations"][labels.RUN_KEY] for job in second.create] == ["i2-c2"]


@pytest.mark.parametrize(
    ("outcome", "reason"), [("none", "NoCandidate"), ("failed", "CandidateCrashes"), ("removed", "RouteRemoved")]
)
def test_only_a_higher_iteration_tries_again(outcome: str, reason: str) -> None:
    status = {"search": {"runKey": "i1-c1", "attempt": 1, "outcome": outcome}}
    for spec in ({}, {"suspend": True}, {"search": {"cycles": 5}}):
        plan = reconcile(seen(status, spec=dict(spec)), at(0))
        assert stalled(plan) == reason
        assert plan.create == ()
    assert len(reconcile(seen(status, spec={"iteration": 2}), at(0)).create) == 1


def test_a_missing_job_asks_head_and_only_then_goes_on() -> None:
    plan = reconcile(seen(open_status(2)), at(0))
    assert plan.create == ()
    assert plan.question is not None
    assert plan.question.attempt == 2
    stale = reconcile(seen(open_status(2), heads=heads(OPEN, attempt=1)), at(0))
    assert stale.create == ()
    plan = reconcile(seen(open_status(2), heads=heads(OPEN, attempt=2)), at(0))
    assert [job["metadata"]["labels"][labels.ATTEMPT] for job in plan.create] == ["3"]


def test_a_final_report_ends_the_run() -> None:
    job = replace(JOB, complete=True, ended=at(100))
    report = report_message(TASK, "i1-c1")
    plan = reconcile(seen(open_status(), jobs=(job,), pods=(pod(phase="Succeeded", message=report),)), at(101))
    assert plan.status is not None
    assert plan.status["phase"] == "Succeeded"
    assert plan.status["search"]["outcome"] == "committed"
    assert plan.status["route"]["committedTime"] == "2026-03-01T12:01:40Z"
    assert reasons(plan) == ["Committed"]


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        report_message("other/task", "i1-c1"),
        report_message(TASK, "i1-c2"),
        report_message(TASK, "i1-c1", route=None),
    ],
)
def test_a_lost_or_lying_report_asks_head(message: str) -> None:
    job = replace(JOB, complete=True, ended=at(100))
    facts: dict[str, Any] = {"jobs": (job,), "pods": (pod(phase="Succeeded", message=message),)}
    soon = reconcile(seen(open_status(), **facts), at(105))
    assert (soon.question, soon.create, soon.requeue_s) == (None, (), 10.0)
    late = reconcile(seen(open_status(), **facts), at(120))
    assert late.question is not None
    closed = reconcile(seen(open_status(), **facts, heads=heads(CLOSED, attempt=1)), at(130))
    assert closed.status is not None
    assert closed.status["phase"] == "Succeeded"


def test_an_image_that_does_nothing_stalls_in_the_end() -> None:
    status, before = open_status(), 0
    for attempt in range(1, 10):
        job = replace(JOB, attempt=attempt, complete=True, ended=at(0), before={"CandidateCrashes": before})
        plan = reconcile(seen(status, jobs=(job,), heads=heads(OPEN, attempt=attempt)), at(9999))
        assert plan.status is not None
        status, before = plan.status, attempt
        if not plan.create:
            break
    assert (stalled(plan), attempt) == ("CandidateCrashes", 4)


@pytest.mark.parametrize(
    ("exit_code", "reason", "told"),
    [(64, "UserError", ""), (65, "DataError", ""), (64, "ImageVersion", "ImageVersion")],
)
def test_what_is_the_user_s_stalls_and_stays_so(exit_code: int, reason: str, told: str) -> None:
    message = json.dumps({"outcome": "error", "reason": "field x is wrong", "exitCode": exit_code, "code": told})
    job = replace(JOB, failure="PodFailurePolicy", message=f"failed with exit code {exit_code}", ended=at(10), failed=1)
    failed = pod(phase="Failed", exit_code=exit_code, message=message)
    plan = reconcile(seen(open_status(), jobs=(job,), pods=(failed,)), at(20))
    assert (stalled(plan), conditions(plan)["Stalled"].message) == (reason, "field x is wrong")
    assert reasons(plan) == ["Stalled"]
    for later in (30, 10**6):
        gone = reconcile(seen(plan.status, heads=heads(OPEN, attempt=1)), at(later))
        assert (gone.create, gone.writes) == ((), False)


def test_a_job_that_fails_by_itself_keeps_its_pods_for_their_logs() -> None:
    refused = pod(phase="Failed", exit_code=64)
    plan = reconcile(seen(open_status(), jobs=(JOB,), pods=(refused,)), at(20))
    assert (stalled(plan), plan.delete) == ("UserError", ())
    crashes = tuple(pod(f"p{number}", phase="Failed", exit_code=139) for number in range(4))
    plan = reconcile(seen(open_status(), jobs=(replace(JOB, failed=4),), pods=crashes), at(20))
    assert (stalled(plan), len(plan.delete)) == ("CandidateCrashes", 1)
    assert plan.status is not None
    assert "waiting" not in plan.status


def test_accelerator_seconds_by_use() -> None:
    saved = pod("a", phase="Failed", exit_code=143, started=0, ended=100)
    crashed = pod("b", phase="Failed", exit_code=139, started=0, ended=30)
    own = json.dumps({"outcome": "stopped", "acceleratorSeconds": {"useful": 10**9, "lost": 5}})
    lying = pod("c", phase="Failed", exit_code=143, started=0, ended=10, message=own)
    facts: dict[str, Any] = {
        "pods": (saved, crashed, lying),
        "spec": {"workers": {"accelerator": {"type": "GPU", "count": 2}}},
    }
    plan = reconcile(seen(open_status(), jobs=(replace(JOB, spent={"useful": 7}),), **facts), at(200))
    assert plan.status is not None
    assert plan.status["acceleratorSeconds"] == {"useful": 7 + 220, "lost": 60}
    gone = reconcile(seen(plan.status, heads=heads(OPEN, attempt=1)), at(300))
    assert json.loads(gone.create[0]["metadata"]["annotations"][labels.SECONDS]) == {"useful": 227, "lost": 60}


def test_the_elder_goes_on_beside_a_younger_rival() -> None:
    document = task_document("other", uid="a", taskID=TASK)
    document["metadata"]["creationTimestamp"] = "2026-04-01T12:00:00Z"
    plan = reconcile(seen(heads=heads(OPEN), rivals=(Thing.read(document),)), at(0))
    assert len(plan.create) == 1


def test_suspend_and_resume_try_again_with_cleared_counters() -> None:
    old = {"type": "Stalled", "status": "True", "reason": "OutOfMemory", "lastTransitionTime": "2026-03-01T12:00:00Z"}
    status = {**open_status(), "failures": {"OutOfMemory": 4, "Preempted": 2}, "conditions": [old]}
    held = reconcile(seen(status, spec={"suspend": True}), at(0))
    assert held.status is not None
    assert (held.status["phase"], held.status["failures"]) == ("Suspended", {"Preempted": 2})
    resumed = reconcile(seen(held.status, heads=heads(OPEN, attempt=1)), at(60))
    assert [job["metadata"]["labels"][labels.ATTEMPT] for job in resumed.create] == ["2"]
    assert json.loads(resumed.create[0]["metadata"]["annotations"][labels.FAILURES]) == {"Preempted": 2}
    assert "Resumed" in reasons(resumed)


def test_suspend_deletes_every_job_of_an_open_search() -> None:
    failed = replace(JOB, failure="PodFailurePolicy", message="exit code 64", ended=at(1))
    for job in (JOB, failed):
        plan = reconcile(seen(open_status(), jobs=(job,), spec={"suspend": True}), at(5))
        assert [item.name for item in plan.delete] == [JOB.name]


STUCK = {"type": "Stalled", "status": "True", "reason": "ImagePull", "lastTransitionTime": "2026-03-01T12:00:00Z"}


@pytest.mark.parametrize("told", [[STUCK], []])
def test_a_wrong_image_is_taken_anew_after_a_resume(told: list[Fields]) -> None:
    status = {**open_status(image="wrong:1"), "conditions": told}
    held = reconcile(seen(status, spec={"suspend": True}), at(0))
    spec = {"workers": {"image": "right:1"}}
    resumed = reconcile(seen(held.status, spec=spec, heads=heads(OPEN, attempt=1)), at(60))
    assert resumed.create[0]["spec"]["template"]["spec"]["containers"][0]["image"] == "right:1"


def test_a_resumed_search_keeps_the_image_that_a_worker_was_ready_in() -> None:
    ran = pod(ready=True, image_id="docker.io/evergraft/trainer@sha256:" + "b" * 64)
    facts: dict[str, Any] = {"jobs": (JOB,), "pods": (ran,)}
    held = reconcile(seen(open_status(image="evergraft/trainer:cpu"), spec={"suspend": True}, **facts), at(30))
    spec = {"workers": {"image": "newer:2"}}
    resumed = reconcile(seen(held.status, spec=spec, heads=heads(OPEN, attempt=1)), at(60))
    image = resumed.create[0]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == "evergraft/trainer@sha256:" + "b" * 64


def test_an_open_search_keeps_its_image_and_a_new_run_takes_the_new_one() -> None:
    status = open_status(image="evergraft/trainer@sha256:" + "a" * 64)
    spec = {"workers": {"image": "newer:2"}}
    plan = reconcile(seen(status, spec=spec, heads=heads(OPEN, attempt=1)), at(0))
    assert plan.create[0]["spec"]["template"]["spec"]["containers"][0]["image"] == status["search"]["image"]
    plan = reconcile(seen(status, spec={**spec, "iteration": 2}), at(0))
    assert plan.create[0]["spec"]["template"]["spec"]["containers"][0]["image"] == "newer:2"


def test_the_image_is_pinned_to_what_the_first_worker_ran() -> None:
    ran = pod(ready=True, image_id="docker.io/evergraft/trainer@sha256:" + "b" * 64)
    plan = reconcile(seen(open_status(image="reg:5000/evergraft/trainer:cpu"), jobs=(JOB,), pods=(ran,)), at(30))
    assert plan.status is not None
    assert plan.status["search"]["image"] == "reg:5000/evergraft/trainer@sha256:" + "b" * 64


@pytest.mark.parametrize(("grace", "limit"), [(None, 120), (0, 60), (30, 90)])
def test_the_job_before_is_waited_for_as_long_as_its_grace_lets_it(grace: int | None, limit: int) -> None:
    spec = {"workers": {"terminationGracePeriodSeconds": grace}} if grace is not None else {}
    facts: dict[str, Any] = {"jobs": (replace(JOB, deleting=at(0)),), "heads": heads(OPEN, attempt=1), "spec": spec}
    early = reconcile(seen(open_status(), **facts), at(limit - 1))
    assert (early.create, early.requeue_s) == ((), 1)
    assert len(reconcile(seen(open_status(), **facts), at(limit)).create) == 1


def test_a_higher_iteration_ends_the_search_before() -> None:
    spec = {"iteration": 2}
    plan = reconcile(seen(open_status(), jobs=(JOB,), spec=spec), at(0))
    assert ([item.name for item in plan.delete], plan.create) == ([JOB.name], ())
    gone = reconcile(seen(open_status(), spec=spec), at(10))
    assert [job["metadata"]["annotations"][labels.RUN_KEY] for job in gone.create] == ["i2-c1"]


def test_replicas_act_at_once_but_not_under_a_queue() -> None:
    spec = {"workers": {"replicas": 5}}
    plan = reconcile(seen(open_status(), jobs=(JOB,), spec=spec), at(0))
    assert [scaling.parallelism for scaling in plan.scale] == [5]
    queued = reconcile(seen(open_status(), jobs=(replace(JOB, queue="gpu"),), spec=spec), at(0))
    assert queued.scale == ()


def test_under_a_queue_no_job_is_made_of_no_workers() -> None:
    spec = {"workers": {"replicas": 0, "queueName": "gpu"}}
    plan = reconcile(seen(heads=heads(OPEN), spec=spec), at(0))
    assert plan.status is not None
    assert (plan.create, plan.status["waiting"]) == ((), "workers.replicas is 0")
    assert not reconcile(seen(plan.status, heads=heads(OPEN), spec=spec), at(60)).writes
    more = reconcile(
        seen(plan.status, heads=heads(OPEN), spec={"workers": {"replicas": 4, "queueName": "gpu"}}), at(60)
    )
    assert [job["spec"]["parallelism"] for job in more.create] == [4]


def test_a_lost_node_s_worker_is_replaced() -> None:
    lost, here = pod("lost", deleting=0), pod("here", ready=True)
    early = reconcile(seen(open_status(), jobs=(JOB,), pods=(lost, here)), at(50))
    assert early.scale == ()
    late = reconcile(seen(open_status(), jobs=(JOB,), pods=(lost, here)), at(61))
    assert [scaling.parallelism for scaling in late.scale] == [2]
    assert late.status is not None
    assert late.status["failures"] == {"NodeLost": 1}
    back = reconcile(seen(late.status, jobs=(replace(JOB, parallelism=2, failed=1),), pods=(here,)), at(90))
    assert [scaling.parallelism for scaling in back.scale] == [1]
    assert back.status is None or back.status["failures"] == {"NodeLost": 1}


def test_a_job_that_is_newer_than_the_status_is_adopted() -> None:
    plan = reconcile(seen(open_status(1), jobs=(replace(JOB, attempt=3, name="newer"),)), at(0))
    assert plan.status is not None
    assert (plan.status["search"]["attempt"], plan.status["search"]["jobName"]) == (3, "newer")
    assert (plan.create, plan.delete) == ((), ())


def test_progress_is_heard_and_the_same_words_write_nothing() -> None:
    told = Heard(Progress(run="i1-c1", event="step", generation=2, generations=4, best_score=0.9312), at(40))
    facts: dict[str, Any] = {"jobs": (JOB,), "pods": (pod(ready=True),), "heard": told}
    plan = reconcile(seen(open_status(), **facts), at(45))
    assert plan.status is not None
    assert (plan.status["progress"], plan.status["score"], plan.status["phase"]) == ("2/4", "0.9312", "Training")
    assert plan.status["search"]["lastProgressTime"] == "2026-03-01T12:00:40Z"
    again = reconcile(seen(plan.status, **facts), at(60))
    assert (again.writes, again.requeue_s) == (False, 15.0)
    last = replace(told, progress=replace(told.progress, event="committing"))
    committing = reconcile(seen(plan.status, **{**facts, "heard": last}), at(60))
    assert committing.status is not None
    assert committing.status["phase"] == "Committing"


def test_between_a_worker_s_good_end_and_its_job_s_the_search_commits() -> None:
    """The pod is no longer ready, the Job not yet complete: nothing is starting."""
    plan = reconcile(seen(open_status(), jobs=(JOB,), pods=(pod(phase="Succeeded"),)), at(60))
    assert plan.status is not None
    assert plan.status["phase"] == "Committing"


def test_after_waits_for_the_others() -> None:
    spec = {"after": ["vision/svhn", "vision/mnist"]}
    waits = reconcile(seen(spec=spec, heads=heads(OPEN), after={"vision/svhn": True, "vision/mnist": None}), at(0))
    assert waits.status is not None
    assert waits.status["waiting"] == "after: vision/mnist to commit; there is no Task vision/mnist in this graph"
    both = reconcile(seen(spec=spec, heads=heads(OPEN), after={"vision/svhn": True, "vision/mnist": True}), at(0))
    assert len(both.create) == 1


def test_what_is_waited_for_is_told_once_and_head_is_read_again_when_that_is_over() -> None:
    """A steward's answer goes with its Job after an hour; who waits for days must not ask every hour."""
    spec = {"after": ["vision/svhn", "vision/mnist"]}
    absent = {"vision/svhn": False, "vision/mnist": False}
    waits = reconcile(seen(spec=spec, heads=heads(OPEN), after=absent), at(0))
    later = reconcile(seen(waits.status, spec=spec, after=absent), at(7200))
    assert (later.question, later.writes) == (None, False)
    one = reconcile(seen(waits.status, spec=spec, after={**absent, "vision/svhn": True}), at(7200))
    assert one.status is not None
    assert (one.question, one.status["waiting"]) == (None, "after: vision/mnist to commit")
    both = dict.fromkeys(absent, True)
    over = reconcile(seen(waits.status, spec=spec, after=both), at(7300))
    assert (over.create, over.question is not None) == ((), True)
    assert over.status is not None
    assert over.status["waiting"] == READING_HEAD
    assert len(reconcile(seen(over.status, spec=spec, after=both, heads=heads(OPEN)), at(7310)).create) == 1
    closed = reconcile(seen(over.status, spec=spec, after=both, heads=heads(CLOSED)), at(7310))
    assert (closed.create, reasons(closed)) == ((), ["AlreadyCommitted"])


def test_another_spec_is_looked_up_at_head_though_it_waits_for_the_same() -> None:
    spec = {"after": ["vision/svhn"]}
    waits = reconcile(seen(spec=spec, heads=heads(OPEN), after={"vision/svhn": False}), at(0))
    document = task_document(after=spec["after"], iteration=2)
    document["status"] = waits.status
    document["metadata"]["generation"] = 2
    plan = reconcile(replace(seen(after={"vision/svhn": False}), task=Thing.read(document)), at(60))
    assert plan.question is not None
    assert plan.question.run == RunKey(2, 1)


def test_what_time_alone_ends_is_told_on_while_head_is_read_again() -> None:
    told = 'jobs "x" is forbidden: exceeded quota: q, used: count/jobs.batch=5'
    refused = reconcile(seen(heads=heads(OPEN), refused=told), at(0))
    again = reconcile(seen(refused.status, refused=told), at(3600))
    assert (again.question is not None, again.writes, again.requeue_s) == (True, False, 60)
    over = reconcile(seen(refused.status), at(3660))
    assert (over.question is not None, over.create) == (True, ())
    job = replace(JOB, attempt=9, failure="FailedIndexes", ended=at(0))
    pauses = reconcile(seen(open_status(9), jobs=(job,), heads=heads(OPEN, attempt=9)), at(4))
    still = reconcile(seen(pauses.status, jobs=(job,)), at(100))
    assert (still.question is not None, still.writes, still.requeue_s) == (True, False, 200)
    ended = reconcile(seen(pauses.status, jobs=(job,)), at(300))
    assert (ended.question is not None, ended.create) == (True, ())


def test_a_failed_job_is_followed_by_another_after_a_pause() -> None:
    job = replace(JOB, failure="FailedIndexes", ended=at(0))
    early = reconcile(seen(open_status(), jobs=(job,), heads=heads(OPEN, attempt=1)), at(4))
    assert (early.create, early.requeue_s) == ((), 6.0)
    late = reconcile(seen(open_status(), jobs=(job,), heads=heads(OPEN, attempt=1)), at(10))
    assert len(late.create) == 1


def test_nothing_starts_while_a_job_is_on_its_way_out() -> None:
    job = replace(JOB, deleting=at(0))
    early = reconcile(seen(open_status(), jobs=(job,)), at(100))
    assert (early.create, early.question, early.requeue_s) == ((), None, 20.0)
    dead_node = reconcile(seen(open_status(), jobs=(job,)), at(121))
    assert dead_node.question is not None


def test_what_never_starts_stalls_in_time() -> None:
    spec = {"timeouts": {"start": "1h"}}
    stuck = pod(phase="Pending", scheduled=False, unscheduled="0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    facts: dict[str, Any] = {"jobs": (JOB,), "pods": (stuck,), "spec": spec}
    early = reconcile(seen(open_status(), **facts), at(3600))
    assert early.status is not None
    assert (early.status["phase"], early.status["failures"]) == ("Queued", {"Unschedulable": 1})
    late = reconcile(seen(early.status, **facts), at(3601))
    assert stalled(late) == "StartTimeout"
    assert len(late.delete) == 1
    gone = reconcile(seen(late.status, spec=spec), at(4000))
    assert stalled(gone) == "StartTimeout"
    assert not reconcile(seen(gone.status, spec=spec, heads=heads(OPEN, attempt=1)), at(5000)).writes


def test_who_was_scaled_to_nothing_has_all_the_time_to_start_once_scaled_up() -> None:
    late, spec = at(7200), {"timeouts": {"start": "1h"}, "workers": {"replicas": 0}}
    held = reconcile(seen(open_status(), jobs=(replace(JOB, parallelism=0, active=0),), spec=spec), late)
    assert held.status is not None
    assert (stalled(held), held.status["waiting"]) == ("", "workers.replicas is 0")
    spec["workers"] = {"replicas": 1}
    scaled = reconcile(seen(held.status, jobs=(replace(JOB, active=0),), spec=spec), late)
    stuck = pod(phase="Pending", scheduled=False, created=7200)
    early = reconcile(seen(scaled.status, jobs=(JOB,), pods=(stuck,), spec=spec), at(10_800))
    assert (stalled(scaled), stalled(early)) == ("", "")
    assert stalled(reconcile(seen(early.status, jobs=(JOB,), pods=(stuck,), spec=spec), at(10_801))) == "StartTimeout"


def test_pods_that_a_quota_keeps_out_count_as_not_started() -> None:
    event = KubeEvent(about="j1", reason="FailedCreate", message="exceeded quota: gpu", first=at(7200), last=at(9000))
    facts: dict[str, Any] = {"jobs": (JOB,), "events": (event,), "spec": {"timeouts": {"start": "1h"}}}
    early = reconcile(seen(open_status(), **facts), at(10_800))
    assert stalled(early) == ""
    assert stalled(reconcile(seen(early.status, **facts), at(10_801))) == "StartTimeout"


def test_a_queue_is_named_in_waiting() -> None:
    job = replace(JOB, queue="gpu", suspended=True)
    load = Workload(message="couldn't assign flavors: insufficient quota for nvidia.com/gpu")
    plan = reconcile(seen(open_status(), jobs=(job,), workload=load), at(0))
    assert plan.status is not None
    assert plan.status["waiting"] == "quota: couldn't assign flavors: insufficient quota for nvidia.com/gpu (Kueue)"
    assert (plan.status["phase"], conditions(plan)["Scheduled"].reason) == ("Queued", "QuotaWait")


def test_pods_that_are_refused_stall() -> None:
    message = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": hostPath volumes'
    event = KubeEvent(about="j1", reason="FailedCreate", message=message, first=at(0), last=at(1))
    plan = reconcile(seen(open_status(), jobs=(replace(JOB, active=0),), events=(event,)), at(5))
    assert (stalled(plan), len(plan.delete)) == ("PodRejected", 1)


def test_only_the_older_of_two_tasks_with_one_id_runs() -> None:
    document = task_document("other", uid="a", taskID=TASK)
    elder = Thing.read({**document, "metadata": {**document["metadata"], "creationTimestamp": "2026-02-01T12:00:00Z"}})
    plan = reconcile(seen(open_status(), jobs=(JOB,), rivals=(elder,)), at(0))
    assert conditions(plan)["Accepted"].reason == "TaskIDTaken"
    assert "vision/other" in conditions(plan)["Accepted"].message
    assert len(plan.delete) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"graph": None}, "GraphNotFound"),
        ({"graph": Thing.read(graph_document(allowedNamespaces={"from": "Same"}))}, "GraphAccessDenied"),
        ({"graph": Thing.read(graph_document(ready=False))}, "GraphNotReady"),
        ({"spec": {"metric": "Luck"}}, "InvalidSpec"),
        ({"spec": {"dataset": {"url": "/home/me/data"}}}, "InvalidSpec"),
        ({"settings": Settings(policy=Policy(dataset_url_prefixes=("gs://ours/",)))}, "PolicyViolation"),
        ({"service_account_found": False}, "ServiceAccountNotFound"),
    ],
)
def test_refusals_start_nothing(change: dict[str, Any], reason: str) -> None:
    plan = reconcile(seen(heads=heads(OPEN), **change), at(0))
    accepted = conditions(plan)["Accepted"]
    assert (accepted.status, accepted.reason) == ("False", reason)
    assert (plan.create, plan.question) == ((), None)
    assert plan.status is not None
    assert plan.status["waiting"] or stalled(plan)
    assert ("PolicyViolation" in reasons(plan)) == (reason == "PolicyViolation")


def test_a_refusal_leaves_running_workers_alone_unless_the_graph_s_owner_says_so() -> None:
    running: dict[str, Any] = {"jobs": (JOB,), "pods": (pod(ready=True),)}
    assert reconcile(seen(open_status(), **running, graph=None), at(0)).delete == ()
    denied = Thing.read(graph_document(allowedNamespaces={"from": "Same"}))
    assert len(reconcile(seen(open_status(), **running, graph=denied), at(0)).delete) == 1


def test_a_committed_task_stays_so_without_its_graph() -> None:
    done = reconcile(seen(heads=heads(CLOSED)), at(0))
    plan = reconcile(seen(done.status, graph=None), at(60))
    assert plan.status is not None
    assert (plan.status["phase"], conditions(plan)["Accepted"].reason) == ("Succeeded", "GraphNotFound")


GRAPH_OF_MU2NET = Thing.read(graph_document(taskDefaults={"search": {"strategy": "mu2net"}}))
LATER: list[tuple[dict[str, Any], str]] = [
    ({"settings": Settings(policy=Policy(image_prefixes=("ours/",)))}, "PolicyViolation"),
    ({"graph": Thing.read(graph_document(allowedNamespaces={"from": "Same"}))}, "GraphAccessDenied"),
    ({"graph": GRAPH_OF_MU2NET}, "InvalidSpec"),
]
NARROW = {"search": {"samples": 2000}, "workers": {"image": "theirs/trainer:1"}}


@pytest.mark.parametrize(("change", "reason"), LATER, ids=lambda item: item if isinstance(item, str) else "")
def test_what_is_committed_needs_nobody_when_the_platform_s_rules_change(change: dict[str, Any], reason: str) -> None:
    done = reconcile(seen(heads=heads(CLOSED), spec=NARROW), at(0))
    plan = reconcile(seen(done.status, spec=NARROW, **change), at(60))
    assert plan.status is not None
    assert (plan.status["phase"], conditions(plan)["Accepted"].reason, stalled(plan)) == ("Succeeded", reason, "")
    assert conditions(plan)["Reconciling"].reason == "Committed"
    assert not reconcile(seen(plan.status, spec=NARROW, **change), at(90)).writes
    again = reconcile(seen(plan.status, spec={**NARROW, "iteration": 2}, **change), at(90))
    assert stalled(again) == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [LATER[0], LATER[2], ({"graph": None}, "GraphNotFound")],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_who_is_at_work_is_seen_at_work_when_the_platform_s_rules_change(change: dict[str, Any], reason: str) -> None:
    running: dict[str, Any] = {"jobs": (JOB,), "pods": (pod(ready=True),), "spec": NARROW}
    before = reconcile(seen(open_status(), **running), at(0))
    plan = reconcile(seen(before.status, **running, **change), at(60))
    assert before.status is not None
    assert plan.status is not None
    assert (plan.status["phase"], conditions(plan)["Accepted"].reason, stalled(plan)) == ("Training", reason, "")
    assert (plan.status["workers"], plan.delete) == (before.status["workers"], ())
    ended = reconcile(
        seen(plan.status, jobs=(replace(JOB, failure="BackoffLimitExceeded"),), spec=NARROW, **change), at(90)
    )
    assert ended.status is not None
    assert (stalled(ended) or ended.status["waiting"][:7]) == (reason if change.get("graph", 1) else "there i")


def deleting(policy: str, *, finalizers: list[str], seconds: float = 0, worked: bool = True, **more: Any) -> Plan:
    document = task_document(deletionPolicy=policy)
    document["status"] = open_status() if worked else {}
    document["metadata"] |= {"deletionTimestamp": "2026-03-01T12:00:00Z", "finalizers": finalizers}
    return reconcile(replace(seen(), task=Thing.read(document), **more), at(seconds))


def test_deleting_a_task_with_its_route() -> None:
    held = [labels.FINALIZER, "other/one"]
    first = deleting("Delete", finalizers=held, jobs=(JOB,))
    assert (len(first.delete), first.removal, first.finalizer) == (1, None, None)
    then = deleting("Delete", finalizers=held)
    assert then.removal == Removal("task-uid", TASK, iteration=1)
    assert then.status is not None
    assert then.status["phase"] == "Deleting"
    done = deleting("Delete", finalizers=held, removal=RemovalFact(uid="task-uid", done=True))
    assert (done.finalizer, reasons(done)) == ("remove", ["RouteRemoved"])


SHUT = Thing.read(graph_document(allowedNamespaces={"from": "Same"}))
GOING = replace(Thing.read(graph_document()), deleting=at(0))


@pytest.mark.parametrize(
    "change",
    [{"seconds": 600}, {"graph_namespace_terminating": True}, {"graph": SHUT}, {"graph": None}, {"graph": GOING}],
)
def test_a_route_that_cannot_be_removed_is_given_up(change: dict[str, Any]) -> None:
    plan = deleting("Delete", finalizers=[labels.FINALIZER], **change)
    assert (plan.finalizer, reasons(plan)) == ("remove", ["RouteNotRemoved"])


@pytest.mark.parametrize("policy", ["Delete", "Retain"])
def test_a_deleted_task_that_somebody_else_holds_back_trains_no_more(policy: str) -> None:
    plan = deleting(policy, finalizers=["other/one"], jobs=(JOB,))
    assert ([item.name for item in plan.delete], plan.finalizer) == ([JOB.name], None)
    assert plan.status is not None
    assert (plan.status["phase"], plan.status["waiting"]) == ("Deleting", "its Jobs to be gone")
    held = deleting(policy, finalizers=["other/one"])
    assert held.status is not None
    assert "other/one" in held.status["waiting"]
    gone = deleting("Retain", finalizers=[labels.FINALIZER], jobs=(JOB,))
    assert (len(gone.delete), gone.finalizer) == (1, "remove")


def test_who_never_worked_in_a_graph_takes_no_route_out_of_it() -> None:
    plan = deleting("Delete", finalizers=[labels.FINALIZER], worked=False)
    assert (plan.finalizer, plan.removal, plan.events) == ("remove", None, ())


def test_who_named_an_older_task_s_id_takes_no_route_out_of_the_graph() -> None:
    elder = task_document("elder", uid="elder", taskID=TASK)
    elder["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    plan = deleting("Delete", finalizers=[labels.FINALIZER], rivals=(Thing.read(elder),))
    assert (plan.finalizer, plan.removal) == ("remove", None)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ('jobs "x" is forbidden: exceeded quota: q, requested: count/jobs.batch=1', "QuotaWait"),
        ('admission webhook "w" denied the request', "PodRejected"),
    ],
)
def test_a_job_that_is_refused_is_said_and_tried_again(told: str, reason: str) -> None:
    plan = reconcile(seen(heads=heads(HeadState()), refused=told), at(0))
    assert (plan.create, plan.requeue_s) == ((), 60)
    assert plan.status is not None
    assert told[:20] in plan.status["waiting"]
    assert (conditions(plan)["Scheduled"].reason, plan.status["phase"]) == (reason, "Pending")
    assert "search" not in plan.status


def test_a_missing_service_account_is_looked_for_again() -> None:
    plan = reconcile(seen(heads=heads(HeadState()), service_account_found=False), at(0))
    assert (conditions(plan)["Accepted"].reason, plan.create, plan.requeue_s) == ("ServiceAccountNotFound", (), 30)


def test_a_retained_route_holds_nothing_back() -> None:
    assert deleting("Retain", finalizers=[labels.FINALIZER]).finalizer == "remove"
    assert deleting("Retain", finalizers=[]) == Plan()


@pytest.mark.parametrize(("policy", "present", "change"), [("Delete", False, "add"), ("Retain", True, "remove")])
def test_the_finalizer_follows_the_policy(policy: str, present: bool, change: str) -> None:
    document = task_document(deletionPolicy=policy)
    document["metadata"]["finalizers"] = [labels.FINALIZER] if present else []
    assert reconcile(replace(seen(), task=Thing.read(document)), at(0)).finalizer == change
