"""What of a schema's change could make an object that a cluster stores invalid.

CRDs change by addition only. Called when the CRDs are written (``api.crd``), with what the files hold as the old
schema, so that a narrowing is noticed when it is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_CEILINGS = ("maximum", "maxLength", "maxItems", "maxProperties")
_FLOORS = ("minimum", "minLength", "minItems")
_KEPT = (
    *("type", "format", "pattern", "anyOf", "default"),
    *("x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
)
_PARTS = ("items", "additionalProperties")


def narrowings(old: Schema, new: Schema, path: str = "") -> Iterator[str]:
    """Each way in which `new` takes less than `old`, or takes it for something else, as `field: what`."""
    where = path.removeprefix(".") or "the object"
    yield from (f"{where}: {words}" for words in _own(old, new))
    free = bool(new.get("x-kubernetes-preserve-unknown-fields"))
    for name, inner in old.get("properties", {}).items():
        if name in new.get("properties", {}):
            yield from narrowings(inner, new["properties"][name], f"{path}.{name}")
        elif not free:
            yield f"{path}.{name}: removed".removeprefix(".")
    for part in _PARTS:
        if part in old and part in new:
            yield from narrowings(old[part], new[part], f"{path}[]")
        elif part in old and not free:
            yield f"{where}: {part} removed"


def _own(old: Schema, new: Schema) -> Iterator[str]:
    for key in _KEPT:
        # A pattern or format that falls away takes more than before.
        if old.get(key) != new.get(key) and not (key in ("pattern", "format") and key not in new):
            yield f"{key} changed from {old.get(key)} to {new.get(key)}"
    for key in _CEILINGS:
        if new.get(key, float("inf")) < old.get(key, float("inf")):
            yield f"{key} lowered to {new[key]}"
    for key in _FLOORS:
        if new.get(key, float("-inf")) > old.get(key, float("-inf")):
            yield f"{key} raised to {new[key]}"
    if old.get("x-kubernetes-preserve-unknown-fields") and not new.get("x-kubernetes-preserve-unknown-fields"):
        yield "no longer free"
    yield from (f"newly requires {name}" for name in _added(old, new, "required"))
    if "enum" in new:
        gone = [value for value in old.get("enum", ()) if value not in new["enum"]]
        yield from (f"no longer takes {value}" for value in gone)
        if "enum" not in old:
            yield "now takes only " + ", ".join(map(str, new["enum"]))
    before = [rule["rule"] for rule in old.get("x-kubernetes-validations", ())]
    rules = [rule["rule"] for rule in new.get("x-kubernetes-validations", ())]
    yield from (f"a new rule, {rule}" for rule in rules if rule not in before)


def _added(old: Schema, new: Schema, key: str) -> list[str]:
    return [item for item in new.get(key, ()) if item not in old.get(key, ())]
