"""A steward's answer: at most 4,096 bytes whatever is asked, and what the operator reads in it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evergraft.names import RunKey
from evergraft.steward.answer import MAX_BYTES, Answer
from evergraft_operator import labels, report, stewards
from evergraft_operator.observed import Job, Pod
from evergraft_operator.stewards import Question
from evergraft_operator.testing.documents import pod_document

ROUTE = {
    "id": "ab" * 32,
    "version": 123456,
    "run": "i12-c3",
    "quality": 0.951234567890123,
    "score": 0.93123456789,
    "testQuality": None,
    "parentTask": "a-namespace/some-task",
    "parametersAdded": 1234567,
    "stoppedEarly": False,
}
HEAD = {"run": "i12-c3", "outcome": "committed", "taskHash": "cd" * 32, "route": ROUTE}
NEVER = {"run": None, "outcome": None, "taskHash": None, "route": None}


def read(answer: Answer, num_asked: int) -> tuple[Any, ...]:
    questions = [Question(uid=f"u{n}", task=f"t/{n}", run=RunKey(1, 1), attempt=n) for n in range(num_asked)]
    about = stewards.heads_errand(questions).about
    job = Job.read(
        {
            "metadata": {
                "name": "s",
                "uid": "s1",
                "labels": {labels.DUTY: "heads"},
                "annotations": {labels.QUESTION: json.dumps(about)},
            },
            "spec": {},
            "status": {"conditions": [{"type": "Complete", "status": "True"}]},
        }
    )
    pod = Pod.read(pod_document("s", job="s1", phase="Succeeded", message=answer.encode().decode()))
    return stewards.head_facts(job, (pod,))


def test_what_does_not_fit_is_left_for_the_next_time() -> None:
    answer = Answer("20 tasks were read", graph_id="9" * 32, heads=[HEAD] * 20)
    assert len(answer.encode()) <= MAX_BYTES
    facts = read(answer, 20)
    assert [fact.uid for fact in facts] == [f"u{n}" for n in range(len(facts))]
    assert len(facts) >= 12
    state = facts[0].state
    assert (str(state.run), state.outcome, state.task_hash) == ("i12-c3", "committed", "cd" * 8)
    assert state.route == report.route_report({**ROUTE, "quality": 0.951235, "score": 0.931235})


def test_tasks_that_head_never_heard_of_take_little() -> None:
    facts = read(Answer("", heads=[HEAD, None, *[NEVER] * 18]), 20)
    assert [fact.uid for fact in facts] == ["u0", *(f"u{n}" for n in range(2, 20))]
    assert all(fact.state.run is None for fact in facts[1:])


@given(st.text(max_size=3000), st.lists(st.sampled_from([HEAD, NEVER, None]), max_size=20), st.text(max_size=500))
def test_it_always_fits_and_is_read(reason: str, heads: list[Any], parent: str) -> None:
    named = [head and {**head, "route": head["route"] and {**ROUTE, "parentTask": parent}} for head in heads]
    totals = dict.fromkeys(("version", "tasks", "modules", "parameters", "bytes"), 2**53 - 1)
    data = Answer(reason, graph_id="9" * 32, graph=totals, heads=named).encode()
    assert len(data) <= MAX_BYTES
    told = report.document(data.decode())
    assert len(told["heads"]) == len(heads)
    assert reason.startswith(told["reason"])
    found = report.totals(told["graph"])
    assert found is not None
    assert found.bytes == 2**53 - 1
