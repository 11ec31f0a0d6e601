"""The folder of one running search: every document in it has one reader and one writer here.

Layout and rules are in docs/concepts.md. Everything but states and weights is create-only: the first write stands,
so a worker that comes second takes over what the first one decided. What would be too large to be read again is not
written: DataError. Called by the engine and the trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evergraft import names
from evergraft.errors import IntegrityError
from evergraft.graph.route import reading
from evergraft.search.values import SlotRef, SlotResult
from evergraft.store import documents
from evergraft.store.info import get_named
from evergraft.store.seam import Store
from evergraft.store.searches import MAX_BYTES, get_json, put_json_if_absent

MAX_MANIFEST_BYTES = 1 << 30
"""Of ``data.json``, inflated. A dataset of one file an image takes some 185 bytes an image: six million."""

MAX_DIGITS = 10
"""Claims are numbered by less."""


@dataclass(frozen=True)
class Folder:
    """The folder of search `search` in `store`."""

    store: Store
    search: str

    def open(self, header: Mapping[str, Any]) -> dict[str, Any]:
        """Write ``search.json`` unless it exists; returns the one that stands."""
        return put_json_if_absent(self.store, names.search_key(self.search, "search.json"), dict(header))

    def header(self) -> dict[str, Any] | None:
        """``search.json``, None before the search was opened."""
        return get_json(self.store, names.search_key(self.search, "search.json"), what="search.json")

    def manifest(self) -> dict[str, Any] | None:
        """``data.json``, None before a worker has checked the data."""
        key = names.search_key(self.search, "data.json")
        return get_json(self.store, key, what="data.json", max_bytes=MAX_MANIFEST_BYTES, deflated=True)

    def pin(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Write ``data.json`` unless it exists, deflated if it is large; returns the one that stands."""
        key = names.search_key(self.search, "data.json")
        return put_json_if_absent(self.store, key, dict(manifest), max_bytes=MAX_MANIFEST_BYTES, deflated=True)

    def stop(self) -> dict[str, Any] | None:
        """``stop.json``, None unless the search was stopped before its end."""
        return get_json(self.store, names.search_key(self.search, "stop.json"), what="stop.json")

    def put_stop(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Write ``stop.json`` unless it exists; returns the one that stands."""
        return put_json_if_absent(self.store, names.search_key(self.search, "stop.json"), dict(value))

    def plan(self, generation: int) -> dict[str, Any] | None:
        """The recorded plan of a generation, None if it was never reached."""
        key = names.plan_key(self.search, generation)
        return get_json(self.store, key, what=key)

    def put_plan(self, generation: int, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Write a generation's plan unless it exists; returns the document that stands."""
        key = names.plan_key(self.search, generation)
        return put_json_if_absent(self.store, key, {"plan": dict(plan)})

    def result_key(self, ref: SlotRef) -> str:
        """Where the result of a slot is, for messages about it."""
        return self._slot(ref, "result.json")

    def result(self, ref: SlotRef) -> SlotResult | None:
        """The result of a slot, None while it has none."""
        key = self.result_key(ref)
        value = get_json(self.store, key, what=key)
        if value is None:
            return None
        with reading(key):
            result = SlotResult.from_json(value)
        if SlotRef(result.generation, result.slot) != ref:
            raise IntegrityError(f"{key}: is the result of slot {result.generation}-{result.slot}")
        return result

    def put_result(self, ref: SlotRef, result: SlotResult) -> SlotResult:
        """Write a slot's result unless it has one; returns the one that stands."""
        key = self.result_key(ref)
        value = put_json_if_absent(self.store, key, result.to_json())
        with reading(key):
            return SlotResult.from_json(value)

    def state(self, ref: SlotRef, claim: int) -> dict[str, Any] | None:
        """The newest saved state of a claim on a slot, None before its first validation."""
        key = self._slot(ref, f"state-{claim}.json")
        return get_json(self.store, key, what=key)

    def listed(self, place: str, kind: str) -> list[int]:
        """The numbers of the objects ``<kind>-<number>.json`` of a slot, ascending."""
        start = names.search_key(self.search, f"{place}/{kind}-")
        found = (entry.key.removeprefix(start).removesuffix(".json") for entry in self.store.list(start))
        return sorted(int(number) for number in found if number.isdecimal() and len(number) < MAX_DIGITS)

    def put_state(self, ref: SlotRef, claim: int, state: bytes) -> None:
        """Overwrite the saved state of a claim; raises DataError if it is larger than its readers take."""
        key = self._slot(ref, f"state-{claim}.json")
        self.store.put(key, documents.check_size(state, what=key, max_bytes=MAX_BYTES))

    def object(self, ref: SlotRef, name: str) -> bytes:
        """The bytes of a slot's object, such as a bundle of weights; IntegrityError if it is gone."""
        if "/" in name or name.startswith("."):
            raise IntegrityError(f"searches/{self.search}: {name!r} is no object of a slot")
        advice = "put it back, or search anew with a higher iteration"
        return get_named(self.store, self._slot(ref, name), advice=advice)

    def put_object(self, ref: SlotRef, name: str, data: bytes) -> None:
        """Write or overwrite a slot's object."""
        self.store.put(self._slot(ref, name), data)

    def final(self) -> dict[str, Any] | None:
        """The document that closes the search, None before a winner is concluded."""
        return get_json(self.store, names.final_key(self.search), what="final result")

    def put_final(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Write the closing document unless it exists; returns the one that stands."""
        return put_json_if_absent(self.store, names.final_key(self.search), dict(value))

    def _slot(self, ref: SlotRef, name: str) -> str:
        return names.slot_key(self.search, ref.generation, ref.slot, name)
