"""All Tasks, ModuleGraphs, Jobs and pods of ours by uid, as new as anything that was seen of them.

What watches, lists and the answers to our own writes bring goes through `see`; an older version never replaces a newer
one, and what is gone stays gone, however late an answer comes. Objects are kept trimmed and packed: ten thousand Tasks
take a few tens of MiB. Filled by the handlers, the relisting and the applier; read by the observer.
"""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evergraft_operator import reading
from evergraft_operator.facts import READERS, Facts
from evergraft_operator.trimming import trim

Fields = dict[str, Any]

MAX_GONE = 20_000
"""How many vanished uids are remembered, so that a late answer brings none back."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object. `version` orders what is seen of it."""

    kind: str
    uid: str
    namespace: str
    name: str
    version: int
    facts: Facts
    packed: bytes

    def document(self) -> Fields:
        """The object, trimmed."""
        value: Fields = json.loads(zlib.decompress(self.packed))
        return value


@dataclass(frozen=True, slots=True)
class Change:
    """What seeing an object changed: None before for a new one, None after for one that is gone.

    `ousted` is the end of who had its name before: a name is given anew only once its holder is gone.
    """

    before: Entry | None
    after: Entry | None
    ousted: Change | None = None

    @property
    def entry(self) -> Entry:
        """The object, as it is or was."""
        found = self.after or self.before
        assert found is not None
        return found


class Cache:
    """The objects, and what finds them."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._names: dict[tuple[str, str, str], str] = {}
        self._rows: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._gone: OrderedDict[str, None] = OrderedDict()

    def see(self, kind: str, document: Mapping[str, Any]) -> Change | None:
        """Take in an object as it was seen somewhere; None if that is nothing new."""
        meta = reading.mapping(document, "metadata")
        uid, version = str(meta.get("uid", "")), version_of(meta.get("resourceVersion"))
        before = self._entries.get(uid)
        if not uid or uid in self._gone or (before is not None and version <= before.version):
            return None
        kept = trim(kind, document)
        after = Entry(
            kind=kind,
            uid=uid,
            namespace=str(meta.get("namespace", "")),
            name=str(meta.get("name", "")),
            version=version,
            facts=READERS[kind](kept),
            packed=zlib.compress(json.dumps(kept, separators=(",", ":")).encode("utf-8", "replace"), 1),
        )
        namesake = self._names.get((kind, after.namespace, after.name))
        ousted = self.lose(namesake) if namesake not in (None, uid) else None
        self._put(before, after)
        return Change(before, after, ousted)

    def lose(self, uid: str) -> Change | None:
        """Take note that an object is gone; None if that is known."""
        self._gone[uid] = None
        while len(self._gone) > MAX_GONE:
            self._gone.popitem(last=False)
        before = self._entries.pop(uid, None)
        if before is None:
            return None
        self._unlink(before)
        if self._names.get((before.kind, before.namespace, before.name)) == uid:
            del self._names[before.kind, before.namespace, before.name]
        return Change(before, None)

    def get(self, uid: str) -> Entry | None:
        """The object with that uid."""
        return self._entries.get(uid)

    def is_gone(self, uid: str) -> bool:
        """Whether the object was here and is gone."""
        return uid in self._gone

    def doubt(self, uid: str) -> None:
        """Forget that an object is gone: it was listed again long after."""
        self._gone.pop(uid, None)

    def named(self, kind: str, namespace: str, name: str) -> Entry | None:
        """The object of that name."""
        uid = self._names.get((kind, namespace, name))
        return None if uid is None else self._entries.get(uid)

    def found(self, index: str, value: str) -> list[Entry]:
        """The objects under `value` in an index, in a lasting order."""
        return [self._entries[uid] for uid in sorted(self._rows.get((index, value), ()))]

    def each(self, kind: str) -> Iterator[Entry]:
        """Every object of a kind; the cache may change meanwhile."""
        return (entry for entry in list(self._entries.values()) if entry.kind == kind)

    def __len__(self) -> int:
        return len(self._entries)

    def _put(self, before: Entry | None, after: Entry) -> None:
        if before is not None:
            self._unlink(before)
        self._entries[after.uid] = after
        self._names[after.kind, after.namespace, after.name] = after.uid
        for row in after.facts.rows():
            self._rows[row].add(after.uid)

    def _unlink(self, entry: Entry) -> None:
        for row in entry.facts.rows():
            uids = self._rows.get(row)
            if uids is not None:
                uids.discard(entry.uid)
                if not uids:
                    del self._rows[row]


def version_of(value: Any) -> int:
    """A resource version as the number it is; versions of one kind are ordered like their numbers."""
    text = str(value or "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 40 else 0
