"""Statuses: what the schema takes, how large one can get, and what an older operator does with a newer one."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from evergraft.api.status import Condition, ModuleGraphStatus, TaskStatus, to_json
from evergraft.testing.admission import as_json_schema, schemas

NOW = "2026-01-02T03:04:05Z"
TASK: dict[str, Any] = {
    "observedGeneration": 7,
    "phase": "Training",
    "waiting": "GPU quota: ClusterQueue gpu needs 4, has 1 (Kueue)",
    "progress": "2/4",
    "score": "0.9312",
    "search": {
        "id": "a" * 64,
        "runKey": "i1-c1",
        "outcome": "committed",
        "attempt": 2,
        "specHash": "sha256:" + "a" * 64,
        "baseVersion": 41,
        "image": "evergraft/trainer@sha256:" + "a" * 64,
        "jobName": "cifar10-9f3c21ab",
        "startTime": NOW,
        "generation": 2,
        "generations": 4,
        "candidatesDone": 13,
        "candidates": 32,
        "bestScore": "0.9312",
        "lastProgressTime": NOW,
    },
    "route": {
        "id": "a" * 64,
        "version": 42,
        "runKey": "i1-c1",
        "quality": "0.95",
        "score": "0.93",
        "testQuality": "0.94",
        "parentTask": "vision/svhn",
        "parametersAdded": 812345,
        "stoppedEarly": False,
        "committedTime": NOW,
    },
    "workers": {"desired": 4, "active": 3, "ready": 3, "selector": "evergraft.dev/task-uid=" + "a" * 36},
    "failures": {"Preempted": 3, "NodeLost": 1},
    "acceleratorSeconds": {"useful": 41230, "lost": 912},
    "conditions": [
        {"type": name, "status": "True", "observedGeneration": 7, "lastTransitionTime": NOW, "reason": "Waiting"}
        for name in ("Accepted", "Scheduled", "Ready", "Reconciling", "Stalled", "Suspended")
    ],
}
GRAPH: dict[str, Any] = {
    "observedGeneration": 1,
    "graphID": "a" * 32,
    "version": 42,
    "tasks": 12,
    "modules": 200,
    "parameters": 10**9,
    "bytes": 2**40,
    "lastVerifyTime": NOW,
    "lastCollectionTime": NOW,
    "conditions": [{"type": "Verified", "status": "True", "lastTransitionTime": NOW, "reason": "Verified"}],
}


def server_takes(kind: str, status: dict[str, Any]) -> bool:
    schema = as_json_schema(schemas()[kind]["properties"]["status"])
    return bool(jsonschema.Draft202012Validator(schema).is_valid(status))


def test_a_whole_status_goes_through_the_models_unchanged() -> None:
    for kind, model, value in (("Task", TaskStatus, TASK), ("ModuleGraph", ModuleGraphStatus, GRAPH)):
        written = to_json(model.model_validate(value))
        for condition in written["conditions"]:
            assert condition.pop("message") == ""
        assert written == value
        assert server_takes(kind, to_json(model.model_validate(value)))


def test_the_whole_status_leaves_no_field_out() -> None:
    schema = schemas()["Task"]["properties"]["status"]["properties"]
    assert set(TASK) == set(schema)
    assert all(set(TASK[name]) == set(schema[name]["properties"]) for name in ("search", "route", "workers"))
    assert set(GRAPH) == set(schemas()["ModuleGraph"]["properties"]["status"]["properties"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("phase", "Thinking"),
        ("waiting", "x" * 513),
        ("score", 0.9),
        ("failures", {f"Reason{number}": 1 for number in range(33)}),
        ("conditions", [{**TASK["conditions"][0], "type": f"Type{chr(65 + number)}"} for number in range(9)]),
        ("observedGeneration", -1),
    ],
)
def test_models_and_schema_refuse_what_would_grow_or_mislead(field: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        TaskStatus.model_validate({**TASK, field: value})
    assert not server_takes("Task", {**TASK, field: value})


def test_the_largest_status_fits_8_kib() -> None:
    condition = {**TASK["conditions"][0], "reason": "R" * 63, "message": "m" * 512}
    largest = {
        **TASK,
        "waiting": "w" * 512,
        "conditions": [{**condition, "type": entry["type"]} for entry in TASK["conditions"]],
        "failures": {f"ReasonNumber{number}": 2**53 - 1 for number in range(32)},
        "search": {**TASK["search"], "image": "i" * 512},
        "workers": {**TASK["workers"], "selector": "s" * 512},
    }
    assert server_takes("Task", largest)
    assert len(json.dumps(to_json(TaskStatus.model_validate(largest)))) <= 8192


def test_what_a_newer_operator_wrote_is_passed_over() -> None:
    newer = {**TASK, "mood": "good", "search": {**TASK["search"], "speed": 3}}
    assert TaskStatus.model_validate(newer) == TaskStatus.model_validate(TASK)


def test_a_condition_needs_its_reason_and_time() -> None:
    for field in ("reason", "lastTransitionTime"):
        with pytest.raises(ValidationError, match=field):
            Condition.model_validate({key: item for key, item in TASK["conditions"][0].items() if key != field})
