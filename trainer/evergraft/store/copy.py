"""Copy a whole graph to another store: blobs by content, the log in order, then checkpoints. Create-only, resumable.

Blobs come before the commits that name them, and commits one after another, so what is at the other end when a copy
is cut off is the graph at an earlier version, less what gc has deleted since. Searches at work
are not copied: they belong to the graph that they will commit to. Called by `graph copy`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evergraft import canonical, names
from evergraft.errors import ConflictError, IntegrityError, NotFoundError, StoreUnavailableError, UserError
from evergraft.graph.module import decode
from evergraft.store import parallel
from evergraft.store.checkpoints import list_checkpoints, read_manifest
from evergraft.store.gcfacts import BLOBS
from evergraft.store.history import read_graph
from evergraft.store.info import decode_info, read_info
from evergraft.store.seam import Entry, Landed, Lost, Store
from evergraft.store.verify import verify

CHUNK = 64
Progress = Callable[[str, int, int], None]
"""Told what is copied (blobs, commits, checkpoints), how many are done, and of how many."""


@dataclass(frozen=True)
class Copied:
    """What was written. `damaged` are blobs of the source that are not what their name says: they were left out."""

    graph: str
    version: int
    blobs: int
    commits: int
    checkpoints: int
    bytes: int
    damaged: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "graph": self.graph,
            "version": self.version,
            "blobs": self.blobs,
            "commits": self.commits,
            "checkpoints": self.checkpoints,
            "bytes": self.bytes,
            "damaged": list(self.damaged),
        }


def copy_graph(source: Store, target: Store, *, progress: Progress | None = None) -> Copied:
    """Copy the graph at `source`, as it is now, to `target`, and verify it there.

    Going on after a cut is the same call.

    Raises:
        NotAGraphError: there is no graph at `source`.
        ConflictError: `target` holds another graph, or this one with a history of its own.
        IntegrityError: the copy does not verify; the message says what is wrong.
        StoreError: a store did not answer; run again.
    """
    if source.url == target.url:
        raise UserError(f"copy: {source.url} is given twice; name another place to copy to")
    tell = progress or _silent
    head = read_graph(source)
    _same_graph(source, target)
    blobs, size, damaged = _copy_blobs(source, target, tell)
    commits = _copy_log(source, target, head.version, tell)
    checkpoints = _copy_checkpoints(source, target, head.version, tell)
    _verify(target)
    return Copied(
        graph=read_info(target).graph,
        version=head.version,
        blobs=blobs,
        commits=commits,
        checkpoints=checkpoints,
        bytes=size,
        damaged=damaged,
    )


def _same_graph(source: Store, target: Store) -> None:
    """graph.json, byte for byte; what else is at `target` was begun by an earlier copy, or is refused."""
    ours = source.get(names.GRAPH)
    standing = _create(target, names.GRAPH, ours)
    if standing is not None:
        there = decode_info(standing, url=target.url).graph
        raise ConflictError(f"{target.url}: another graph is here ({there[:12]}…); copy to an empty place")


def _copy_blobs(source: Store, target: Store, tell: Progress) -> tuple[int, int, tuple[str, ...]]:
    """Blobs that `target` lacks, or holds at another size; (number, bytes, damaged keys)."""
    wanted = [entry for prefix in BLOBS for entry in source.list(prefix) if names.blob_id(entry.key)]
    present = {entry.key: entry.size for prefix in BLOBS for entry in target.list(prefix)}
    missing = [entry for entry in wanted if present.get(entry.key) != entry.size]
    done = size = 0
    damaged: list[str] = []
    for start in range(0, len(missing), CHUNK):
        chunk = missing[start : start + CHUNK]
        for entry, written in zip(chunk, parallel.each(lambda e: _copy_blob(source, target, e), chunk), strict=True):
            done += written is not None and written >= 0
            size += max(0, written or 0)
            damaged += [entry.key] if written == -1 else []
        tell("blobs", len(wanted) - len(missing) + start + len(chunk), len(wanted))
    return done, size, tuple(damaged)


def _copy_blob(source: Store, target: Store, entry: Entry) -> int | None:
    """Bytes copied; None if gc was faster, -1 if the source's bytes are damaged."""
    try:
        data = source.get(entry.key)
    except NotFoundError:
        return None
    if not _is_whole(entry.key, data):
        return -1
    standing = _create(target, entry.key, data)
    # Equal content may have another header; whether what stands is whole is for verify to say.
    return len(data) if standing is None else 0


