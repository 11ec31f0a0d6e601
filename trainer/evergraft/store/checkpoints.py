"""Checkpoints: the folded graph at some versions, so that nobody folds the log from its beginning.

A checkpoint is a manifest that names content-addressed shards; shards that did not change since the one before are
named again, so it costs what changed. Create-only, like everything but hints. Called by the log, which writes one
now and then, and by history, which starts from the newest that is whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from evergraft import canonical, names
from evergraft.errors import IntegrityError, NotFoundError, StoreUnavailableError
from evergraft.graph.route import content_id, reading
from evergraft.graph.state import NUM_SHARDS, Graph, Shard, TaskState, shard_of
from evergraft.store import documents, parallel
from evergraft.store.seam import Lost, Store, Unknown

EVERY = 64
"""Commits between two checkpoints."""

_doubted: set[tuple[str, int]] = set()
"""URL and version of checkpoints that this process could not read: shards of theirs are not named again."""

_DIGITS = f"{names.CHECKPOINTS}0"
"""Every manifest's key begins so, and no shard's: versions stay far below 10^19."""


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint names: shard ids by number (None: empty), `gc` the shard of condemned and deleted ids.

    `head` is the SHA-256 of the commit at `version`.
    """

    version: int
    head: str
    shards: tuple[str | None, ...]
    gc: str | None

    def encode(self) -> bytes:
        """The canonical bytes; equal graphs give equal manifests."""
        value = {"version": self.version, "head": self.head, "shards": list(self.shards), "gc": self.gc}
        return canonical.dumps({"format": canonical.FORMAT, **value})

    @classmethod
    def from_json(cls, value: Any) -> Manifest:
        """Read a stored manifest.

        Raises:
            IntegrityError: a field is missing or wrong.
        """
        with reading("checkpoint"):
            found = cls(
                version=int(value["version"]),
                head=content_id(value["head"]),
                shards=tuple(_optional_id(item) for item in value["shards"]),
                gc=_optional_id(value["gc"]),
            )
        if len(found.shards) != NUM_SHARDS:
            raise IntegrityError(f"checkpoint {found.version}: {len(found.shards)} shards where there must be 256")
        return found


def list_checkpoints(store: Store) -> list[int]:
    """The versions that have a checkpoint, newest first."""
    sizes = len(names.checkpoint_key(0))
    keys = [entry.key for entry in store.list(_DIGITS) if len(entry.key) == sizes]
    digits = (key.removeprefix(names.CHECKPOINTS).removesuffix(".json") for key in keys)
    return sorted((int(text) for text in digits if text.isdecimal()), reverse=True)


def read_manifest(store: Store, version: int) -> Manifest:
    """The manifest at `version`, checked against the commit of that version, which it must be a fold of.

    Raises:
        NotFoundError: there is none.
        IntegrityError: damaged, or of another log.
        FormatError: written by a newer format.
    """
    keys = (names.checkpoint_key(version), names.log_key(version))
    data, commit = parallel.each(store.get, keys)
    manifest = Manifest.from_json(documents.decode(data, what=f"checkpoint {version}"))
    if manifest.version != version or manifest.head != canonical.sha256(commit):
        raise IntegrityError(f"checkpoint {version}: it does not belong to the commit of that version")
    return manifest


def load_checkpoint(store: Store, version: int, *, only: Collection[int] | None = None) -> Graph:
    """The graph at `version`; with `only`, just the shards of those numbers (the others are left empty).

    Raises:
        NotFoundError: there is none, or a shard of it is absent.
        IntegrityError: it or a shard of it is damaged.
        FormatError: written by a newer format.
    """
    manifest = read_manifest(store, version)
    wanted = range(NUM_SHARDS) if only is None else sorted(only)
    present = [(number, shard) for number in wanted if (shard := manifest.shards[number]) is not None]
    loaded = dict(parallel.each(lambda item: (item[0], load_shard(store, *item)), present))
    empty: Shard = {}
    condemned, swept = load_gc(store, manifest.gc) if only is None else (frozenset(), {})
    return Graph(
        version=version,
        head=manifest.head,
        shards=tuple(loaded.get(number, empty) for number in range(NUM_SHARDS)),
        condemned=condemned,
        swept=swept,
        checkpoint=version,
    )


def doubt(store: Store, version: int) -> None:
    """Note that the checkpoint, or a shard that it names, is damaged or lost."""
    _doubted.add((store.url, version))


def write_if_due(store: Store, graph: Graph) -> Graph:
    """Write a checkpoint of `graph` if its version is one that gets one.

    Every 65th version does, whoever lands it, so that of many writers one writes it and the others go on. Should it
    die, the next in turn makes up for it. The graph is returned with `checkpoint` set to the newest known.
    """
    turn = (graph.version + 1) % (EVERY + 1) == 0
    enough = EVERY // 2 if turn else EVERY  # fewer only where a checkpoint was made out of turn
    if graph.version - graph.checkpoint <= enough:
        return graph
    newest = next((version for version in list_checkpoints(store) if version <= graph.version), -1)
    graph = replace(graph, checkpoint=max(newest, graph.checkpoint))
    return write_checkpoint(store, graph) if turn and graph.version - graph.checkpoint > enough else graph


