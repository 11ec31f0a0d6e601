"""What an API server does to an object of one of our kinds, without one: prune, default, validate, CEL.

For tests of the CRDs and of whatever writes such objects. Patterns, bounds and types are checked by jsonschema, the
rules by a CEL implementation other than Kubernetes' own; the same cases go to a real API server in the cluster tests.
Needs the extra `testing`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from evergraft.api import crd

try:
    import jsonschema
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_strings
except ImportError:
    raise ImportError(
        'evergraft.testing.admission needs jsonschema and CEL; install them with: pip install "evergraft[testing]"'
    ) from None

Schema = Mapping[str, Any]

_ABSENT = object()
_ENVIRONMENT = cel.NewEnv(
    variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN}, extensions=[ext_strings.ExtStrings()]
)


@dataclass(frozen=True)
class Refusal:
    """One reason to refuse: the field, as the server writes it, and the sentence; `rule` is the CEL rule, if one."""

    field: str
    message: str
    rule: str = ""

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


@cache
def schemas() -> Mapping[str, Schema]:
    """The structural schema of each kind."""
    return {kind.name: crd.schema(kind) for kind in crd.KINDS}


def stored(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object as a server stores it: nulls dropped, defaults set. Unknown fields are left for `refusals`."""
    result = copy.deepcopy(dict(value))
    _default(result, schemas()[result["kind"]])
    return result


def refusals(new: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> tuple[Refusal, ...]:
    """Why a server refuses to create `new`, or to make `old` into it; nothing if it does not.

    Unknown fields are refused, as `kubectl apply` asks for.
    """
    schema = schemas()[new["kind"]]
    after, before = stored(new), _ABSENT if old is None else stored(old)
    return (*_malformed(after, schema), *_broken(after, before, schema, ""))


def _default(value: Any, schema: Schema) -> None:
    if isinstance(value, list):
        for item in value:
            _default(item, schema.get("items", {}))
    if not isinstance(value, dict):
        return
    properties = schema.get("properties", {})
    for name in [name for name, item in value.items() if item is None and name in properties]:
        del value[name]
    for name, inner in properties.items():
        if name not in value and "default" in inner:
            value[name] = copy.deepcopy(inner["default"])
    for name, item in value.items():
        _default(item, properties.get(name, schema.get("additionalProperties", {})))


def _malformed(value: Mapping[str, Any], schema: Schema) -> Iterator[Refusal]:
    validator = jsonschema.Draft202012Validator(as_json_schema(schema, root=True))
    for error in sorted(validator.iter_errors(value), key=lambda item: item.json_path):
        path = error.json_path.removeprefix("$").removeprefix(".")
        if error.validator == "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            # jsonschema tells of each missing field by itself.
            yield from (Refusal(f"{path}.{name}", "Required value") for name in missing if repr(name) in error.message)
        elif error.validator == "additionalProperties":
            unknown = set(error.instance) - set(error.schema["properties"])
            yield from (Refusal(f"{path}.{name}", "unknown field") for name in sorted(unknown))
        else:
            yield Refusal(path, error.message)


def as_json_schema(schema: Schema, *, root: bool = False) -> dict[str, Any]:
    """A structural schema as plain JSON Schema: no unknown fields, and `$` at the very end only."""
    result = {key: item for key, item in schema.items() if not key.startswith("x-kubernetes-") and key != "format"}
    if "pattern" in result:
        result["pattern"] = re.sub(r"\$$", r"\\Z", result["pattern"])
    if "properties" in result:
        result["properties"] = {
            name: {"type": "object"} if root and name == "metadata" else as_json_schema(item)
            for name, item in result["properties"].items()
        }
        result["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    elif "additionalProperties" in result:
        result["additionalProperties"] = as_json_schema(result["additionalProperties"])
    if "items" in result:
        result["items"] = as_json_schema(result["items"])
    return result


def _broken(new: Any, old: Any, schema: Schema, path: str) -> Iterator[Refusal]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] or old is not _ABSENT:
            yield from _judged(rule, new, old, path)
    if isinstance(new, dict):
        for name, item in new.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if inner is not None:
                before = old.get(name, _ABSENT) if isinstance(old, dict) else _ABSENT
                yield from _broken(item, before, inner, f"{path}.{name}")
    if isinstance(new, list):
        yield from _repeated(new, schema, path)
        for index, item in enumerate(new):
            # Items have an old self only in lists by key, where we have no rules.
            yield from _broken(item, _ABSENT, schema.get("items", {}), f"{path}[{index}]")


def _repeated(items: list[Any], schema: Schema, path: str) -> Iterator[Refusal]:
    keys = schema.get("x-kubernetes-list-map-keys", ())
    if schema.get("x-kubernetes-list-type") not in ("map", "set"):
        return
    seen: list[Any] = []
    for index, item in enumerate(items):
        name = {key: item.get(key) for key in keys} if isinstance(item, dict) else item
        if name in seen:
            yield Refusal(f"{path}[{index}]".removeprefix("."), "Duplicate value")
        seen.append(name)


def _judged(rule: Mapping[str, str], new: Any, old: Any, path: str) -> Iterator[Refusal]:
    data = {"self": new, "oldSelf": None if old is _ABSENT else old}
    verdict = _evaluated(rule["rule"], data)
    if verdict is True:
        return
    message = rule["message"] + ("" if verdict is False else f" (not evaluated: {verdict})")
    yield Refusal((path + rule.get("fieldPath", "")).removeprefix("."), message, rule["rule"])


@cache
def _compiled(expression: str) -> Any:
    return _ENVIRONMENT.compile(expression)


def _evaluated(expression: str, data: Mapping[str, Any]) -> Any:
    return _compiled(expression).eval(data=dict(data)).value()
