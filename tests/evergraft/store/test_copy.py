"""A copy is the same graph elsewhere: every version, every byte; cut off anywhere it goes on, another graph is safe."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from evergraft import names
from evergraft.errors import ConflictError, FormatError, IntegrityError, NotAGraphError, UserError
from evergraft.graph.state import Graph
from evergraft.names import RunKey
from evergraft.store import blobs, checkpoints, hint, log
from evergraft.store.copy import copy_graph
from evergraft.store.gc import gc
from evergraft.store.memory import MemoryStore
from evergraft.store.open import open_store
from evergraft.store.recording import RecordingStore
from evergraft.store.remove import remove_route
from evergraft.store.seam import Store
from evergraft.store.verify import verify
from evergraft.testing.aging import AgingStore, Clock, nothing
from evergraft.testing.graphs import land, start_graph


@pytest.fixture(autouse=True)
def frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints come at once, so that a short history has some."""
    monkeypatch.setattr(checkpoints, "EVERY", 3)
    monkeypatch.setattr(hint, "EVERY_S", 0.0)


def fresh() -> MemoryStore:
    return MemoryStore(uuid.uuid4().hex)


@pytest.fixture
def source() -> AgingStore:
    """A graph with private and removed tasks, condemned and deleted blobs, optimiser state, checkpoints, a search."""
    store = AgingStore(fresh(), Clock())
    graph = start_graph(store)
    for task, visibility in (("a/one", "Public"), ("a/secret", "Private"), ("a/gone", "Public"), ("a/going", "Public")):
        graph = land(store, graph, task, visibility=visibility)
    graph = land(store, graph, "a/two", parent="a/one")
    graph = land(store, graph, "a/one", run=RunKey(2, 1))
    remove_route(store, "a/gone")
    for _ in range(3):
        store.clock.advance(100.0)
        gc(store, grace_s=10.0, clock=store.clock)
    remove_route(store, "a/going")
    store.clock.advance(100.0)
    gc(store, grace_s=10.0, clock=store.clock)
    state = graph.task("a/one")
    assert state is not None
    assert state.route is not None
    blobs.put_optimizer(store, state.route.id, b"state")
    store.put(names.search_key("0" * 32, "search.json"), b"{}")
    return store


def contents(store: Store) -> dict[str, bytes]:
    """Every object but what belongs to the place and not to the graph."""
    aside = (names.HINT, names.SEARCHES, "probe/")
    return {entry.key: store.get(entry.key) for entry in store.list("") if not entry.key.startswith(aside)}


def versions(store: Store) -> list[Graph]:
    head = log.read_graph(store).version
    return [log.read_graph(store, version) for version in range(head + 1)]


def test_every_version_and_every_byte_is_there(source: AgingStore, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    for target in (fresh(), open_store(str(tmp_path / "copy"))):
        done = copy_graph(source, target, progress=lambda *what: told.append(what))
        assert contents(target) == contents(source)
        assert versions(target) == versions(source)
        assert (done.version, done.commits, done.damaged) == (log.read_graph(source).version, done.version + 1, ())
        assert done.checkpoints == len(checkpoints.list_checkpoints(source)) > 1
        assert verify(target).findings == ()
        assert not any(entry.key.startswith(names.SEARCHES) for entry in target.list(""))
    assert {what for what, _, _ in told} == {"blobs", "commits", "checkpoints"}
    assert all(number == total for what, number, total in told if what == "blobs")


def test_again_it_copies_only_what_is_new(source: AgingStore) -> None:
    target = RecordingStore(fresh())
    copy_graph(source, target)
    target.operations.clear()
    assert copy_graph(source, target).to_json()["commits"] == 0
    assert [operation.key for operation in target.writes] == [names.GRAPH]
    land(source, log.read_graph(source), "a/new")
    done = copy_graph(source, target)
    assert (done.commits, done.blobs) == (1, 2)
    assert contents(target) == contents(source)


def test_cut_off_anywhere_it_is_the_graph_at_an_earlier_version_and_goes_on(source: AgingStore) -> None:
    class KilledError(Exception):
        pass

    writes = RecordingStore(fresh())
    copy_graph(source, writes)
    for number in range(0, len(writes.writes), 3):
        count = [0]

        def before(operation: str, key: str, count: list[int] = count, number: int = number) -> None:
            count[0] += operation == "put_if_absent"
            if count[0] > number:
                raise KilledError

        target = AgingStore(fresh(), Clock(), before)
        with pytest.raises(KilledError):
            copy_graph(source, target)
        target.before = nothing
        if any(target.list(names.LOG)):  # whatever an earlier version needed and gc has deleted since is missing
            assert {finding.kind for finding in verify(target).findings} <= {"blob"}
            assert versions(target) == versions(source)[: log.read_graph(target).version + 1]
        copy_graph(source, target)
        assert contents(target) == contents(source)


def test_another_graph_is_refused_and_left_alone(source: AgingStore) -> None:
    target = fresh()
    start_graph(target)
    before = contents(target)
    with pytest.raises(ConflictError, match="another graph is here"):
        copy_graph(source, target)
    assert contents(target) == before


def test_a_copy_that_went_its_own_way_is_refused(source: AgingStore) -> None:
    target = fresh()
    copy_graph(source, target)
    land(target, log.read_graph(target), "a/elsewhere")
    assert copy_graph(source, target).commits == 0  # the original has nothing that it lacks
    land(source, log.read_graph(source), "a/here")
    before = {entry.key for entry in target.list(names.LOG)}
    with pytest.raises(ConflictError, match="gone its own way by version"):
        copy_graph(source, target)
    assert {entry.key for entry in target.list(names.LOG)} == before


def test_damaged_blobs_are_not_spread(source: AgingStore) -> None:
    unused, used = f"modules/aa/{'a' * 64}.safetensors", next(iter(source.list(names.MODULES))).key
    source.put(unused, b"junk")
    assert copy_graph(source, fresh()).damaged == (unused,)
    data = source.get(used)
    source.put(used, data[:-1] + bytes([data[-1] ^ 1]))
    target = fresh()
    with pytest.raises(IntegrityError, match="the copy does not verify"):
        copy_graph(source, target)
    source.put(used, data)
    assert copy_graph(source, target).damaged == (unused,)


def test_a_damaged_checkpoint_is_left_out(source: AgingStore) -> None:
    shard = next(iter(source.list(f"{names.CHECKPOINTS}shards/"))).key
    source.put(shard, b"junk")
    target = fresh()
    done = copy_graph(source, target)
    assert done.checkpoints < len(checkpoints.list_checkpoints(source))
    assert versions(target)[-1] == log.read_graph(target)


def test_wrong_places(source: AgingStore) -> None:
    with pytest.raises(UserError, match="given twice"):
        copy_graph(source, source)
    with pytest.raises(NotAGraphError):
        copy_graph(fresh(), fresh())
    source.put(names.log_key(log.read_graph(source).version + 1), b'{"format": 2}')
    with pytest.raises(FormatError):
        copy_graph(source, fresh())


@pytest.mark.server
@pytest.mark.parametrize("source_name", ["gcs_server", "s3_server"])
def test_into_a_bucket_and_back(source: AgingStore, source_name: str, request: pytest.FixtureRequest) -> None:
    from evergraft.store.options import StoreOptions

    bucket: Any = request.getfixturevalue(source_name)
    options = StoreOptions(endpoint=bucket.endpoint, key=bucket.key, secret=bucket.secret)
    away = open_store(f"{bucket.url}/{uuid.uuid4().hex}", options)
    copy_graph(source, away)
    back = fresh()
    copy_graph(away, back)
    assert contents(back) == contents(source)
