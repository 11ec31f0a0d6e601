"""Reading the graph: any version, from the log and its checkpoints.

Start from the newest checkpoint that is whole, gallop to HEAD, fold what lies between. The log has no gaps, so the
first version that is absent is the end. Called by everything that reads a graph; writes nothing.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterable, Iterator

from evergraft import canonical, names
from evergraft.errors import IntegrityError, NotAGraphError, NotFoundError, UserError
from evergraft.graph.commit import Commit
from evergraft.graph.route import reading
from evergraft.graph.state import Graph, TaskState, apply, shard_of
from evergraft.store import documents, parallel
from evergraft.store.checkpoints import EVERY, doubt, list_checkpoints, load_checkpoint
from evergraft.store.hint import Hint, read_hint
from evergraft.store.info import read_info
from evergraft.store.seam import Store

MAX_COMMIT_BYTES = 64 << 20
MAX_WINDOW = 32
"""Commits asked for at once while galloping: 1, 2, 4, … up to this."""

PATIENCE = 4 * EVERY
"""Commits folded before asking whether there is a checkpoint newer than the hint said."""

_log = logging.getLogger(__name__)


def read_graph(store: Store, version: int | None = None) -> Graph:
    """The whole graph, as it is now or as it was at `version`.

    Raises:
        NotAGraphError: there is no graph here.
        FormatError: written by a newer format.
        UserError: `version` does not exist.
        IntegrityError: the log is damaged.
        StoreError: the store did not answer.
    """
    return _read(store, version=version, only=None)


def read_task(store: Store, task: str, version: int | None = None) -> tuple[TaskState | None, int]:
    """One task's state and the version it was read at; reads one shard of a checkpoint and the commits after it.

    Raises as `read_graph` does.
    """
    graph = _read(store, version=version, only={shard_of(task)})
    return graph.task(task), graph.version


def refresh(store: Store, graph: Graph, *, confirm: bool = False, expected: int = 0) -> Graph:
    """The graph at HEAD: `graph` with the commits after it. One read if there are none.

    With `confirm` also see that `graph` is still part of the log, at one more read: it is not when a backup was put
    back under a running process, whose commit would then stand beyond a gap, where no reader finds it. `expected` is a
    guess at how many commits there are, which are then asked for at once.

    Raises:
        IntegrityError: the log is damaged, or `graph` is not part of it any more.
        StoreError: the store did not answer.
    """
    if not confirm:
        commits = _gallop(store, graph.version + 1, None, expected=expected)
    else:
        commits = _confirmed(store, graph, expected=expected)
    for data in commits:
        graph = fold(graph, data)
    return graph


def _confirmed(store: Store, graph: Graph, *, expected: int) -> Iterator[bytes]:
    """The commits after `graph`, once its own has been seen to stand."""
    commits = _gallop(store, graph.version, None, expected=expected + 2)
    if canonical.sha256(next(commits, b"")) != graph.head:
        raise IntegrityError(
            f"{store.url}: version {graph.version} is no longer what this process read, as after a backup was put "
            "back; run again, so that it is read afresh"
        )
    yield from commits


def read_commits(store: Store, first: int = 0, last: int | None = None) -> Iterator[tuple[Commit, str]]:
    """(commit, SHA-256 of its bytes) from version `first` to `last` or HEAD, in order; read several at once.

    Raises:
        IntegrityError, FormatError: a commit cannot be read.
    """
    for version, data in enumerate(_gallop(store, first, last), first):
        yield decode_commit(data, key=names.log_key(version)), canonical.sha256(data)


def encode_commit(commit: Commit) -> bytes:
    """The bytes of a log entry.

    Raises:
        DataError: larger than its readers take: nobody could read the graph from here on.
    """
    return documents.check_size(commit.encode(), what=f"commit {commit.version}", max_bytes=MAX_COMMIT_BYTES)


def decode_commit(data: bytes, *, key: str) -> Commit:
    """Read the bytes of the log entry under `key`, which messages name.

    Raises:
        IntegrityError: they are no commit.
        FormatError: written by a newer format.
    """
    with reading(key):
        return Commit.from_json(documents.decode(data, what=key, max_bytes=MAX_COMMIT_BYTES))


def fold(graph: Graph, data: bytes) -> Graph:
    """`graph` with the commit whose stored bytes, under the key of the next version, are `data`.

    Raises:
        IntegrityError: no commit, or one that does not follow.
    """
    return apply(graph, decode_commit(data, key=names.log_key(graph.version + 1)), digest=canonical.sha256(data))


def _read(store: Store, *, version: int | None, only: Collection[int] | None) -> Graph:
    read_info(store)
    hint = read_hint(store) if version is None else None
    start = _start(store, _candidates(store, version, hint), only=only)
    graph = _catch_up(store, start, upto=version, at_most=PATIENCE)
    if graph.version == start.version + PATIENCE:  # stopped on the way: the hint was old, or checkpoints are damaged
        newer = _start(store, (found for found in _listed(store, version) if found > graph.version), only=only)
        graph = _catch_up(store, max(graph, newer, key=lambda reached: reached.version), upto=version)
    if hint is not None and hint.version > graph.version:
        graph = _see_no_gap(store, graph, upto=hint.version)
    if version is not None and version < 0:
        raise UserError(f"{store.url}: version {version} does not exist; the first is 0")
    if graph.version < 0:
        raise NotAGraphError(
            f"{store.url}: the graph here was never finished being initialised; run evergraft graph init again"
        )
    if version is not None and graph.version != version:
        raise UserError(f"{store.url}: version {version} does not exist; the newest is {graph.version}")
    return graph


def _start(store: Store, candidates: Iterable[int], *, only: Collection[int] | None) -> Graph:
    """The first usable checkpoint, the empty graph if there is none."""
    for version in candidates:
        try:
            return load_checkpoint(store, version, only=only)
        except (IntegrityError, NotFoundError) as error:
            _log.warning("%s: checkpoint %d cannot be used, an earlier one will do: %s", store.url, version, error)
            doubt(store, version)
    return Graph()


def _see_no_gap(store: Store, graph: Graph, *, upto: int) -> Graph:
    """The graph at HEAD, where the hint knows of a commit beyond what was read: it came since, or one was lost before.

    Where there is no such commit, the hint is of a log that was longer before a backup was put back.
    """
    if _commit_bytes(store, upto) is None:
        return graph
    graph = _catch_up(store, graph, upto=None)
    if graph.version < upto:
        raise _gap(store, graph.version + 1)
    return graph


def _gap(store: Store, version: int) -> IntegrityError:
    """Of a commit that is absent though later ones are there. Nobody must commit in its place."""
    return IntegrityError(
        f"{store.url}/{names.log_key(version)} is absent though later commits are there; put it back from a copy or a "
        "backup, or wait until the one at work is whole"
    )


def _candidates(store: Store, at_most: int | None, hint: Hint | None) -> Iterator[int]:
    """Checkpoints to try, best first. Lists only when the hint does not lead to a recent one."""
    tried = -1
    if hint is not None and 0 <= hint.version - hint.checkpoint <= 2 * EVERY:
        if hint.checkpoint < 0:
            return
        tried = hint.checkpoint
        yield tried
    yield from (version for version in _listed(store, at_most) if version != tried)


def _listed(store: Store, at_most: int | None) -> list[int]:
    return [version for version in list_checkpoints(store) if at_most is None or version <= at_most]


def _catch_up(store: Store, graph: Graph, *, upto: int | None, at_most: int | None = None) -> Graph:
    """`graph` with the commits after it: to `upto` or HEAD, and no more than `at_most` of them."""
    for data in itertools.islice(_gallop(store, graph.version + 1, upto), at_most):
        graph = fold(graph, data)
    return graph


def _gallop(store: Store, first: int, last: int | None, *, expected: int = 0) -> Iterator[bytes]:
    """The stored commits from `first` on, to `last` or the end; windows double, so HEAD is near found in few trips.

    As many as are `expected` come first, since what is asked for beyond the end is asked in vain.

    Raises:
        IntegrityError: one is absent though a later one was seen.
    """
    size, following = (expected, 1) if expected else (1, 2)
    while last is None or first <= last:
        stop = first + size if last is None else min(first + size, last + 1)
        window = parallel.each(lambda version: _commit_bytes(store, version), range(first, stop))
        for number, found in enumerate(window):
            data = found
            if data is None and any(window[number:]):
                data = _commit_bytes(store, first + number)  # It may have come between the two reads.
                if data is None:
                    raise _gap(store, first + number)
            if data is None:
                return
            yield data
        first, size, following = stop, following, min(2 * following, MAX_WINDOW)


def _commit_bytes(store: Store, version: int) -> bytes | None:
    try:
        return store.get(names.log_key(version))
    except NotFoundError:
        return None
