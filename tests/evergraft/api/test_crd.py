"""The CRDs: structural by Kubernetes' rules, equal to their files, and of one mind with the models.

What they accept and refuse stands in crd_cases.yaml, one change a case.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evergraft.api import crd
from evergraft.api.cel import BY_PATTERN, RULES
from evergraft.api.check import check
from evergraft.api.fields import QUANTITY
from evergraft.api.messages import dotted
from evergraft.api.reference import markdown
from evergraft.api.rules import cluster_problems, transition_problems
from evergraft.api.schema import DEFAULTS, KEYED, REQUIRED, SETS, UNKNOWN
from evergraft.testing.admission import Refusal, as_json_schema, refusals, schemas, stored

ROOT = Path(__file__).resolve().parents[3]
MANIFESTS = ROOT / "manifests" / "crds"
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


# --- Structural, by Kubernetes' rules.

KEYWORDS = {
    *("type", "description", "format", "pattern", "enum", "default", "required", "properties", "items"),
    *("additionalProperties", "anyOf", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"),
    *("maxProperties", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations"),
}
INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]


def unstructural(schema: Schema, path: str) -> list[str]:
    """What of a schema an API server does not take."""
    free = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    found = [f"{path}: {key}" for key in schema if key not in KEYWORDS]
    checks = {
        "no type": "type" in schema or bool(free),
        "a type beside int-or-string": not (schema.get("x-kubernetes-int-or-string") and "type" in schema),
        "an anyOf of its own": schema.get("anyOf", INT_OR_STRING) == INT_OR_STRING,
        "properties beside additionalProperties": not {"properties", "additionalProperties"} <= set(schema),
        "properties without an object": "properties" not in schema or schema["type"] == "object",
        "a list without items": schema.get("type") != "array" or "items" in schema,
        "a list of no kind": schema.get("type") != "array" or "x-kubernetes-list-type" in schema,
        "required, but unknown": set(schema.get("required", ())) <= set(schema.get("properties", {})),
        "a text without end": schema.get("type") != "string" or bool({"maxLength", "enum"} & set(schema)),
        "a wrong default": "default" not in schema or valid_default(schema),
        "a required key": schema.get("x-kubernetes-list-type") != "map" or keyed(schema),
        "a set of objects": schema.get("x-kubernetes-list-type") != "set" or schema["items"]["type"] == "string",
        "a pattern of another dialect": not re.search(r"\(\?|\\Z|\\A", schema.get("pattern", "")),
    }
    found += [f"{path}: {name}" for name, fine in checks.items() if not fine]
    for name, inner in schema.get("properties", {}).items():
        found += unstructural(inner, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            found += unstructural(schema[name], f"{path}.{name}")
    return found


def valid_default(schema: Schema) -> bool:
    return bool(jsonschema.Draft202012Validator(as_json_schema(schema)).is_valid(schema["default"]))


def keyed(schema: Schema) -> bool:
    keys = schema["x-kubernetes-list-map-keys"]
    return set(keys) <= set(schema["items"]["required"]) and set(keys) <= set(schema["items"]["properties"])


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.name)
def test_the_schema_is_structural(kind: crd.Kind) -> None:
    schema = crd.schema(kind)
    assert schema["properties"]["metadata"] == {"type": "object"}
    for part in ("spec", "status"):
        assert unstructural(schema["properties"][part], part) == []


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"$ref": "#/x", "type": "string", "maxLength": 1}, "$ref"),
        ({}, "no type"),
        ({"type": "string"}, "a text without end"),
        ({"type": "integer", "default": "1"}, "a wrong default"),
        ({"type": "array", "items": UNKNOWN}, "a list of no kind"),
        ({"type": "integer", "nullable": True}, "nullable"),
        ({"type": "object", "properties": {}, "required": ["a"]}, "required, but unknown"),
        ({"type": "object", "properties": {"a": {}}}, "no type"),
    ],
)
def test_the_search_for_what_is_not_structural_finds_it(schema: Schema, expected: str) -> None:
    assert [problem.endswith(f": {expected}") for problem in unstructural(schema, "spec")] == [True]


def described(schema: Schema, path: str) -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        if path or name in ("spec", "status"):
            keyed_item = inner.get("maxLength") == 1024 and "description" not in inner
            if not keyed_item and not str(inner.get("description", "")).endswith((".", ".)")):
                yield f"{path}.{name}"
        yield from described(inner, f"{path}.{name}")


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.name)
def test_every_field_explains_itself(kind: crd.Kind) -> None:
    assert list(described(crd.schema(kind), "")) == []


def test_every_table_entry_reaches_a_schema() -> None:
    text = str([crd.schema(kind) for kind in crd.KINDS])
    for name, rules in RULES.items():
        assert all(str(rule.to_json()) in text for rule in rules), name
    for names, mark in ((SETS, "'set'"), (KEYED, "'map'")):
        assert text.count(f"'x-kubernetes-list-type': {mark}") >= len(names)
    spec = schemas()["ModuleGraph"]["properties"]["spec"]
    assert set(REQUIRED["ModuleGraphSpec"]) <= set(spec["required"])
    graph_ref = schemas()["Task"]["properties"]["spec"]["properties"]["graphRef"]
    assert graph_ref["default"] == DEFAULTS["TaskSpec.graphRef"]
    assert QUANTITY in text.replace("\\\\", "\\")


# --- The files.


def test_the_files_are_what_is_rendered() -> None:
    rendered = crd.manifests()
    assert {path.name: path.read_text(encoding="utf-8") for path in MANIFESTS.iterdir()} == rendered
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == markdown()


def test_the_files_are_small_and_plain() -> None:
    for text in crd.manifests().values():
        assert len(text.encode()) < 256 << 10
        events = list(yaml.parse(text, Loader=yaml.SafeLoader))
        assert not any(isinstance(event, yaml.AliasEvent) for event in events)
        assert not any(getattr(event, "anchor", None) for event in events)


def test_the_files_can_be_written_anywhere(tmp_path: Path) -> None:
    crd.main([str(tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(crd.manifests())


# --- What shows.


def typed(kind: str, path: str) -> str:
    """The schema's type at a plain JSON path."""
    node: Any = schemas()[kind]
    for step in path.removeprefix(".").split("."):
        node = node["properties"][step]
    return str(node.get("format") if node.get("format") == "date-time" else node["type"])


