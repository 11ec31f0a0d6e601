"""Nothing that anybody writes into an object, a message or an answer raises, grows a status, or gets out unclean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evergraft import __version__
from evergraft.api.status import ModuleGraphStatus, TaskStatus, to_json
from evergraft.errors import SpecError
from evergraft_operator import conditions, failures, reading, report, stewards
from evergraft_operator.conditions import Condition
from evergraft_operator.events import Event
from evergraft_operator.graphs import GraphObserved, reconcile_graph
from evergraft_operator.observed import Job, KubeEvent, Observed, Pod, Thing, Workload
from evergraft_operator.reconcile import reconcile
from evergraft_operator.report import Heard
from evergraft_operator.settings import Settings, read_settings
from evergraft_operator.testing.documents import at, graph_document, pod_document, report_message, task_document

pytestmark = pytest.mark.slow

QUICK = settings(max_examples=200, deadline=None)

KEYS = """
metadata spec status name uid labels annotations conditions type message reason state terminated waiting exitCode
containerStatuses ownerReferences kind deletionTimestamp creationTimestamp generation finalizers search route runKey
workers replicas image dataset url iteration suspend taskID after failures podTemplate maintenance schedule store
phase parallelism template containers evergraft.dev/run-key evergraft.dev/attempt evergraft.dev/failures
evergraft.dev/task-uid evergraft.dev/question graphRef graph run outcome format heads tasks version
"""
keys = st.sampled_from(KEYS.split())
words = st.text(max_size=30) | st.sampled_from(
    ["Job", "True", "Failed", "i1-c1", "²", "\x1b[31m", "\ud800", "2026-03-01T12:00:00Z"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys | words, inner, max_size=6),
    max_leaves=30,
)
things = st.dictionaries(keys, values, max_size=8) | values


@QUICK
@given(things, things, things, things, things, things)
def test_reconcile_never_raises(task: Any, graph: Any, job: Any, pod: Any, event: Any, load: Any) -> None:
    observed = Observed(
        task=Thing.read(task),
        graph=Thing.read(graph),
        jobs=(Job.read(job),),
        pods=(Pod.read(pod),),
        events=(KubeEvent.read(event),),
        workload=Workload.read(load),
        rivals=(Thing.read(graph),),
    )
    plan = reconcile(observed, at(0))
    check_status(plan.status)
    reconcile_graph(GraphObserved(Thing.read(graph), jobs=observed.jobs, pods=observed.pods), at(0))


@QUICK
@given(things, things, things, things, things)
def test_a_good_task_amid_junk_never_raises(status: Any, spec: Any, meta: Any, pod: Any, job: Any) -> None:
    for document in (task_document(), task_document(**(spec if isinstance(spec, dict) else {}))):
        document["status"] = status
        document["metadata"] |= {"generation": 3}
        jobs = (Job.read({"metadata": meta, "spec": spec, "status": status}), Job.read(job))
        good = Thing.read(graph_document())
        plan = reconcile(Observed(task=Thing.read(document), graph=good, jobs=jobs, pods=(Pod.read(pod),)), at(0))
        check_status(plan.status)
    graph = graph_document()
    graph["status"] = status
    plan = reconcile_graph(GraphObserved(Thing.read(graph), jobs=jobs, pods=(Pod.read(pod),)), at(0))
    assert plan.status is None or to_json(ModuleGraphStatus.model_validate(plan.status)) == plan.status


def check_status(status: Any) -> None:
    if status is None:
        return
    assert to_json(TaskStatus.model_validate(status)) == status
    text = json.dumps(status, ensure_ascii=False)
    assert len(text.encode()) <= 8192
    assert text.isprintable()


@QUICK
@given(st.binary(max_size=5000) | st.text(max_size=5000) | values.map(lambda value: json.dumps(value, default=str)))
def test_messages_never_raise(message: Any) -> None:
    report.worker_report(message)
    report.progress(message)
    job = Job(name="s", namespace="ml", uid="j", duty="heads", complete=True, question={"tasks": [{}, 1]})
    pod = Pod.read(pod_document("p", job="j", phase="Succeeded", message=message))
    stewards.head_facts(job, (pod,))


@pytest.mark.parametrize(
    "message",
    [
        b"x" * (10 << 20),
        "[" * 4000,
        '{"outcome": "committed"' + " " * 5000 + "}",
        '{"format": 2, "outcome": "committed"}',
        '{"format": "1", "outcome": "committed"}',
        '{"outcome": "won"}',
        "NaN",
        '{"a": 1' + "0" * 4050 + "}",
    ],
)
def test_too_much_too_new_or_too_strange_is_nothing_heard(message: Any) -> None:
    assert report.worker_report(message) is None


def test_a_lying_answer_is_cut_to_what_can_be() -> None:
    told = report.progress(
        '{"run": "i1-c1", "generation": -4, "candidates": 1e400, "bestScore": "7", "event": "\\u001b[2J"}'
    )
    assert told is not None
    assert (told.run, told.generation, told.candidates, told.best_score, told.event) == (
        "i1-c1",
        None,
        None,
        None,
        "[2J",
    )


def test_control_characters_reach_neither_status_nor_events() -> None:
    message = report_message("vision/cifar10", "i1-c1", "failed", reason="a\x00b\x1b[31mc\nd\u202ee\u200bf")
    job = Job("j", "vision", "j1", run=report.run_key("i1-c1"), attempt=1, complete=True, ended=at(0))
    pod = Pod.read(pod_document("p", job="j1", phase="Succeeded", message=message))
    document = task_document()
    document["status"] = {"search": {"runKey": "i1-c1", "attempt": 1}}
    seen = Observed(task=Thing.read(document), graph=Thing.read(graph_document()), jobs=(job,), pods=(pod,))
    plan = reconcile(seen, at(1))
    check_status(plan.status)
    assert all(event.message.isprintable() for event in plan.events)
    assert "a b [31mc d e f" in str(plan.status)


def test_a_status_is_small_at_any_budget() -> None:
    """Every text and number as long as it may be, in the most expensive signs."""
    loud = '\\"é𝕏' * 2000
    name = "p" * 253
    stall = {"type": "Stalled", "status": "True", "reason": "UserError", "message": loud, "lastTransitionTime": "x"}
    document = task_document("n" * 48, namespace="s" * 63, uid="u" * 36, taskID=f"a/{'b' * 251}")
    search = {
        "runKey": "i999999999-c999999999",
        "attempt": 10**9,
        "image": "é" * 512,
        "jobName": "j" * 63,
        "specHash": "a" * 64,
        "baseVersion": 2**53 - 1,
        "startTime": "2026-03-01T12:00:00Z",
        "generation": 10**9,
        "bestScore": 1 / 3,
    }
    document["spec"]["iteration"] = 999_999_999
    document["status"] = {
        "search": search,
        "failures": dict.fromkeys((*failures.YOURS, *failures.SIZE, *failures.WORLD), 10**12),
        "route": {"id": "a" * 64, "runKey": "i999999999-c999999999", "parentTask": name, "quality": 1 / 3},
        "conditions": [stall, *({**stall, "type": kind} for kind in conditions.TASK_TYPES)],
        "acceleratorSeconds": {"useful": 2**53 - 1, "lost": 2**53 - 1},
    }
    event = KubeEvent(about="j1", reason="FailedCreate", message=loud, first=at(0), last=at(0))
    run = report.run_key("i999999999-c999999999")
    job = Job("j" * 63, "s" * 63, "j1", run=run, attempt=10**9, created=at(0), parallelism=1, message=loud)
    told = report.progress(json.dumps({"generation": 10**9 - 1, "generations": 10**9, "candidates": 10**9}))
    assert told is not None
    seen = Observed(
        task=Thing.read(document),
        graph=Thing.read(graph_document()),
        jobs=(job,),
        events=(event,),
        heard=Heard(told, at(0)),
        after={loud: None},
    )
    for rivals in (
        (),
        (Thing.read({**document, "metadata": {**document["metadata"], "creationTimestamp": "2025-01-01T00:00:00Z"}}),),
    ):
        plan = reconcile(Observed(**{**vars(seen), "rivals": rivals}), at(10))
        assert plan.status is not None
        check_status(plan.status)
        assert len(json.dumps(plan.status).encode()) <= 8192 * 2  # As ASCII with escapes: no wire carries it so.


def test_conditions_keep_their_time_while_their_status_stays() -> None:
    before = conditions.read(
        {"conditions": conditions.settle({}, [Condition("Ready", "False", "A")], generation=1, now=at(0))}
    )
    same = conditions.settle(before, [Condition("Ready", "False", "B", "other words")], generation=2, now=at(60))
    assert (same[0]["lastTransitionTime"], same[0]["reason"], same[0]["observedGeneration"]) == (
        "2026-03-01T12:00:00Z",
        "B",
        2,
    )
    turned = conditions.settle(before, [Condition("Ready", "True", "B")], generation=2, now=at(60))
    assert turned[0]["lastTransitionTime"] == "2026-03-01T12:01:00Z"


@pytest.mark.parametrize(
    ("holding", "reason", "deleting", "phase"),
    [
        ({"Accepted", "Reconciling"}, "Queued", False, "Queued"),
        ({"Accepted", "Reconciling", "Ready"}, "Training", False, "Training"),
        ({"Accepted", "Reconciling"}, "Other", False, "Pending"),
        ({"Reconciling"}, "Training", False, "Training"),
        ({"Reconciling"}, "Pending", False, "Pending"),
        ({"Accepted", "Ready"}, "Committed", False, "Succeeded"),
        ({"Ready"}, "Committed", False, "Succeeded"),
        ({"Accepted", "Ready", "Stalled"}, "Stalled", False, "Failed"),
        ({"Accepted", "Suspended", "Stalled"}, "Suspended", False, "Suspended"),
        ({"Accepted", "Ready"}, "Committed", True, "Deleting"),
        (set(), "", False, "Pending"),
    ],
)
def test_the_phase_follows_from_the_conditions(holding: set[str], reason: str, deleting: bool, phase: str) -> None:
    found = {
        kind: Condition(kind, "True" if kind in holding else "False", reason if kind == "Reconciling" else "X")
        for kind in conditions.TASK_TYPES
    }
    assert conditions.phase(found, deleting=deleting) == phase


def test_the_same_event_has_the_same_key() -> None:
    event = Event("Stalled", "x\n y", warning=True)
    assert (event.message, event.type) == ("x y", "Warning")
    assert event.key("u") == Event("Stalled", "x y").key("u")
    assert event.key("u") != event.key("v")


@given(st.text(max_size=300), st.integers(4, 100))
def test_capped_texts_fit(text: str, limit: int) -> None:
    assert len(reading.capped(text, limit).encode()) <= limit


def test_settings_come_from_the_environment() -> None:
    found = read_settings(
        {
            "EVERGRAFT_IMAGE_CUDA": "ours/cuda:1",
            "EVERGRAFT_IMAGE_PULL_SECRETS": "a, b",
            "EVERGRAFT_POLICY": '{"imagePrefixes": ["ours/"], "maxDevices": 8}',
            "EVERGRAFT_DEFAULTS": '{"search": {"samples": 5000}, "workers": {"replicas": 2}}',
            "EVERGRAFT_WATCH_NAMESPACES": "vision, ml",
            "EVERGRAFT_NAMESPACE": "ops",
        }
    )
    assert (found.images.cuda, found.images.cpu, found.images.pull_secrets) == (
        "ours/cuda:1",
        f"evergraft/trainer:{__version__}-cpu",
        ("a", "b"),
    )
    assert (found.policy.image_prefixes, found.policy.max_devices) == (("ours/",), 8)
    assert found.defaults.search is not None
    assert (found.defaults.search.samples, found.namespaces, found.own_namespace) == (5000, ("vision", "ml"), "ops")
    assert read_settings({}) == Settings()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("EVERGRAFT_POLICY", "{", "EVERGRAFT_POLICY: not JSON"),
        ("EVERGRAFT_POLICY", "[]", "expected a JSON object"),
        ("EVERGRAFT_POLICY", '{"images": []}', "unknown field"),
        ("EVERGRAFT_POLICY", '{"imagePrefixes": "x"}', "imagePrefixes"),
        ("EVERGRAFT_POLICY", '{"maxDevices": true}', "maxDevices"),
        ("EVERGRAFT_POLICY", '{"serviceAccounts": []}', "leave it out to allow all"),
        ("EVERGRAFT_DEFAULTS", '{"search": {"sample": 1}}', "did you mean samples"),
        ("EVERGRAFT_DEFAULTS", '{"search": {"strategy": "grfat"}}', "EVERGRAFT_DEFAULTS.search.strategy"),
        ("EVERGRAFT_STEWARDS", '{"podTemplate": {"toleration": []}}', "did you mean tolerations"),
    ],
)
def test_wrong_settings_name_their_variable(name: str, value: str, told: str) -> None:
    with pytest.raises(SpecError, match=told) as caught:
        read_settings({name: value})
    assert name in str(caught.value)
