"""The CRDs' form: structural by Kubernetes' rules, equal to their files, growing only, showing what they should."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from evergraft.api import crd
from evergraft.api.cel import RULES
from evergraft.api.evolution import narrowings
from evergraft.api.fields import QUANTITY
from evergraft.api.reference import markdown
from evergraft.api.schema import DEFAULTS, KEYED, REQUIRED, SETS, UNKNOWN
from evergraft.testing.admission import as_json_schema, schemas

ROOT = Path(__file__).resolve().parents[3]
MANIFESTS = ROOT / "manifests" / "crds"
Schema = Mapping[str, Any]


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
        "a bound that JSON rounds": all(abs(schema.get(key, 0)) < 2**53 for key in ("minimum", "maximum")),
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
        ({"type": "integer", "maximum": 2**63 - 1}, "a bound that JSON rounds"),
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
    assert {path.name: path.read_text(encoding="utf-8") for path in MANIFESTS.glob("*.evergraft.dev.yaml")} == rendered
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


# --- Growth.

TEXT: dict[str, Any] = {"type": "string", "maxLength": 8}
OBJECT: dict[str, Any] = {
    "type": "object",
    "required": ["a"],
    "properties": {
        "a": {**TEXT, "pattern": "^a"},
        "b": {"type": "string", "enum": ["X", "Y"]},
        "c": {"type": "integer", "minimum": 1, "maximum": 9},
        "d": {"type": "array", "items": TEXT, "x-kubernetes-list-type": "atomic", "maxItems": 3},
        "e": {"type": "object", "additionalProperties": UNKNOWN},
    },
    "x-kubernetes-validations": [{"rule": "self.a == 'a'", "message": "a"}],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """OBJECT with what is at a path set, None taking it out."""
    result = copy.deepcopy(OBJECT)
    *parents, last = path.split("/")
    node: Any = result
    for step in parents:
        node = node[step]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return result


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("required", ["a", "b"], "the object: newly requires b"),
        ("properties/b", None, "b: removed"),
        ("properties/a/maxLength", 7, "a: maxLength lowered to 7"),
        ("properties/a/pattern", "^b", "a: pattern changed from ^a to ^b"),
        ("properties/b/enum", ["X"], "b: no longer takes Y"),
        ("properties/a/enum", ["X"], "a: now takes only X"),
        ("properties/c/minimum", 2, "c: minimum raised to 2"),
        ("properties/c/type", "string", "c: type changed from integer to string"),
        ("properties/c/default", 2, "c: default changed from None to 2"),
        ("properties/d/items/maxLength", 7, "d[]: maxLength lowered to 7"),
        ("properties/d/maxItems", 2, "d: maxItems lowered to 2"),
        ("properties/d/x-kubernetes-list-type", "set", "d: x-kubernetes-list-type changed from atomic to set"),
        ("properties/e/additionalProperties", None, "e: additionalProperties removed"),
        ("properties/e/additionalProperties", TEXT, "e[]: type changed from None to string"),
        ("x-kubernetes-validations", [{"rule": "false", "message": "b"}], "the object: a new rule, false"),
        ("properties/f", TEXT, None),
        ("required", None, None),
        ("properties/a/pattern", None, None),
        ("properties/a/maxLength", 9, None),
        ("properties/b/enum", ["X", "Y", "Z"], None),
        ("properties/b/enum", None, None),
        ("properties/c/minimum", 0, None),
        ("x-kubernetes-validations", None, None),
    ],
)
def test_a_schema_only_grows(path: str, value: Any, expected: str | None) -> None:
    found = list(narrowings(OBJECT, changed(path, value)))
    assert found[:1] == ([expected] if expected else [])


def test_crds_that_would_take_less_are_not_written(tmp_path: Path) -> None:
    crd.main([str(tmp_path)])
    path = tmp_path / "tasks.evergraft.dev.yaml"
    path.write_text(path.read_text().replace("maximum: 1000\n", "maximum: 2000\n"))
    written = path.read_text()
    with pytest.raises(SystemExit, match=r"Task spec\.workers\.replicas: maximum lowered to 1000"):
        crd.main([str(tmp_path)])
    assert path.read_text() == written
    crd.main([str(tmp_path), "--narrow"])
    assert path.read_text() == crd.manifest(crd.TASK)


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
