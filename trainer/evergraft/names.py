"""Every object key, run key and derived name: built and parsed here only.

Called by the store, the search and the command line; nothing else spells a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from evergraft import canonical

GRAPH = "graph.json"
HINT = "hint.json"
LOG = "log/"
CHECKPOINTS = "checkpoints/"
MODULES = "modules/"
ROUTES = "routes/"
OPTIMIZER = "optimizer/"
SEARCHES = "searches/"

ROOT_TASK = "root"
"""The task id that holds the root route. Task ids of users always contain a slash, so it cannot collide."""

_LOG_KEY = re.compile(r"log/(\d{20})\.json")
_PASSING = re.compile(r"searches/[^/]+/[^/]+/(claim|beat)-\d+\.json")
_SEARCH_ID = re.compile(r"[0-9a-f]{32}")
_RUN_KEY = re.compile(r"i([1-9]\d{0,8})-c([1-9]\d{0,8})")


@dataclass(frozen=True, order=True)
class RunKey:
    """One run of one task: ordered by iteration, then cycle. Written ``i<iteration>-c<cycle>``."""

    iteration: int
    cycle: int

    def __str__(self) -> str:
        return f"i{self.iteration}-c{self.cycle}"

    @classmethod
    def parse(cls, text: str) -> RunKey:
        """Read ``i1-c1``.

        Raises:
            ValueError: the text is not a run key.
        """
        match = _RUN_KEY.fullmatch(text)
        if match is None:
            raise ValueError(f"not a run key: {text!r}")
        return cls(iteration=int(match[1]), cycle=int(match[2]))


def is_id(text: str) -> bool:
    """Whether `text` has the form of a content id: 64 hex digits."""
    try:
        return len(text) == 64 and bytes.fromhex(text).hex() == text  # four times as fast as a pattern
    except ValueError:
        return False


def log_key(version: int) -> str:
    """The key of the commit that made `version`."""
    return f"{LOG}{version:020d}.json"


def log_version(key: str) -> int | None:
    """The version a log key names, or None if it is not a log key."""
    match = _LOG_KEY.fullmatch(key)
    return int(match[1]) if match else None


def checkpoint_key(version: int) -> str:
    """The key of the checkpoint manifest at `version`."""
    return f"{CHECKPOINTS}{version:020d}.json"


def shard_key(shard_id: str) -> str:
    """The key of a checkpoint shard, by its content id."""
    return f"{CHECKPOINTS}shards/{shard_id[:2]}/{shard_id}.json"


def module_key(module_id: str) -> str:
    """The key of a module's weights."""
    return f"{MODULES}{module_id[:2]}/{module_id}.safetensors"


def route_key(route_id: str) -> str:
    """The key of a route document."""
    return f"{ROUTES}{route_id[:2]}/{route_id}.json"


def optimizer_key(route_id: str) -> str:
    """The key of the optimiser state kept with a route."""
    return f"{OPTIMIZER}{route_id[:2]}/{route_id}.safetensors"


def blob_id(key: str) -> str | None:
    """The content id that the key of a module, route or optimiser state names, or None if it is no such key."""
    name = key.rpartition("/")[2].partition(".")[0]
    if is_id(name) and key in (module_key(name), route_key(name), optimizer_key(name)):
        return name
    return None


def search_id(task: str, run: RunKey) -> str:
    """The id of the search of `task` at `run`: the first 32 hex digits of a digest over both."""
    return canonical.digest([task, str(run)])[:32]


def is_search_id(text: str) -> bool:
    """Whether `text` has the form of a search's id."""
    return _SEARCH_ID.fullmatch(text) is not None


def search_key(search: str, name: str) -> str:
    """The key of an object in a search's folder, such as ``search.json``."""
    return f"{SEARCHES}{search}/{name}"


FINAL = "final"
"""The place in a search's folder where its end is claimed and written."""


def slot_place(generation: int, slot: int) -> str:
    """The folder of a slot within its search's."""
    return f"{generation:04d}-{slot:04d}"


def slot_key(search: str, generation: int, slot: int, name: str) -> str:
    """The key of an object of one slot, such as ``result.json``."""
    return f"{SEARCHES}{search}/{slot_place(generation, slot)}/{name}"


def plan_key(search: str, generation: int) -> str:
    """The key of the recorded plan of a generation."""
    return search_key(search, f"plan-{generation:04d}.json")


def is_passing(key: str) -> bool:
    """Whether an object says only what goes on now: a hint, a claim on a slot, its beat."""
    return key == HINT or _PASSING.fullmatch(key) is not None


def final_key(search: str) -> str:
    """The key of the create-only document that a search's closing commit copies."""
    return f"{SEARCHES}{search}/{FINAL}/result.json"