def test_columns_show_what_the_schema_has() -> None:
    allowed = {"string": {"string"}, "integer": {"integer"}, "date": {"date-time"}}
    for kind in crd.KINDS:
        for column in kind.columns:
            if "[" not in column.path and ".metadata" not in column.path:
                assert typed(kind.name, column.path) in allowed[column.type], column
    shown = [column.name for column in crd.TASK.columns if not column.wide]
    assert shown == ["Phase", "Waiting", "Gen", "Score", "Parent", "Version", "Workers", "Age"]
    assert [column.name for column in crd.TASK.columns if column.wide] == ["Graph", "Run", "Attempt", "Lost"]


def test_a_task_scales_and_is_selected_by_what_the_schema_has() -> None:
    version = crd.definition(crd.TASK)["spec"]["versions"][0]
    scale = version["subresources"]["scale"]
    assert [typed("Task", scale[name]) for name in ("specReplicasPath", "statusReplicasPath")] == ["integer"] * 2
    assert typed("Task", scale["labelSelectorPath"]) == "string"
    assert [entry["jsonPath"] for entry in version["selectableFields"]] == [".spec.graphRef.name", ".status.phase"]
    assert [typed("Task", entry["jsonPath"]) for entry in version["selectableFields"]] == ["string", "string"]


def test_the_kinds_are_named_as_documented() -> None:
    names = [crd.definition(kind)["spec"]["names"] for kind in crd.KINDS]
    assert [(entry["kind"], entry["plural"], entry["shortNames"]) for entry in names] == [
        ("Task", "tasks", ["et"]),
        ("ModuleGraph", "modulegraphs", ["mg"]),
    ]
    assert {entry["categories"][0] for entry in names} == {"evergraft"}
