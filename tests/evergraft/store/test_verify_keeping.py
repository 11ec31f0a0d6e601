"""Verify about what keeping a graph needs: every checkpoint, what gc said, ancestors' documents; whom each touches."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

import pytest

from evergraft import canonical, names
from evergraft.graph.commit import Action, Commit, Condemn, PutRoute, Swept
from evergraft.graph.route import RouteSummary
from evergraft.graph.state import Graph
from evergraft.names import RunKey
from evergraft.store import checkpoints, hint, log
from evergraft.store.checkpoints import list_checkpoints, write_checkpoint
from evergraft.store.memory import MemoryStore
from evergraft.store.recording import RecordingStore
from evergraft.store.remove import remove_route
from evergraft.store.seam import Store
from evergraft.store.verify import Finding, verify
from evergraft.testing.graphs import land, start_graph


@pytest.fixture(autouse=True)
def frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints come at once, so that a short history has some."""
    monkeypatch.setattr(checkpoints, "EVERY", 3)
    monkeypatch.setattr(hint, "EVERY_S", 0.0)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(uuid.uuid4().hex)


@pytest.fixture
def graph(store: Store) -> Graph:
    """root <- a/one <- a/two <- a/three, a/one evolved again from the root; checkpoints on the way."""
    graph = land(store, start_graph(store), "a/one")
    graph = land(store, graph, "a/two", parent="a/one")
    graph = land(store, graph, "a/one", run=RunKey(2, 1))
    graph = land(store, graph, "a/three", parent="a/two")
    for number in range(4):
        graph = land(store, graph, f"b/{number}")
    assert len(list_checkpoints(store)) >= 2
    return graph


def only(findings: tuple[Finding, ...]) -> Finding:
    (finding,) = findings
    return finding


def serving(graph: Graph, task: str) -> RouteSummary:
    state = graph.task(task)
    assert state is not None
    assert state.route is not None
    return state.route


def force(store: Store, *actions: Action) -> None:
    """Write a commit that no honest writer would, past every check."""
    head = log.read_graph(store)
    commit = Commit(head.version + 1, uuid.uuid4().hex, head.head, "", "", head.version, None, actions)
    store.put(names.log_key(commit.version), commit.encode())


def test_a_whole_graph_holds_and_each_shard_is_read_once(store: Store, graph: Graph) -> None:
    recorded = RecordingStore(store)
    assert verify(recorded).findings == ()
    shards = [operation.key for operation in recorded.reads if operation.key.startswith("checkpoints/shards/")]
    assert len([key for key in shards if key.endswith(".json")]) == len(set(shards))
    assert graph.version == 8


def test_an_old_checkpoint_that_lies_names_the_tasks_it_lies_about(store: Store, graph: Graph) -> None:
    oldest = list_checkpoints(store)[-1]
    then = log.read_graph(store, version=oldest)
    store.delete(names.checkpoint_key(oldest))
    one = then.task("a/one")
    assert one is not None
    shards = [
        {task: replace(one, outcome="kept") if task == "a/one" else state for task, state in shard.items()}
        for shard in then.shards
    ]
    write_checkpoint(store, replace(then, shards=tuple(shards), checkpoint=-1))
    finding = only(verify(store).findings)
    assert (finding.kind, finding.routes) == ("checkpoint", ("a/one",))
    assert f"checkpoint {oldest} does not agree with the log" in finding.what


@pytest.mark.parametrize("damage", ["shard", "manifest"])
def test_an_old_checkpoint_that_is_damaged_is_found(store: Store, graph: Graph, damage: str) -> None:
    oldest = list_checkpoints(store)[-1]
    key = names.checkpoint_key(oldest)
    if damage == "shard":
        manifest = checkpoints.read_manifest(store, oldest)
        key = names.shard_key(next(shard for shard in manifest.shards if shard))
    store.put(key, store.get(key)[:-1])
    findings = verify(store).findings
    assert {finding.kind for finding in findings} == {"checkpoint"}
    assert all("readers do without" in finding.what for finding in findings)
    assert all(bool(finding.routes) == (damage == "shard") for finding in findings)


def test_a_checkpoint_that_lies_about_gc_is_found(store: Store, graph: Graph) -> None:
    newest = list_checkpoints(store)[0]
    then = log.read_graph(store, version=newest)
    store.delete(names.checkpoint_key(newest))
    write_checkpoint(store, replace(then, condemned=frozenset({"0" * 64}), checkpoint=-1))
    assert "does not agree with the log on what is condemned" in only(verify(store).findings).what


def test_a_blob_in_use_that_is_condemned_or_said_to_be_deleted_is_found(store: Store, graph: Graph) -> None:
    module = serving(graph, "a/three").layers[-1].module
    force(store, Condemn((module,)))
    finding = only(verify(store).findings)
    assert (finding.kind, finding.routes) == ("gc", ("a/three",))
    assert "in use and condemned" in finding.what
    force(store, Swept((module,)))
    finding = only(verify(store).findings)
    assert (finding.kind, finding.routes) == ("gc", ("a/three",))
    assert "the log says it was deleted" in finding.what


def test_a_blob_that_was_deleted_and_put_again_is_no_finding(store: Store, graph: Graph) -> None:
    route = serving(graph, "b/0")
    graph = remove_route(store, "b/0")
    ids = (route.id, route.layers[-1].module)
    for action in (Condemn(ids), Swept(ids)):
        graph, _ = log.commit(store, graph, actions=(action,), base=graph.version, author="gc", search=None)
    for blob, key in zip(ids, (names.route_key(ids[0]), names.module_key(ids[1])), strict=True):
        assert canonical.sha256(store.get(key)) == blob or key.startswith(names.MODULES)
    actions = (PutRoute(route),)
    from evergraft.testing.graphs import closing, landing

    added = landing(store, serving(graph, names.ROOT_TASK), "b/0")[0]
    actions = (added, *actions, closing("b/0", RunKey(2, 1)))  # type: ignore[assignment]
    log.commit(store, graph, actions=actions, base=graph.version, author="again", search=None)
    assert verify(store).findings == ()


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("damage", [lambda store, key: store.delete(key), lambda store, key: store.put(key, b"{}")])
def test_an_ancestor_s_lost_document_names_its_heirs(
    store: Store, graph: Graph, full: bool, damage: Callable[[Store, str], None]
) -> None:
    parent = serving(graph, "a/two").parent
    assert parent is not None
    key = names.route_key(parent)
    damage(store, key)
    if not full and any(entry.key == key for entry in store.list(names.ROUTES)):
        assert verify(store, full=False).findings == ()  # it is there; what it holds is not read
        return
    finding = only(verify(store, full=full).findings)
    assert (finding.kind, finding.routes) == ("lineage", ("a/three", "a/two"))


def test_a_broken_chain_names_every_task_that_later_commits_speak_of(store: Store, graph: Graph) -> None:
    key = names.log_key(4)
    store.put(key, store.get(key).replace(b'"author":"test"', b'"author":"else"'))
    finding = next(finding for finding in verify(store).findings if finding.kind == "chain")
    assert finding.routes == ("b/0", "b/1", "b/2", "b/3")
    store.delete(names.log_key(7))
    finding = next(finding for finding in verify(store).findings if finding.kind == "chain")
    assert finding.routes == ("b/0", "b/1", "b/3")
