"""What the CRDs accept and refuse, one change a case in crd_cases.yaml, and that the models come to the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evergraft.api.cel import BY_PATTERN, RULES
from evergraft.api.check import check
from evergraft.api.messages import dotted
from evergraft.api.rules import cluster_problems, transition_problems
from evergraft.testing.admission import Refusal, refusals, schemas, stored

CASES: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "crd_cases.yaml").read_text())
Schema = Mapping[str, Any]


def document(kind: str, fields: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The base object of a kind with fields set, None taking one out; None for no object."""
    if fields is None:
        return None
    result: dict[str, Any] = copy.deepcopy(CASES["base"][kind])
    for path, value in fields.items():
        *parents, last = path.split(".")
        node = result
        for step in parents:
            node = node.setdefault(step, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = copy.deepcopy(value)
    return result


@cache
def judged(index: int) -> tuple[Refusal, ...]:
    case = CASES["cases"][index]
    new = document(case["kind"], case["new"])
    assert new is not None
    return refusals(new, document(case["kind"], case.get("old")))


def told(case: Mapping[str, Any]) -> str:
    change = f"{case['old']} to {case['new']}" if "old" in case else str(case["new"])
    return f"{case['kind']} {change}"[:120]


@pytest.mark.parametrize("index", range(len(CASES["cases"])), ids=[told(case) for case in CASES["cases"]])
def test_what_is_accepted_and_what_is_refused(index: int) -> None:
    expected: dict[str, str] = CASES["cases"][index].get("refused", {})
    found = judged(index)
    assert {refusal.field for refusal in found} == set(expected), found
    for field, part in expected.items():
        assert any(part in refusal.message for refusal in found if refusal.field == field), found


def test_every_case_starts_from_a_valid_object() -> None:
    for case in CASES["cases"]:
        old = document(case["kind"], case.get("old"))
        assert old is None or refusals(old) == ()


def placed_rules(schema: Schema, path: str = "") -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path, rule["rule"]
    for name, inner in schema.get("properties", {}).items():
        yield from placed_rules(inner, f"{path}.{name}")


def test_every_rule_refuses_something_and_is_passed_by_something() -> None:
    rules = {rule for schema in schemas().values() for _, rule in placed_rules(schema)}
    refusing = {refusal.rule for index in range(len(CASES["cases"])) for refusal in judged(index)} - {""}
    assert refusing == rules
    passing = [document(case["kind"], case["new"]) for case in CASES["cases"] if "refused" not in case]
    reached = {rule for value in passing if value for rule in reaching(value, schemas()[value["kind"]])}
    assert reached == rules


def reaching(value: Any, schema: Schema) -> Iterator[str]:
    """The rules at fields that a value has."""
    yield from (rule["rule"] for rule in schema.get("x-kubernetes-validations", ()))
    for name, inner in schema.get("properties", {}).items():
        if isinstance(value, dict) and name in value:
            yield from reaching(value[name], inner)


def test_no_message_repeats_a_secret() -> None:
    for index, case in enumerate(CASES["cases"]):
        if "hunter2" in str(case):
            assert judged(index)
            assert all(refusal.rule for refusal in judged(index))
    for rule in (*RULES["Dataset.url"], *RULES["Weights.url"], *BY_PATTERN.values()):
        if "self.matches('^" in rule.rule:
            assert rule.reason == "FieldValueForbidden"


# --- Of one mind with the models.


def model_refuses(new: dict[str, Any], old: dict[str, Any] | None) -> list[str]:
    value, problems = check(new)
    if value is None:
        return [str(problem) for problem in problems]
    problems += cluster_problems(value)
    if old is not None:
        before, none = check(old)
        assert before is not None
        assert none == ()
        problems += transition_problems(before, value)
    return [f"{dotted(problem.path)}: {problem.message}" for problem in problems]


BOTH = [index for index, case in enumerate(CASES["cases"]) if case.get("only") != "server"]


@pytest.mark.parametrize("index", BOTH, ids=[told(CASES["cases"][index]) for index in BOTH])
def test_the_models_come_to_the_same_verdict(index: int) -> None:
    case = CASES["cases"][index]
    new = document(case["kind"], case["new"])
    assert new is not None
    assert bool(model_refuses(new, document(case["kind"], case.get("old")))) == bool(case.get("refused"))


CHANGES: dict[str, list[tuple[str, list[Any]]]] = {
    "Task": [
        ("spec.graphRef", [None, {}, {"name": "default"}, {"name": "other"}, {"namespace": "ml"}]),
        ("spec.taskID", [None, "vision/cifar10", "a/b"]),
        ("spec.iteration", [None, 1, 2, 3]),
        ("spec.visibility", [None, "Public", "Private"]),
        ("spec.metric", [None, "Accuracy", "Top5"]),
        ("spec.suspend", [None, True]),
        ("spec.after", [None, [], ["a/c"], ["a/b"]]),
        (
            "spec.dataset",
            [
                {"url": "gs://a/b"},
                {"url": "gs://a/b", "format": "Auto"},
                {"url": "s3://a/b", "endpoint": "https://e"},
                {"url": "s3://a/b", "endpoint": "https://e", "secretRef": {"name": "s"}},
                {"url": "file:///a/b"},
                {"url": "gs://a/b", "maxBadFraction": "2"},
                {"persistentVolumeClaim": {"claimName": "c"}},
                {"persistentVolumeClaim": {"claimName": "c", "path": ".."}},
                {},
            ],
        ),
        ("spec.search", [None, {}, {"samples": 1}, {"samples": 2}, {"dropout": "1"}, {"scoring": {}}, {"seed": 0}]),
        ("spec.timeouts", [None, {}, {"search": "0s"}, {"search": "1h"}]),
        ("spec.workers", [None, {"replicas": 3}, {"accelerator": {}}, {"accelerator": {"type": "TPU"}}]),
    ],
    "ModuleGraph": [
        (
            "spec.store",
            [
                None,
                {"url": "gs://a/b"},
                {"url": "gs://a/b", "secretRef": {"name": "s"}},
                {"url": "s3://a/b"},
                {"url": "/a/b"},
                {"persistentVolumeClaim": {"claimName": "c"}},
                {"persistentVolumeClaim": {"claimName": "d"}},
            ],
        ),
        (
            "spec.root",
            [
                {"backbone": "vit", "seed": 0},
                {"backbone": "vit", "config": {}, "seed": 0},
                {"backbone": "vit", "config": {"width": 8}, "seed": 0},
                {"backbone": "vit", "config": {"depth": 8}, "seed": 0},
                {"backbone": "vit", "weights": {"url": "https://h/w", "sha256": "a" * 64}},
                {"backbone": "vit", "weights": {"url": "memory://w", "sha256": "a" * 64}},
                {"backbone": "vit"},
            ],
        ),
        ("spec.allowedNamespaces", [None, {}, {"from": "All"}, {"from": "Selector"}, {"selector": {}}]),
        ("spec.maintenance", [None, {"gracePeriod": "24h"}, {"gracePeriod": "0m"}]),
    ],
}


def changes(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """Fields of a kind's base object to set."""
    options = {path: st.sampled_from(values) for path, values in CHANGES[kind]}
    return st.fixed_dictionaries({}, optional=options)


@pytest.mark.parametrize("kind", ["Task", "ModuleGraph"])
def test_models_and_crds_agree_on_any_change(kind: str) -> None:
    @given(changes(kind), changes(kind))
    def agree(before: dict[str, Any], after: dict[str, Any]) -> None:
        old, new = document(kind, before), document(kind, after)
        assert old is not None
        assert new is not None
        found = refusals(old)
        assert bool(model_refuses(old, None)) == bool(found), found
        if not found:
            found = refusals(new, old)
            assert bool(model_refuses(new, old)) == bool(found), found

    agree()


@pytest.mark.parametrize("kind", ["Task", "ModuleGraph"])
@pytest.mark.parametrize("other", range(3))
def test_models_and_crds_agree_on_every_single_change(kind: str, other: int) -> None:
    for path, values in CHANGES[kind]:
        old = document(kind, {path: values[min(other, len(values) - 1)]})
        assert old is not None
        for value in values:
            new = document(kind, {path: value})
            assert new is not None
            if not refusals(old):
                assert bool(model_refuses(new, old)) == bool(refusals(new, old)), (path, value)


TEXTS: dict[str, tuple[tuple[str, ...], str]] = {
    "spec.dataset.url": (("", "gs://", "s3://b", "https://", "file:///"), "ab/:@?#[].~é \n"),
    "spec.dataset.endpoint": (("https://", "http://h", "ftp://"), "ab/:@?#[].\n "),
    "spec.dataset.maxBadFraction": (("", "0", "1", "0."), "0159.eE-+"),
    "spec.dataset.splits": (("", "all", "all[", "all[5%:"), "a[]:%015"),
    "spec.search.dropout": (("", "0", "1"), "0159.eE-+"),
    "spec.search.scoring": (("", "0", "1"), "0159.eE-+"),
    "spec.timeouts": (("", "0", "1h"), "019.hms"),
    "spec.taskID": (("", "a/", "a/b"), "aA0-_./\n"),
    "spec.workers.shmSize": (("", "1", "-"), "0159.kKMGi"),
}
"""Texts by what they begin with and what follows."""

PLACES: dict[str, str] = {"spec.dataset.splits": "train", "spec.search.scoring": "sizeDecay", "spec.timeouts": "start"}


@pytest.mark.parametrize("path", TEXTS)
def test_models_and_crds_agree_on_any_text(path: str) -> None:
    starts, letters = TEXTS[path]

    @given(st.sampled_from(starts), st.text(letters, max_size=6))
    def agree(start: str, rest: str) -> None:
        value: Any = start + rest
        if path in PLACES:
            value = {**({"validation": "v"} if path == "spec.dataset.splits" else {}), PLACES[path]: value}
        new = document("Task", {path: value})
        assert new is not None
        found = refusals(new)
        assert bool(model_refuses(new, None)) == bool(found), found

    agree()


def test_the_whole_documents_are_valid(full_task: str, full_graph: str) -> None:
    for text in (full_task, full_graph):
        value = yaml.safe_load(text)
        del value["status"]
        assert refusals(value) == ()


def test_defaults_are_set_where_no_layer_may_differ() -> None:
    bare = document("Task", {"spec": {"dataset": {"url": "gs://a/b"}, "search": {}, "workers": {"accelerator": {}}}})
    assert bare is not None
    assert stored(bare)["spec"] == {
        "graphRef": {"name": "default"},
        "iteration": 1,
        "suspend": False,
        "visibility": "Public",
        "deletionPolicy": "Retain",
        "metric": "Accuracy",
        "dataset": {"url": "gs://a/b", "format": "Auto"},
        "search": {},
        "workers": {"accelerator": {"type": "CPU", "count": 1}},
    }


OWN_TO_MODELS: list[tuple[str, Any]] = [
    ("spec.search.strategy", "mu2ent"),
    ("spec.search.parameters", {"generation": 3}),
    ("spec.search.hyperparameters", [{"name": "learningRate", "start": "fast"}]),
    ("spec.search.hyperparameters", [{"name": "learningRate", "start": 0.1}]),
    ("spec.after", ["vision/cifar10"]),
]
"""What no schema can say, so that the server accepts it and the operator answers with `Accepted` False."""


@pytest.mark.parametrize(("path", "value"), OWN_TO_MODELS)
def test_what_only_the_operator_can_refuse(path: str, value: Any) -> None:
    new = document("Task", {path: value})
    assert new is not None
    assert refusals(new) == ()
    assert len(model_refuses(new, None)) == 1
