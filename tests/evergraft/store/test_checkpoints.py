"""Checkpoints: the same graph as a fold from zero, at the price of what changed, and never a reason to fail."""

from __future__ import annotations

import logging
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evergraft import canonical, names
from evergraft.errors import IntegrityError, NotFoundError, StoreUnavailableError
from evergraft.graph.commit import Action, Condemn, RemoveRoute, Restore, Swept
from evergraft.graph.route import RouteSummary
from evergraft.graph.state import NUM_SHARDS, Graph
from evergraft.names import RunKey
from evergraft.store import checkpoints, documents, history, log
from evergraft.store.checkpoints import list_checkpoints, load_checkpoint, read_manifest, write_checkpoint
from evergraft.store.open import open_store
from evergraft.store.recording import RecordingStore
from evergraft.store.seam import Store
from evergraft.testing.faults import FaultyStore
from evergraft.testing.graphs import closing, land, landing, root_of, start_graph, tiny_module


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A checkpoint after every 4 commits."""
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "EVERY", 3)
        patch.setattr(history, "EVERY", 3)
        yield


def from_zero(store: Store) -> Graph:
    graph = Graph()
    for version in range(10_000):
        try:
            graph = history.fold(graph, store.get(names.log_key(version)))
        except NotFoundError:
            break
    return graph


def grown(store: Store, count: int) -> Graph:
    graph = start_graph(store)
    for number in range(count):
        graph = land(store, graph, f"a/{number}")
    return graph


def test_whoever_finds_more_than_64_commits_writes_one(memory: Store) -> None:
    graph = grown(memory, 63)
    assert list_checkpoints(memory) == []
    graph = land(memory, graph, "a/next")
    assert (graph.version, graph.checkpoint, list_checkpoints(memory)) == (64, 64, [64])
    graph = land(memory, graph, "a/after")
    assert (graph.checkpoint, list_checkpoints(memory)) == (64, [64])


def test_a_process_that_knows_of_no_checkpoint_finds_the_one_that_is_there(memory: Store) -> None:
    graph = grown(memory, 63)
    land(memory, graph, "a/elsewhere")
    late = land(memory, graph, "b/here")
    assert (late.version, late.checkpoint, list_checkpoints(memory)) == (65, 64, [64])


@pytest.mark.usefixtures("often")
def test_a_checkpoint_writes_only_the_shards_that_changed(memory: Store) -> None:
    graph = grown(memory, 40)
    graph = write_checkpoint(memory, graph)
    while graph.version - graph.checkpoint < 3:
        graph = land(memory, graph, f"b/{graph.version}")
    store = RecordingStore(memory)
    before = read_manifest(memory, graph.checkpoint)
    after_graph = land(store, graph, "b/last")
    assert after_graph.checkpoint == after_graph.version
    after = read_manifest(memory, after_graph.version)
    changed = [n for n in range(NUM_SHARDS) if before.shards[n] != after.shards[n]]
    assert 1 <= len(changed) <= 4
    written = [operation.key for operation in store.writes if operation.key.startswith("checkpoints/")]
    assert len(written) == len(changed) + 1


@pytest.mark.usefixtures("often")
def test_every_version_is_the_same_from_any_start(store: Store) -> None:
    graph = grown(store, 11)
    assert len(list_checkpoints(store)) == 3
    for version in range(graph.version + 1):
        assert log.read_graph(store, version).version == version
    assert log.read_graph(store) == from_zero(store) == graph


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("damage", ["flip", "cut", "absent", "other", "manifest", "newer log"])
def test_damage_falls_back_to_an_earlier_checkpoint_with_a_warning(
    memory: Store, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    graph = grown(memory, 10)
    newest, earlier = list_checkpoints(memory)[:2]
    memory.delete(names.HINT)
    manifest = read_manifest(memory, newest)
    keep = {shard for shard in read_manifest(memory, earlier).shards if shard}
    shard = next(shard for shard in manifest.shards if shard and shard not in keep)
    key = names.shard_key(shard)
    data = memory.get(key)
    match damage:
        case "flip":
            memory.put(key, bytes([data[0] ^ 1]) + data[1:])
        case "cut":
            memory.put(key, data[:-1])
        case "absent":
            memory.delete(key)
        case "other":
            memory.put(key, memory.get(names.shard_key(next(iter(keep)))))
        case "manifest":
            memory.put(names.checkpoint_key(newest), b"{")
        case _:
            wrong = memory.get(names.checkpoint_key(earlier)).replace(
                b'"version":%d' % earlier, b'"version":%d' % newest
            )
            memory.put(names.checkpoint_key(newest), wrong)
    with caplog.at_level(logging.WARNING):
        assert log.read_graph(memory) == graph
    assert f"checkpoint {newest} cannot be used" in caplog.text
    assert land(memory, log.read_graph(memory), "b/still").version == graph.version + 1


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("damage", ["absent", "flip"])
def test_a_shard_that_is_lost_or_damaged_is_made_anew_by_who_cannot_read_it(memory: Store, damage: str) -> None:
    graph = grown(memory, 10)
    newest = list_checkpoints(memory)[0]
    shard = next(shard for shard in read_manifest(memory, newest).shards if shard)
    key = names.shard_key(shard)
    if damage == "absent":
        memory.delete(key)
    else:
        memory.put(key, b"\x00" + memory.get(key)[1:])
    memory.delete(names.HINT)
    graph = log.read_graph(memory)
    while graph.checkpoint <= newest:
        graph = land(memory, graph, f"b/{graph.version}")
    assert load_checkpoint(memory, graph.checkpoint) == replace(graph, version=graph.checkpoint)


@pytest.mark.usefixtures("often")
def test_without_any_whole_checkpoint_the_log_is_enough(memory: Store) -> None:
    graph = grown(memory, 10)
    for entry in list(memory.list("checkpoints/shards/")):
        memory.put(entry.key, b"rubbish")
    assert log.read_graph(memory) == graph


@pytest.mark.usefixtures("often")
def test_a_stale_hint_finds_the_newer_checkpoint(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = start_graph(memory)
    graph = land(memory, graph, "a/first")
    stale = memory.get(names.HINT)
    for number in range(40):
        graph = land(memory, graph, f"a/{number}")
    memory.put(names.HINT, stale)
    monkeypatch.setattr(history, "PATIENCE", 6)
    store = RecordingStore(memory)
    assert log.read_graph(store) == graph
    assert len([operation for operation in store.reads if operation.key.startswith("log/")]) < 30


@pytest.mark.usefixtures("often")
def test_a_checkpoint_that_cannot_be_written_does_not_fail_the_commit(
    memory: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(operation: str, key: str) -> None:
        if key.startswith("checkpoints/"):
            raise StoreUnavailableError("no answer")

    graph = grown(memory, 2)
    with caplog.at_level(logging.WARNING):
        graph = land(FaultyStore(memory, before=refuse), graph, "a/next")
    assert graph.version == 3
    assert "no checkpoint at version 3" in caplog.text
    for number in range(4):
        graph = land(memory, graph, f"a/after-{number}")
    assert graph.checkpoint == 7


def test_one_shard_can_be_read_alone(memory: Store) -> None:
    graph = write_checkpoint(memory, grown(memory, 64))
    store = RecordingStore(memory)
    part = load_checkpoint(store, graph.version, only={7})
    assert part.shards[7] == graph.shards[7]
    assert sum(map(len, part.shards)) == len(graph.shards[7])
    assert len(store.reads) <= 3


def test_a_shard_in_the_wrong_place_is_refused(memory: Store) -> None:
    graph = write_checkpoint(memory, grown(memory, 64))
    manifest = read_manifest(memory, graph.version)
    first, second = [n for n in range(NUM_SHARDS) if manifest.shards[n]][:2]
    swapped = list(manifest.shards)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    planted = checkpoints.Manifest(manifest.version, manifest.head, tuple(swapped), manifest.gc)
    memory.put(names.checkpoint_key(graph.version), planted.encode())
    with pytest.raises(IntegrityError, match="tasks of another shard"):
        load_checkpoint(memory, graph.version)


@settings(max_examples=40, deadline=None)
@given(st.data())
@pytest.mark.usefixtures("often")
def test_a_fold_from_checkpoints_equals_a_fold_from_zero(data: st.DataObject) -> None:
    store = open_store(f"memory://{uuid.uuid4().hex}")
    graph = start_graph(store)
    for number in range(data.draw(st.integers(0, 16), label="commits")):
        actions = data.draw(possible(store, graph, number), label="actions")
        graph, _ = log.commit(store, graph, actions=actions, base=graph.version, author="t", search=None)
    store.delete(names.HINT)
    whole = from_zero(store)
    assert graph == whole
    assert log.read_graph(store) == whole
    version = data.draw(st.integers(0, graph.version), label="version")
    past = log.read_graph(store, version)
    task = data.draw(st.sampled_from(["a/0", "a/1", "root", "a/none"]), label="task")
    assert log.read_task(store, task, version) == (past.task(task), version)
    assert log.read_task(store, task) == (whole.task(task), graph.version)
    assert (past.version, past.head) == (version, past.head)


def possible(store: Store, graph: Graph, number: int) -> st.SearchStrategy[tuple[Action, ...]]:
    """Actions that HEAD allows, of every kind."""
    unused = tiny_module("unused", number).id
    choices: list[st.SearchStrategy[tuple[Action, ...]]] = [
        st.sampled_from(["a/0", "a/1", "a/2"]).map(
            lambda task: landing(store, root_of(graph), task, run=RunKey(number + 1, 1))
        ),
        st.sampled_from(["none", "failed"]).map(
            lambda outcome: (closing("a/0", RunKey(number + 1, 1), outcome=outcome),)
        ),
        st.just((Condemn((unused,)),)),
    ]
    if graph.condemned:
        choices.append(st.sampled_from(sorted(graph.condemned)).map(lambda blob: (Swept((blob,)),)))
    routes: list[RouteSummary] = [route for route in graph.routes() if not route.is_root]
    if routes:
        choices.append(st.sampled_from([route.task for route in routes]).map(lambda task: (RemoveRoute(task),)))
        route = st.sampled_from(routes)
        choices.append(route.map(lambda route: (Restore(graph.version, {route.task: route, "a/9": None}),)))
    return st.one_of(choices)


def test_shards_are_small_and_plain_ones_are_read_too(memory: Store) -> None:
    graph = write_checkpoint(memory, grown(memory, 64))
    keys = [entry.key for entry in memory.list("checkpoints/shards/")]
    plain = {key: documents.inflate(memory.get(key), what="shard") for key in keys}
    assert all(len(memory.get(key)) < len(document) for key, document in plain.items())
    manifest = read_manifest(memory, graph.version)
    ids = {shard: canonical.sha256(plain[names.shard_key(shard)]) for shard in manifest.shards if shard}
    for shard, other in ids.items():
        memory.put(names.shard_key(other), plain[names.shard_key(shard)])
    undeflated = replace(manifest, shards=tuple(shard and ids[shard] for shard in manifest.shards))
    memory.put(names.checkpoint_key(graph.version), undeflated.encode())
    assert load_checkpoint(memory, graph.version) == graph


@pytest.mark.parametrize("data", [b"", b"[]", b"rubbish", zlib.compress(b"{}" * 50)[:-3], zlib.compress(b" " * 2000)])
def test_a_shard_that_is_no_stream_or_grows_too_large_is_damaged(data: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"^shard: "):
        documents.inflate(data, what="shard", max_bytes=1000)