def _is_whole(key: str, data: bytes) -> bool:
    """Whether the bytes are what their name says; an optimiser state's name says nothing of its bytes."""
    if key.startswith(names.OPTIMIZER):
        return True
    if key.startswith(names.ROUTES):
        return canonical.sha256(data) == names.blob_id(key)
    try:
        decode(data, expected_id=names.blob_id(key))
    except IntegrityError:
        return False
    return True


def _copy_log(source: Store, target: Store, head: int, tell: Progress) -> int:
    """Commits that `target` lacks, in order; how many."""
    present = {entry.key for entry in target.list(names.LOG)}
    first = next((version for version in range(head + 1) if names.log_key(version) not in present), head + 1)
    if first > 0:  # each commit names the one before by digest, so the last of them stands for all
        _agree(
            target, first - 1, ours=source.get(names.log_key(first - 1)), standing=target.get(names.log_key(first - 1))
        )
    for version in range(first, head + 1):
        data = source.get(names.log_key(version))
        standing = _create(target, names.log_key(version), data)
        if standing is not None:
            _agree(target, version, ours=data, standing=standing)
        if version % CHUNK == 0 or version == head:
            tell("commits", version + 1, head + 1)
    return head + 1 - first


def _agree(target: Store, version: int, *, ours: bytes, standing: bytes) -> None:
    if ours != standing:
        raise ConflictError(
            f"{target.url}: the graph here has gone its own way by version {version}; copy to an empty place"
        )


def _copy_checkpoints(source: Store, target: Store, head: int, tell: Progress) -> int:
    """Checkpoints that `target` lacks: shards first, then what names them. Damaged ones are left out: readers can."""
    present = set(list_checkpoints(target))
    missing = [version for version in list_checkpoints(source) if version <= head and version not in present]
    shards = {entry.key for entry in target.list(f"{names.CHECKPOINTS}shards/")}
    done = 0
    for version in missing:
        try:
            manifest = read_manifest(source, version)
            wanted = {names.shard_key(shard) for shard in (*manifest.shards, manifest.gc) if shard} - shards
            parallel.each(lambda key: _create(target, key, _shard(source, key)), wanted)
            shards |= wanted
            _create(target, names.checkpoint_key(version), source.get(names.checkpoint_key(version)))
        except (IntegrityError, NotFoundError):
            continue
        done += 1
        tell("checkpoints", done, len(missing))
    return done


def _shard(source: Store, key: str) -> bytes:
    data = source.get(key)
    if names.shard_key(canonical.sha256(data)) != key:
        raise IntegrityError(f"{source.url}/{key}: its bytes have another digest")
    return data


def _verify(target: Store) -> None:
    findings = verify(target).findings
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise IntegrityError(
            f"{target.url}: the copy does not verify: {findings[0].what}{more}; "
            "if evergraft graph verify finds the original whole, delete what is damaged here and copy again"
        )


def _create(store: Store, key: str, data: bytes) -> bytes | None:
    """None if exactly `data` stands there now, else what does."""
    outcome = store.put_if_absent(key, data)
    if isinstance(outcome, Landed):
        return None
    if isinstance(outcome, Lost):
        return outcome.data
    raise StoreUnavailableError(f"{store.url}: {key} may or may not be written ({outcome.reason}); run again")


def _silent(what: str, done: int, total: int) -> None:
    del what, done, total
