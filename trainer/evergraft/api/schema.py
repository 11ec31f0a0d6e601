"""From a pydantic model to a structural schema, as Kubernetes asks of a CRD.

Structural: every value has a type, nothing is referred to, nothing is said twice. What JSON Schema and Kubernetes
say differently is translated here: null (left out), quantities (string or whole number), free-form values. Called by
``api.crd``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from evergraft.api.cel import BY_PATTERN, RULES, TOLD_AS_RULE, Rule
from evergraft.api.fields import EXPLAINED, QUANTITY

Schema = dict[str, Any]

UNKNOWN: Schema = {"x-kubernetes-preserve-unknown-fields": True}
"""Any value. As the values of a map it still takes part in CEL's `==`, key by key; an object that merely preserves
unknown fields compares equal to one with the same number of other keys."""

SETS = ("TaskSpec.after",)
"""Lists that several field owners may add to."""

KEYED: Mapping[str, str] = {
    "PodTemplate.env": "name",
    "PodTemplate.imagePullSecrets": "name",
    "PodTemplate.volumeMounts": "mountPath",
    "PodTemplate.volumes": "name",
    "ModuleGraphStatus.conditions": "type",
    "TaskStatus.conditions": "type",
}
"""Lists whose items several field owners may add to, by the field that names an item. All other lists are one value."""

DEFAULTS: Mapping[str, Any] = {"TaskSpec.graphRef": {"name": "default"}, "Root.config": {}}
"""Defaults that the models make anew each time."""

REQUIRED: Mapping[str, tuple[str, ...]] = {"ModuleGraphSpec": ("store",)}
"""What only a cluster requires."""

_KEPT = ("maxLength", "minLength", "maximum", "minimum", "maxItems", "minItems", "maxProperties", "enum", "format")


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of objects of `model`, CEL rules included.

    Raises:
        ValueError: the model says something that no structural schema can.
    """
    document = model.model_json_schema()
    return _Renderer(document.pop("$defs", {})).object(document)


class _Renderer:
    """Renders one document; `definitions` are its named objects."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def object(self, entry: Mapping[str, Any]) -> Schema:
        name = entry["title"]
        properties = {
            field: self.field(value, f"{name}.{field}") for field, value in entry.get("properties", {}).items()
        }
        result: Schema = {"type": "object", "description": _prose(entry.get("description", ""))}
        required = [*entry.get("required", ()), *REQUIRED.get(name, ())]
        if required:
            result["required"] = sorted(required)
        result["properties"] = properties
        return _ruled(result, RULES.get(name, ()))

    def field(self, entry: Mapping[str, Any], place: str) -> Schema:
        """One field, known as Model.field."""
        option = _not_null(entry)
        result = self.value(option, place)
        words = _prose(entry.get("description", "") or result.get("description", ""))
        form = EXPLAINED.get(option.get("pattern", ""))
        ordered: Schema = {"description": f"{words} Form: {form}." if form else words} if words else {}
        ordered.update((key, value) for key, value in result.items() if key != "description")
        default = DEFAULTS.get(place, entry.get("default"))
        if default is not None and default != []:
            ordered["default"] = default
        return _ruled(ordered, RULES.get(place, ()))

    def value(self, entry: Mapping[str, Any], place: str) -> Schema:
        """What may stand in one place, without its description."""
        if "$ref" in entry:
            return self.object(self._definitions[entry["$ref"].rsplit("/", maxsplit=1)[-1]])
        if entry.get("pattern") == QUANTITY:
            return _quantity(entry)
        if "anyOf" in entry or entry == UNKNOWN or "type" not in entry:
            # A structural schema cannot say "one of several types"; the models refuse the rest.
            return dict(UNKNOWN)
        if entry["type"] == "array":
            return self._list(entry, place)
        if entry["type"] == "object":
            return {"type": "object", **_bounds(entry), "additionalProperties": self._values(entry, place)}
        return _scalar(entry, place)

    def _values(self, entry: Mapping[str, Any], place: str) -> Schema:
        values = entry.get("additionalProperties", True)
        return dict(UNKNOWN) if values is True else self.value(values, place)

    def _list(self, entry: Mapping[str, Any], place: str) -> Schema:
        result: Schema = {"type": "array", **_bounds(entry), "items": self.value(entry["items"], place)}
        if place in KEYED:
            key = KEYED[place]
            if "properties" not in result["items"]:
                named = {key: {"type": "string", "minLength": 1, "maxLength": 1024}}
                result["items"] = {"type": "object", "required": [key], "properties": named, **UNKNOWN}
            return {**result, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
        return {**result, "x-kubernetes-list-type": "set" if place in SETS else "atomic"}


def _scalar(entry: Mapping[str, Any], place: str) -> Schema:
    if entry["type"] not in ("string", "integer", "boolean"):
        raise ValueError(f"{place}: a structural schema here has no {entry['type']}")
    result: Schema = {"type": entry["type"], **_bounds(entry)}
    if entry["type"] == "integer":
        result["format"] = "int32" if entry.get("maximum", 2**63) < 2**31 else "int64"
    if "const" in entry:
        result["enum"] = [entry["const"]]
    pattern = entry.get("pattern", "")
    if pattern and pattern not in TOLD_AS_RULE:
        result["pattern"] = pattern
    return _ruled(result, [BY_PATTERN[pattern]] if pattern in BY_PATTERN else [])


def _bounds(entry: Mapping[str, Any]) -> Schema:
    return {key: entry[key] for key in _KEPT if key in entry}


def _quantity(entry: Mapping[str, Any]) -> Schema:
    return {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "maxLength": entry["maxLength"],
        "minimum": 0,
        "pattern": entry["pattern"],
        "x-kubernetes-int-or-string": True,
    }


def _ruled(schema: Schema, rules: Sequence[Rule]) -> Schema:
    if rules:
        schema["x-kubernetes-validations"] = [
            *schema.get("x-kubernetes-validations", ()),
            *(rule.to_json() for rule in rules),
        ]
    return schema


def _not_null(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    options = [option for option in entry.get("anyOf", ()) if option != {"type": "null"}]
    return options[0] if len(options) == 1 else entry


def _prose(description: str) -> str:
    return " ".join(description.split())
