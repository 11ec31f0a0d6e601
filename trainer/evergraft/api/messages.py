"""From what pydantic found wrong to sentences that a person can act on.

A `Problem` is a field's path and a sentence: what was wrong, what is allowed, the likely meaning of a typing error.
Called by ``api.check`` for documents and by ``api.strategies`` for a strategy's own parameters.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from evergraft.api.fields import ENDPOINT, EXPLAINED
from evergraft.api.ladders import shown

Path = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Problem:
    """Something wrong at a field. The empty path is the document itself."""

    path: Path
    message: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message


def dotted(path: Path) -> str:
    """A path as people write it: ``spec.after[0]``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """The likely meaning of `word`, else all that is allowed."""
    names = list(allowed)
    lowered = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    if near:
        return f"did you mean {lowered[near[0]]}?"
    return "allowed: " + ", ".join(names) if names else "nothing is allowed here"


def validate(model: type[M], value: Any, path: Path = ()) -> tuple[M | None, tuple[Problem, ...]]:
    """`value` as a `model`, or what is wrong with it, each path under `path`."""
    try:
        return model.model_validate(value), ()
    except ValidationError as error:
        details = error.errors(include_url=False)
    # A list's length is counted without its broken items, so that finding would be an echo.
    broken = {item["loc"] for item in details}
    echoes = {loc for loc in broken if any(other[: len(loc)] == loc and other != loc for other in broken)}
    kept = [item for item in details if item["loc"] not in echoes or item["type"] != "too_short"]
    return None, tuple(_problem(model, item, path) for item in kept)


def _problem(model: type[BaseModel], item: ErrorDetails, path: Path) -> Problem:
    loc = tuple(step for step in item["loc"] if step != "[key]")
    if item["type"] == "extra_forbidden":
        owner = model_at(model, loc[:-1])
        hint = did_you_mean(str(loc[-1]), field_names(owner) if owner else ())
        return Problem(path + loc, f"unknown field; {hint}")
    return Problem(path + loc, _sentence(item))


def field_names(model: type[BaseModel]) -> tuple[str, ...]:
    """The fields of a model as they are written."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def model_at(model: type[BaseModel], loc: Path) -> type[BaseModel] | None:
    """The model of the object at `loc` inside `model`; None where the object is free-form."""
    current: type[BaseModel] | None = model
    for step in loc:
        if isinstance(step, int):
            continue
        if current is None:
            return None
        fields = {field.alias or name: field for name, field in current.model_fields.items()}
        current = model_in(fields[step].annotation) if step in fields else None
    return current


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside a field's annotation, such as that of a list's items; None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := model_in(arg))), None)


_EXPECTED: Mapping[str, str] = {
    "int_type": "an integer",
    "bool_type": "true or false",
    "string_type": "a string",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}

_LIMITS: Mapping[str, str] = {
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "too_long": "too many items; at most {max_length}",
    "too_short": "too few items; at least {min_length}",
}


def _sentence(item: ErrorDetails) -> str:
    kind, ctx, value = item["type"], item.get("ctx", {}), item["input"]
    if kind == "missing":
        return "required, but missing"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, got {_described(value)}"
    if kind in _LIMITS:
        got = f", got {value}" if isinstance(value, int) else ""
        return _LIMITS[kind].format(**ctx) + got
    if kind == "string_pattern_mismatch":
        expected = f"expected {EXPLAINED.get(ctx['pattern'], ctx['pattern'])}"
        # An address may carry a password, which must not reach a log.
        return expected if ctx["pattern"] == ENDPOINT else f"{shown(value)} is not allowed; {expected}"
    if kind == "literal_error":
        return _not_among(value, re.findall(r"'([^']*)'", ctx["expected"]))
    return str(item["msg"])


def _not_among(value: Any, allowed: list[str]) -> str:
    names = ", ".join(allowed)
    if not isinstance(value, str):
        return f"expected one of {names}, got {_described(value)}"
    hint = did_you_mean(value, allowed)
    meant = f"{hint} " if hint.startswith("did") and len(allowed) > 1 else ""
    return f"{shown(value)} is not allowed; {meant}allowed: {names}"


def _described(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    kinds = {bool: "", int: "the number ", float: "the number ", str: "the string ", type(None): ""}
    return kinds.get(type(value), "") + shown(value)