def write_checkpoint(store: Store, graph: Graph) -> Graph:
    """Write the checkpoint of `graph`, naming again the shards that did not change since `graph.checkpoint`.

    The graph is returned with `checkpoint` set to its version.
    """
    head = graph.head
    assert head is not None
    before = _manifest_before(store, graph.checkpoint)
    encoded = {
        number: _encode_shard(shard)
        for number, shard in enumerate(graph.shards)
        if shard and (before is None or _touched(shard, since=before.version))
    }
    gc = _encode_gc(graph) if graph.condemned or graph.swept else None
    known = {shard for shard in (*before.shards, before.gc) if shard} if before else set()
    ids = dict(zip(encoded, parallel.each(lambda data: _put_shard(store, data, known), encoded.values()), strict=True))
    unchanged = before.shards if before else (None,) * NUM_SHARDS
    manifest = Manifest(
        version=graph.version,
        head=head,
        shards=tuple(ids.get(number, unchanged[number]) for number in range(NUM_SHARDS)),
        gc=_put_shard(store, gc, known) if gc else None,
    )
    _create(store, names.checkpoint_key(graph.version), manifest.encode())
    return replace(graph, checkpoint=graph.version)


def _put_shard(store: Store, data: bytes, known: Collection[str]) -> str:
    """Make sure a shard is in the store, unless it is `known` to be; its id.

    Where damaged bytes have taken its name, the same shard in other bytes gets another: deflated anew, less well.
    """
    shard_id = canonical.sha256(data)
    if shard_id in known or _create(store, names.shard_key(shard_id), data) == data:
        return shard_id
    other = documents.deflate(documents.inflate(data, what="shard"), level=documents.FASTEST)
    other_id = canonical.sha256(other)
    if _create(store, names.shard_key(other_id), other) == other:
        return other_id
    raise IntegrityError(f"{store.url}/{names.shard_key(shard_id)}: holds other bytes than its name says; remove it")


def _manifest_before(store: Store, version: int) -> Manifest | None:
    """The manifest to take unchanged shards from; None when there is none that can be read, or that ever could be."""
    if version < 0 or (store.url, version) in _doubted:
        return None
    try:
        return read_manifest(store, version)
    except (NotFoundError, IntegrityError):
        return None


def _touched(shard: Shard, *, since: int) -> bool:
    """Whether a commit after `since` changed a task of the shard. Tasks are never taken out, only changed."""
    return any(state.version > since for state in shard.values())


def _encode_shard(shard: Shard) -> bytes:
    tasks = {task: state.to_json() for task, state in shard.items()}
    # Routes share most of their layers, so their ids repeat: a tenth of the bytes remain.
    return documents.deflate(documents.encode({"format": canonical.FORMAT, "tasks": tasks}, what="checkpoint shard"))


def load_shard(store: Store, number: int, shard_id: str) -> Shard:
    """The shard of that id, digest checked; it must hold tasks of shard `number`. Raises as `load_checkpoint`."""
    value = _load(store, shard_id)
    with reading(f"checkpoint shard {shard_id[:12]}…"):
        shard = {str(task): TaskState.from_json(state) for task, state in value["tasks"].items()}
    if any(shard_of(task) != number for task in shard):
        raise IntegrityError(f"checkpoint shard {shard_id[:12]}…: it holds tasks of another shard than {number}")
    return shard


def _encode_gc(graph: Graph) -> bytes:
    value = {"condemned": sorted(graph.condemned), "swept": dict(graph.swept)}
    return documents.encode({"format": canonical.FORMAT, **value}, what="checkpoint shard of gc")


def load_gc(store: Store, shard_id: str | None) -> tuple[frozenset[str], Mapping[str, int]]:
    """Condemned ids, and deleted ids with the version that said so. Raises as `load_checkpoint`."""
    if shard_id is None:
        return frozenset(), {}
    value = _load(store, shard_id)
    with reading(f"checkpoint shard {shard_id[:12]}…"):
        return frozenset(map(str, value["condemned"])), {str(key): int(at) for key, at in value["swept"].items()}


def _load(store: Store, shard_id: str) -> dict[str, Any]:
    data = store.get(names.shard_key(shard_id))
    if canonical.sha256(data) != shard_id:
        raise IntegrityError(f"checkpoint shard {shard_id[:12]}…: its bytes have another digest")
    what = f"checkpoint shard {shard_id[:12]}…"
    return documents.decode(documents.inflate(data, what=what), what=what)


def _create(store: Store, key: str, data: bytes) -> bytes:
    """Write unless it exists; the bytes that stand."""
    outcome = store.put_if_absent(key, data)
    if isinstance(outcome, Unknown):
        raise StoreUnavailableError(f"{store.url}: {key}: {outcome.reason}")
    return outcome.data if isinstance(outcome, Lost) else data


def _optional_id(value: Any) -> str | None:
    return None if value is None else content_id(value)
