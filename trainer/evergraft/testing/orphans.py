"""Objects of a graph that nothing names: what a storm without kills must not leave, and gc would collect.

Reads raw objects, as the invariants do. Called by tests and benchmarks.
"""

from __future__ import annotations

import json
from typing import Any

from evergraft import names
from evergraft.store.seam import Store


def orphans(store: Store) -> list[str]:
    """Keys of modules, routes and checkpoint shards that no commit and no checkpoint names, and of what is no key.

    Searches and optimiser state are left out: they may expire.
    """
    present = [entry.key for entry in store.list("")]
    named = {names.GRAPH, names.HINT, *(key for key in present if names.log_version(key) is not None)}
    for key in list(named - {names.GRAPH, names.HINT}):
        for action in _read(store, key)["actions"]:
            named |= _of_action(action)
    for key in present:
        if key.startswith(names.CHECKPOINTS) and "/shards/" not in key:
            manifest = _read(store, key)
            named |= {key, *(names.shard_key(shard) for shard in [*manifest["shards"], manifest["gc"]] if shard)}
    return [key for key in present if key not in named and not key.startswith((names.SEARCHES, "optimizer/"))]


def _of_action(action: dict[str, Any]) -> set[str]:
    match action["type"]:
        case "addModules":
            return {names.module_key(module) for module in action["modules"]}
        case "putRoute":
            return {names.route_key(action["route"]["id"])}
        case _:
            return set()


def _read(store: Store, key: str) -> dict[str, Any]:
    value = json.loads(store.get(key))
    assert isinstance(value, dict)
    return value
