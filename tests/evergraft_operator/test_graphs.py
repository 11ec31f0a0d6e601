"""A ModuleGraph's life, its stewards as values, and its schedule."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from typing import Any

import pytest

from evergraft.names import RunKey
from evergraft.steward import errand as errand_module
from evergraft_operator import access, admission, cron, labels, reading, stewards
from evergraft_operator import facts as facts_module
from evergraft_operator.conditions import Condition, read
from evergraft_operator.graphs import GraphObserved, reconcile_graph
from evergraft_operator.observed import Job, KubeEvent, Pod, Thing
from evergraft_operator.plan import Deletion, Plan
from evergraft_operator.report import Totals
from evergraft_operator.settings import Policy, Settings, StewardPods
from evergraft_operator.stewards import Question, Removal
from evergraft_operator.testing.documents import Fields, at, graph_document, pod_document
from evergraft_operator.trimming import trim

DAY = 86400


def seen(document: Fields | None = None, **more: Any) -> GraphObserved:
    return GraphObserved(graph=Thing.read(document or graph_document()), **more)


def duty(plan: Plan) -> str:
    (job,) = plan.create
    return str(job["metadata"]["labels"][labels.DUTY])


def done(plan: Plan, *, message: Fields | None = None, code: int = 0, ended: float = 50) -> dict[str, Any]:
    """The steward that `plan` creates, after its end."""
    (document,) = plan.create
    job = Job.read({**document, "metadata": {**document["metadata"], "uid": "s1"}})
    failure = None if code == 0 else "PodFailurePolicy" if code in (64, 65) else "BackoffLimitExceeded"
    job = replace(job, complete=code == 0, failure=failure, ended=at(ended))
    text = json.dumps({"format": 1, **(message or {})})
    phase = "Failed" if code else "Succeeded"
    pod = Pod.read(pod_document("s", job="s1", phase=phase, exit_code=code, message=text))
    return {"jobs": (job,), "pods": (pod,)}


def conditions(plan: Plan) -> dict[str, Condition]:
    assert plan.status is not None
    return read(plan.status)


def with_status(plan: Plan, document: Fields) -> Fields:
    return {**document, "status": plan.status or document.get("status")}


def test_a_graph_is_started_or_adopted_by_a_steward() -> None:
    document = graph_document(ready=False)
    first = reconcile_graph(seen(document), at(0))
    assert duty(first) == "init"
    assert conditions(first)["Ready"].reason == "Initializing"
    totals = {"version": 3, "tasks": 2, "modules": 9, "parameters": 100, "bytes": 5}
    facts = done(first, message={"graphID": "g7", "graph": totals})
    then = reconcile_graph(seen(with_status(first, document), **facts), at(60))
    assert then.create == ()
    assert then.status is not None
    told = {key: then.status[key] for key in ("graphID", "version", "tasks", "modules", "parameters", "bytes")}
    assert told == {"graphID": "g7", **totals}
    assert conditions(then)["Ready"].holds
    assert not reconcile_graph(seen(with_status(then, document), **facts), at(99)).writes


def test_a_store_that_cannot_be_used_stalls_and_is_tried_again() -> None:
    document = graph_document(ready=False)
    first = reconcile_graph(seen(document), at(0))
    facts = done(first, code=64, message={"reason": "gs://acme: no such bucket"})
    failed = reconcile_graph(seen(with_status(first, document), **facts), at(60))
    assert conditions(failed)["Stalled"].reason == "InitFailed"
    assert "no such bucket" in conditions(failed)["Stalled"].message
    assert (failed.delete, failed.create, failed.requeue_s) == ((), (), 290.0)
    later = reconcile_graph(seen(with_status(failed, document), **facts), at(350))
    assert len(later.delete) == 1
    gone = reconcile_graph(seen(with_status(failed, document)), at(360))
    assert (duty(gone), gone.writes) == ("init", True)
    assert gone.status is None  # It fails still, as far as anybody knows.
    mended = with_status(failed, document)
    mended["metadata"] = {**mended["metadata"], "generation": 9}
    assert not conditions(reconcile_graph(seen(mended), at(360)))["Stalled"].holds
    assert duty(reconcile_graph(seen(with_status(failed, document)), at(360))) == "init"


def test_one_steward_at_a_time() -> None:
    working = Job(name="x", namespace="ml", uid="s0")
    plan = reconcile_graph(seen(graph_document(ready=False), jobs=(working,)), at(0))
    assert plan.create == ()
    leaving = replace(working, complete=True, deleting=at(0))
    assert reconcile_graph(seen(graph_document(ready=False), jobs=(leaving,)), at(0)).create == ()


def sent(plan: Plan, time: float = 0) -> Job:
    """The steward that `plan` creates, as the API server keeps it."""
    (document,) = plan.create
    meta = {**document["metadata"], "uid": "s1", "creationTimestamp": reading.written(at(time))}
    return Job.read({**document, "metadata": meta})


def run_by(*pods: Fields) -> tuple[Pod, ...]:
    return tuple(map(Pod.read, pods))


ERRANDS: dict[str, dict[str, Any]] = {
    "init": {"document": graph_document(ready=False)},
    "heads": {"questions": (Question("uid-0", "vision/t0", RunKey(1, 1), 0),)},
    "remove": {"removals": (Removal("uid-r", "vision/old"),)},
    "collect": {"document": graph_document(maintenance={"schedule": "0 12 * * *"})},
    "verify": {"document": graph_document(maintenance={"verify": "Daily"})},
}


@pytest.mark.parametrize("asked", sorted(ERRANDS))
def test_a_steward_that_went_with_its_node_is_replaced_and_told_of(asked: str) -> None:
    facts, time = ERRANDS[asked], DAY
    job = sent(reconcile_graph(seen(**facts), at(time)), time)
    assert job.duty == asked
    dead = run_by(pod_document("s", job="s1", ready=True, created=time, deleting=time + 100))
    stopping = reconcile_graph(seen(**facts, jobs=(job,), pods=dead), at(time + 99))
    assert (stopping.create, stopping.delete, stopping.requeue_s) == ((), (), 15)
    assert conditions(stopping)["Reconciling"].reason in ("Initializing", "Settled")
    late = reconcile_graph(seen(**facts, jobs=(job,), pods=dead), at(time + 160))
    told = conditions(late)["Reconciling"]
    assert (told.status, told.reason, late.delete) == ("True", "StewardLost", ())
    assert told.message.endswith("it is replaced after 2026-03-02T12:02:40Z")
    over = reconcile_graph(seen(**facts, jobs=(job,), pods=dead), at(time + 161))
    # In the foreground its Job would wait for the pod that never ends, and keep the name that the next one needs.
    assert over.delete == (Deletion(job.namespace, job.name, "s1", foreground=False),)
    assert conditions(over)["Reconciling"].message == told.message
    assert duty(reconcile_graph(seen(**facts, pods=dead), at(time + 162))) == asked


def test_a_steward_of_whom_a_part_still_works_is_waited_for() -> None:
    facts: dict[str, Any] = {"questions": questions(45)}
    job = sent(reconcile_graph(seen(**facts), at(0)))
    lost, over = pod_document("s-0", job="s1", deleting=0), pod_document("s-1", job="s1", phase="Succeeded")
    here = pod_document("s-2", job="s1", ready=True)
    assert reconcile_graph(seen(**facts, jobs=(job,), pods=run_by(lost, over, here)), at(600)).delete == ()
    ended = pod_document("s-2", job="s1", phase="Succeeded")
    assert len(reconcile_graph(seen(**facts, jobs=(job,), pods=run_by(lost, over, ended)), at(600)).delete) == 1


def test_a_lost_steward_is_found_beside_another_at_work() -> None:
    facts = ERRANDS["heads"]
    job = sent(reconcile_graph(seen(**facts), at(0)))
    verifier = Job(name="v", namespace="ml", uid="v1", duty="verify", created=at(0))
    pods = run_by(pod_document("v", job="v1", ready=True), pod_document("s", job="s1", deleting=100))
    late = reconcile_graph(seen(**facts, jobs=(verifier, job), pods=pods), at(150))
    assert (conditions(late)["Reconciling"].reason, late.requeue_s) == ("StewardLost", 15)
    assert [item.uid for item in reconcile_graph(seen(**facts, jobs=(verifier, job), pods=pods), at(161)).delete] == [
        "s1"
    ]


@pytest.mark.parametrize("failure", [None, "DeadlineExceeded"])
def test_a_job_that_does_not_go_holds_the_next_back_no_longer_than_its_grace_lets_it(failure: str | None) -> None:
    stuck = Job(name="x", namespace="ml", uid="s0", duty="heads", failure=failure, ended=at(0), deleting=at(0))
    pods = run_by(pod_document("s", job="s0", deleting=0))
    facts = {**ERRANDS["heads"], "jobs": (stuck,), "pods": pods}
    early = reconcile_graph(seen(**facts), at(20))
    assert (early.create, early.requeue_s) == ((), 10)
    assert not conditions(early)["Reconciling"].holds
    told = reconcile_graph(seen(**facts), at(31))
    assert (told.create, told.requeue_s, conditions(told)["Reconciling"].reason) == ((), 59, "StewardStopping")
    assert conditions(told)["Reconciling"].message.endswith("at most until 2026-03-01T12:01:30Z")
    after = reconcile_graph(seen(**facts), at(90))
    assert duty(after) == "heads"
    assert not conditions(after)["Reconciling"].holds


def test_a_name_that_a_job_keeps_which_does_not_go_is_freed() -> None:
    facts = ERRANDS["heads"]
    job = replace(sent(reconcile_graph(seen(**facts), at(0))), failure="DeadlineExceeded", ended=at(0), deleting=at(0))
    freed = reconcile_graph(seen(**facts, jobs=(job,)), at(90))
    assert freed.delete == (Deletion(job.namespace, job.name, "s1", foreground=False),)
    assert duty(reconcile_graph(seen(**facts), at(91))) == "heads"


def questions(number: int) -> tuple[Question, ...]:
    return tuple(Question(f"uid-{index:03}", f"vision/t{index}", RunKey(1, 1), 0) for index in range(number))


def asked(plan: Plan) -> list[str]:
    return [item["uid"] for item in json.loads(plan.create[0]["metadata"]["annotations"][labels.QUESTION])["tasks"]]


def test_heads_are_read_twenty_a_pod_by_up_to_eight_pods() -> None:
    for number, pods in ((1, 1), (20, 1), (21, 2), (160, 8), (999, 8)):
        plan = reconcile_graph(seen(questions=questions(number)), at(0))
        spec = plan.create[0]["spec"]
        assert (duty(plan), len(asked(plan))) == ("heads", min(number, 160))
        assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", pods, pods)
    assert facts_module.MAX_ASKED == stewards.MAX_ASKED == errand_module.MAX_TASKS
    assert stewards.BATCH == errand_module.MAX_HEADS


def test_each_pod_answers_for_its_own_part() -> None:
    plan = reconcile_graph(seen(questions=questions(45)), at(0))
    job = done(plan)["jobs"][0]
    pods = []
    for index in (2, 0):
        document = pod_document(f"s-{index}", job="s1", phase="Succeeded", message='{"heads": [{"run": null}, null]}')
        document["metadata"]["labels"][labels.JOB_INDEX] = str(index)
        pods.append(Pod.read({**trim("Pod", document)}))
    assert [fact.uid for fact in stewards.head_facts(job, pods)] == ["uid-040", "uid-000"]
    rest = reconcile_graph(seen(questions=questions(45), jobs=(job,), pods=tuple(pods)), at(60))
    assert len(asked(rest)) == 43


def test_what_was_answered_is_not_asked_again() -> None:
    plan = reconcile_graph(seen(questions=questions(25)), at(0))
    heads: list[Any] = [{"run": "i1-c1", "outcome": "committed", "taskHash": "a" * 64, "route": {"id": "b" * 64}}]
    facts = done(plan, message={"heads": [*heads, {"run": None}, None, "junk", {"run": "i1-c1", "outcome": "?"}]})
    found = stewards.head_facts(facts["jobs"][0], facts["pods"])
    assert [(fact.uid, fact.state.outcome) for fact in found] == [("uid-000", "committed"), ("uid-001", None)]
    rest = reconcile_graph(seen(questions=questions(27), **facts), at(60))
    assert asked(rest) == [*("uid-025", "uid-026"), *(f"uid-{n:03}" for n in range(2, 25))]


def test_what_had_no_answer_is_asked_again_and_holds_up_nobody() -> None:
    many = questions(330)
    first = reconcile_graph(seen(questions=many), at(0))
    mute = done(first, message={"heads": [None] * 20})
    second = reconcile_graph(seen(questions=many, **mute), at(60))
    assert asked(second) == [f"uid-{number}" for number in range(160, 320)]
    alone = reconcile_graph(seen(questions=many[:160], **mute), at(60))
    assert (alone.create, alone.delete, alone.requeue_s) == ((), (), 290.0)
    assert len(reconcile_graph(seen(questions=many[:160], **mute), at(351)).delete) == 1


def test_a_removal_that_others_are_in_the_way_of_holds_up_nobody() -> None:
    removals = tuple(Removal(f"uid-{number:02}", f"vision/t{number}") for number in range(22))
    first = reconcile_graph(seen(removals=removals), at(0))
    assert asked(first) == [f"uid-{number:02}" for number in range(20)]
    failed = done(first, code=64, message={"reason": "others build on it", "removed": [False, *[True] * 18]})
    facts = stewards.removal_facts(failed["jobs"][0], failed["pods"])
    assert [fact.uid for fact in facts if not fact.done] == ["uid-00", "uid-19"]
    second = reconcile_graph(seen(removals=removals, questions=questions(1), **failed), at(60))
    assert asked(second) == ["uid-20", "uid-21", "uid-00", "uid-19"]
    alone = done(reconcile_graph(seen(removals=removals[:1]), at(0)), code=64, message={"reason": "others build on it"})
    third = reconcile_graph(seen(removals=removals[:1], questions=questions(1), **alone), at(60))
    assert (duty(third), conditions(third)["Stalled"].reason) == ("heads", "RemoveFailed")


@pytest.mark.parametrize("long", ["collect", "verify"])
def test_tasks_do_not_wait_for_maintenance_and_maintenance_waits_for_all(long: str) -> None:
    working = Job(name="x", namespace="ml", uid="s0", duty=long)
    assert duty(reconcile_graph(seen(jobs=(working,), questions=questions(1)), at(0))) == "heads"
    document = maintained(schedule="0 3 * * *", verify="Daily")
    assert reconcile_graph(seen(document, jobs=(working,)), at(2 * DAY)).create == ()
    reads = replace(working, duty="heads")
    assert reconcile_graph(seen(document, jobs=(reads,), questions=questions(1)), at(2 * DAY)).create == ()


@pytest.mark.parametrize("code", [64, 75])
def test_a_verification_that_could_not_be_carried_out_is_tried_again(code: int) -> None:
    document = maintained(verify="Daily")
    due = reconcile_graph(seen(document), at(DAY))
    facts = done(due, code=code, ended=DAY + 9, message={"reason": "key AWS_ACCESS_KEY_ID of the Secret is missing"})
    told = reconcile_graph(seen(with_status(due, document), **facts), at(DAY + 20))
    assert (conditions(told)["Verified"].status, conditions(told)["Stalled"].reason) == ("Unknown", "VerifyFailed")
    assert told.status is not None
    assert "lastVerifyTime" not in told.status
    assert len(reconcile_graph(seen(with_status(told, document), **facts), at(DAY + 400)).delete) == 1
    assert duty(reconcile_graph(seen(with_status(told, document)), at(DAY + 401))) == "verify"


def test_the_same_question_is_the_same_job() -> None:
    names = {reconcile_graph(seen(questions=questions(3)), at(time)).create[0]["metadata"]["name"] for time in (0, 999)}
    assert len(names) == 1


def test_removals_come_before_questions_and_are_done_once() -> None:
    removal = Removal("uid-r", "vision/old")
    plan = reconcile_graph(seen(questions=questions(1), removals=(removal,)), at(0))
    assert duty(plan) == "remove"
    facts = done(plan)
    (fact,) = stewards.removal_facts(facts["jobs"][0], facts["pods"])
    assert (fact.uid, fact.done) == ("uid-r", True)
    then = reconcile_graph(seen(questions=questions(1), removals=(removal,), **facts), at(9))
    assert duty(then) == "heads"


def maintained(**fields: Any) -> Fields:
    account = {"serviceAccountName": "evergraft-maintenance"}
    return graph_document(maintenance={**account, **fields})


def test_garbage_is_collected_on_schedule() -> None:
    document = maintained(schedule="0 3 * * *", gracePeriod="48h")
    early = reconcile_graph(seen(document), at(0))
    assert (early.create, early.requeue_s) == ((), 15 * 3600)
    due = reconcile_graph(seen(document), at(15 * 3600))
    assert duty(due) == "collect"
    pod = due.create[0]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "evergraft-maintenance"
    asked = json.loads(
        next(item["value"] for item in pod["containers"][0]["env"] if item["name"] == "EVERGRAFT_STEWARD")
    )
    assert (asked["duty"], asked["gracePeriod"], asked["store"]) == (
        "collect",
        "48h",
        {"url": "gs://acme-evergraft/prod"},
    )
    facts = done(due, ended=15 * 3600 + 60, message={"graph": {"version": 0, "tasks": 1}})
    then = reconcile_graph(seen(with_status(due, document), **facts), at(15 * 3600 + 99))
    assert then.status is not None
    assert (then.status["lastCollectionTime"], then.status["tasks"]) == ("2026-03-02T03:01:00Z", 1)
    assert then.create == ()
    assert then.requeue_s is not None
    assert then.requeue_s > 80_000


def test_a_damaged_graph_is_told_and_verified_again_in_time() -> None:
    document = maintained(verify="Daily")
    due = reconcile_graph(seen(document), at(DAY))
    assert duty(due) == "verify"
    assert due.create[0]["spec"]["template"]["spec"]["containers"][0]["image"] == Settings().images.cpu
    facts = done(due, code=65, ended=DAY + 9, message={"reason": "module ab12… is damaged"})
    told = reconcile_graph(seen(with_status(due, document), **facts), at(DAY + 20))
    assert (conditions(told)["Verified"].status, conditions(told)["Verified"].reason) == ("False", "Damaged")
    assert (told.create, told.requeue_s) == ((), DAY - 11)
    gone = reconcile_graph(seen(with_status(told, document)), at(DAY + 9999))
    assert not gone.writes
    crashed = done(due, code=1, ended=DAY + 9)
    unknown = reconcile_graph(seen(with_status(due, document), **crashed), at(DAY + 20))
    state = conditions(unknown) if unknown.status else read(with_status(due, document)["status"])
    assert state["Verified"].status == "Unknown"


def test_the_younger_of_two_graphs_with_one_store_is_refused() -> None:
    document = graph_document(uid="b", name="other", store={"url": "gs://acme-evergraft/prod/"})
    document["metadata"]["creationTimestamp"] = "2026-03-02T00:00:00Z"
    elder = Thing.read(graph_document())
    plan = reconcile_graph(seen(document, rivals=(elder,), questions=questions(1)), at(0))
    assert conditions(plan)["Ready"].reason == "StoreTaken"
    assert conditions(plan)["Stalled"].holds
    assert plan.create == ()
    assert conditions(reconcile_graph(seen(rivals=(Thing.read(document),)), at(0)))["Ready"].holds


@pytest.mark.parametrize(
    ("older", "younger", "told"),
    [
        ("s3://b/graphs", "s3://b/graphs/a", "s3://b/graphs/a lies inside s3://b/graphs"),
        ("s3://b/graphs/a", "s3://b/graphs", "s3://b/graphs/a lies inside s3://b/graphs"),
        ("s3://b", "s3://b//graphs/", "s3://b/graphs lies inside s3://b"),
    ],
)
def test_the_younger_of_two_graphs_whose_stores_share_objects_is_refused(older: str, younger: str, told: str) -> None:
    elder = Thing.read(graph_document(store={"url": older}))
    document = graph_document(uid="b", name="other", store={"url": younger})
    document["metadata"] |= {"creationTimestamp": "2026-03-02T00:00:00Z", "namespace": "vision"}
    plan = reconcile_graph(seen(document, rivals=(elder,), questions=questions(1)), at(0))
    ready = conditions(plan)["Ready"]
    assert (ready.status, ready.reason, plan.create) == ("False", "StoreTaken", ())
    assert "ModuleGraph ml/default:" in ready.message
    assert told in ready.message
    assert conditions(
        reconcile_graph(seen(graph_document(store={"url": older}), rivals=(Thing.read(document),)), at(0))
    )["Ready"].holds


def test_long_places_leave_room_for_the_name_of_the_other() -> None:
    elder = Thing.read(graph_document(name="n" * 48, store={"url": "s3://b/" + "x" * 900}))
    document = graph_document(uid="b", name="other", store={"url": "s3://b/" + "x" * 900 + "/y"})
    document["metadata"]["creationTimestamp"] = "2026-03-02T00:00:00Z"
    stalled = conditions(reconcile_graph(seen(document, rivals=(elder,)), at(0)))["Stalled"]
    assert "n" * 48 in stalled.message
    assert stalled.message.endswith("use that one, or a folder beside it")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"store": {"url": "file:///x"}}, "spec.store.url"),
        ({"store": {"persistentVolumeClaim": {"claimName": "x"}}}, "allowedNamespaces"),
        ({"root": {"backbone": "magic", "seed": 0}}, "spec.root.backbone"),
    ],
)
def test_a_wrong_graph_is_told(spec: Fields, told: str) -> None:
    plan = reconcile_graph(seen(graph_document(**spec)), at(0))
    assert (conditions(plan)["Ready"].reason, plan.create) == ("InvalidSpec", ())
    assert told in conditions(plan)["Ready"].message


def test_a_wrong_schedule_is_told_and_stops_nothing_else() -> None:
    plan = reconcile_graph(seen(maintained(schedule="99 3 * * *"), questions=questions(1)), at(0))
    assert conditions(plan)["Stalled"].reason == "InvalidSchedule"
    assert duty(plan) == "heads"


def test_a_worker_cannot_claim_a_far_future() -> None:
    lie, truth = Totals(version=10**15, tasks=1), Totals(version=4, tasks=3)
    plan = reconcile_graph(seen(totals=(lie, truth)), at(0))
    assert plan.status is not None
    assert (plan.status["version"], plan.status["tasks"]) == (4, 3)


def test_a_deleted_graph_is_left_alone() -> None:
    document = graph_document()
    document["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    assert reconcile_graph(seen(document, questions=questions(1)), at(0)) == Plan()


@pytest.mark.parametrize(
    ("allowed", "labels_there", "denied"),
    [
        ({"from": "Same"}, {}, True),
        ({"from": "All"}, None, False),
        ({"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}, {"a": "b", "c": "d"}, False),
        ({"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}, {"a": "c"}, True),
        ({"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}, None, True),
        *[
            ({"from": "Selector", "selector": {"matchExpressions": [{"key": "a", **rule}]}}, {"a": "b"}, denied)
            for rule, denied in (
                ({"operator": "In", "values": ["b", "c"]}, False),
                ({"operator": "NotIn", "values": ["b"]}, True),
                ({"operator": "Exists"}, False),
                ({"operator": "DoesNotExist"}, True),
                ({"operator": "Near"}, True),
                ({"operator": "In", "values": "b"}, True),
            )
        ],
    ],
)
def test_who_may_grow_a_graph(allowed: Fields, labels_there: dict[str, str] | None, denied: bool) -> None:
    graph, wrong = admission.read_graph(Thing.read(graph_document(allowedNamespaces=allowed)))
    assert graph is not None, wrong
    assert (access.denial(graph, "vision", labels_there) is not None) == denied
    assert access.denial(graph, "ml", None) is None


@pytest.mark.parametrize(
    ("schedule", "after", "due"),
    [
        ("0 3 * * *", "2026-03-01T02:59:59", "2026-03-01T03:00:00"),
        ("0 3 * * *", "2026-03-01T03:00:00", "2026-03-02T03:00:00"),
        ("*/15 * * * *", "2026-03-01T03:01:00", "2026-03-01T03:15:00"),
        ("5-10/5 1,2 * * *", "2026-03-01T01:06:00", "2026-03-01T01:10:00"),
        ("0 0 29 2 *", "2026-03-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 * * mon", "2026-03-01T00:00:00", "2026-03-02T00:00:00"),
        ("0 0 * * 7", "2026-03-02T00:00:00", "2026-03-08T00:00:00"),
        ("0 0 13 * fri", "2026-03-01T00:00:00", "2026-03-06T00:00:00"),
        ("0 0 31 dec *", "2026-03-01T00:00:00", "2026-12-31T00:00:00"),
        ("30/10 * * * *", "2026-03-01T00:00:00", "2026-03-01T00:30:00"),
        ("@weekly", "2026-03-01T00:00:00", "2026-03-08T00:00:00"),
        ("0 0 30 2 *", "2026-03-01T00:00:00", None),
    ],
)
def test_cron(schedule: str, after: str, due: str | None) -> None:
    utc = datetime.UTC
    expected = datetime.datetime.fromisoformat(due).replace(tzinfo=utc) if due else None
    assert cron.parse(schedule).next_after(datetime.datetime.fromisoformat(after).replace(tzinfo=utc)) == expected


@pytest.mark.parametrize(
    "text", ["", "* * * *", "60 * * * *", "a * * * *", "5-1 * * * *", "*/0 * * * *", "² * * * *", "1/x * * * *"]
)
def test_wrong_schedules_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"cron schedule|backwards|not a number"):
        cron.parse(text)


def test_stewards_meet_pod_security_too() -> None:
    (job,) = reconcile_graph(seen(graph_document(ready=False)), at(0)).create
    spec = job["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert job["metadata"]["ownerReferences"][0]["kind"] == "ModuleGraph"
    assert job["metadata"]["namespace"] == "ml"


def test_stewards_go_where_the_operator_is_told_and_keep_what_locks_them_down() -> None:
    template = {
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "team", "operator": "Exists"}],
        "priorityClassName": "low",
        "labels": {"kueue.x-k8s.io/queue-name": "cpu", labels.COMPONENT: "worker"},
        "annotations": {"note": "x"},
    }
    value = {"podTemplate": template, "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "512Mi"}}}
    settings = Settings(stewards=StewardPods.model_validate(value))
    (job,) = reconcile_graph(seen(graph_document(ready=False), settings=settings), at(0)).create
    pod = job["spec"]["template"]
    assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "cpu"
    assert pod["metadata"]["labels"][labels.COMPONENT] == labels.STEWARD
    assert pod["metadata"]["annotations"] == {"note": "x"}
    spec = pod["spec"]
    assert (spec["nodeSelector"], spec["priorityClassName"]) == ({"pool": "cpu"}, "low")
    assert spec["tolerations"][-1] == {"key": "team", "operator": "Exists"}
    # The built-in request of 1Gi would exceed the limit.
    assert spec["containers"][0]["resources"] == {"requests": {"cpu": "1"}, "limits": {"memory": "512Mi"}}
    assert spec["securityContext"]["runAsNonRoot"] is True


def test_a_steward_that_does_not_start_is_told_of_and_no_longer_once_it_runs() -> None:
    document = graph_document(ready=False)
    (made,) = reconcile_graph(seen(document), at(0)).create
    meta = {**made["metadata"], "uid": "s1", "creationTimestamp": reading.written(at(0))}
    job = Job.read({**made, "metadata": meta})
    early = reconcile_graph(seen(document, jobs=(job,)), at(10))
    assert conditions(early)["Reconciling"].reason == "Initializing"
    assert early.requeue_s == 20.0
    event = KubeEvent(about="s1", reason="FailedCreate", message="exceeded quota: none", first=at(20), last=at(20))
    late = reconcile_graph(seen(document, jobs=(job,), events=(event,)), at(31))
    told = conditions(late)["Reconciling"]
    assert (told.status, told.reason) == ("True", "StewardWaiting")
    assert "exceeded quota" in told.message
    assert job.name in told.message
    again = reconcile_graph(seen(with_status(late, document), jobs=(job,), events=(event,)), at(60))
    assert not again.writes
    pod = Pod.read(pod_document("s", job="s1", ready=True))
    runs = reconcile_graph(seen(with_status(late, document), jobs=(job,), pods=(pod,)), at(70))
    assert conditions(runs)["Reconciling"].reason == "Initializing"


def test_a_steward_that_failed_is_quoted_while_it_is_tried_again() -> None:
    document = graph_document(ready=False)
    (made,) = reconcile_graph(seen(document), at(0)).create
    job = Job.read({**made, "metadata": {**made["metadata"], "uid": "s1", "creationTimestamp": reading.written(at(0))}})
    said = json.dumps({"format": 1, "reason": "s3://dark/graph does not answer"})
    pod = Pod.read(pod_document("s", job="s1", phase="Failed", exit_code=75, message=said))
    told = conditions(reconcile_graph(seen(document, jobs=(job,), pods=(pod,)), at(20)))
    assert told["Reconciling"].reason == "StewardRetrying"
    assert "s3://dark/graph does not answer" in told["Reconciling"].message
    assert not told["Stalled"].holds


def test_a_graph_s_stewards_run_under_accounts_that_the_policy_allows() -> None:
    document = graph_document(ready=False, maintenance={"serviceAccountName": "boss"})
    held = Settings(policy=Policy(service_accounts=("evergraft-maintenance",)))
    plan = reconcile_graph(seen(document, settings=held), at(0))
    assert plan.create == ()
    assert conditions(plan)["Ready"].reason == conditions(plan)["Stalled"].reason == "PolicyViolation"
    assert "spec.maintenance.serviceAccountName" in conditions(plan)["Ready"].message
    assert duty(reconcile_graph(seen(document), at(0))) == "init"
