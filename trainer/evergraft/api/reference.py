"""The reference of the API as Markdown, from the models' own descriptions.

``python -m evergraft.api.reference [FILE]`` writes ``docs/api.md``, as `make manifests` does; a change to a field
changes the page, so the two cannot disagree.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from evergraft.api.fields import EXPLAINED
from evergraft.api.ladders import HYPERPARAMETERS
from evergraft.api.messages import model_in
from evergraft.api.modulegraph import ModuleGraph
from evergraft.api.status import ModuleGraphStatus, TaskStatus
from evergraft.api.strategies import STRATEGIES
from evergraft.api.task import Task


def markdown() -> str:
    """Both kinds, their statuses, every object below them, and what each strategy accepts."""
    parts = ["# API reference", "Written by `evergraft.api.reference`; edit the models, not this page."]
    seen: set[type[BaseModel]] = set()
    for kind in (Task, TaskStatus, ModuleGraph, ModuleGraphStatus):
        for model in _models(kind, seen):
            parts += [f"## {model.__name__}", model.__doc__ or "", _table(model)]
    parts += ["## Strategies", "What `search.parameters` and `search.hyperparameters` hold, by `search.strategy`."]
    for entry in STRATEGIES.values():
        names = ", ".join(f"`{name}`" for name in entry.hyperparameters)
        parts += [f"### {entry.name}", entry.parameters.__doc__ or ""]
        parts += [_table(entry.parameters)] if entry.parameters.model_fields else []
        parts.append(f"Hyperparameters: {names}.")
    rows = [f"| `{name}` | {kind.allowed} |" for name, kind in HYPERPARAMETERS.items()]
    parts += ["### Hyperparameters", "\n".join(["| name | values |", "| --- | --- |", *rows])]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Write the page into the file named first, by default that of this repository, from its root."""
    Path(arguments[0] if arguments else "docs/api.md").write_text(markdown(), encoding="utf-8")


def _models(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    if model in seen:
        return
    seen.add(model)
    yield model
    for field in model.model_fields.values():
        inner = model_in(field.annotation)
        if inner is not None:
            yield from _models(inner, seen)


def _table(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    rows = ["| field | type | default | |", "| --- | --- | --- | --- |"]
    for name, entry in schema["properties"].items():
        default = "required" if name in schema.get("required", ()) else _default(entry)
        text = " ".join(str(entry.get("description", "")).split()).replace("|", "\\|")
        rows.append(f"| `{name}` | {_type(entry)} | {default} | {text} |")
    return "\n".join(rows)


def _default(entry: dict[str, Any]) -> str:
    value = entry.get("default")
    if value is None or value == []:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(entry: dict[str, Any]) -> str:
    options = [option for option in entry.get("anyOf", [entry]) if option.get("type") != "null"]
    return " or ".join(_one_type(option) for option in options)


def _one_type(entry: dict[str, Any]) -> str:
    if "$ref" in entry:
        name = str(entry["$ref"]).rsplit("/", maxsplit=1)[-1]
        return f"[{name}](#{name.lower()})"
    if "enum" in entry or "const" in entry:
        return ", ".join(f"`{value}`" for value in entry.get("enum", [entry.get("const")]))
    if entry.get("pattern") in EXPLAINED:
        return EXPLAINED[entry["pattern"]]
    if entry.get("type") == "array":
        return f"list of {_type(entry.get('items', {}))}"
    bounds = [f"{word} {entry[key]:,}" for word, key in (("from", "minimum"), ("to", "maximum")) if key in entry]
    return " ".join([str(entry.get("type", "any")), *bounds])


if __name__ == "__main__":
    main(sys.argv[1:])
