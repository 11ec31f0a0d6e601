"""Verify finds every kind of broken promise, names the tasks it touches, and goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evergraft import canonical, names
from evergraft.errors import FormatError, NotAGraphError
from evergraft.graph.commit import Action, AddModules, Commit, PutRoute
from evergraft.graph.module import encode
from evergraft.graph.route import RouteSummary
from evergraft.graph.state import Graph
from evergraft.names import RunKey
from evergraft.store import blobs, log
from evergraft.store.checkpoints import write_checkpoint
from evergraft.store.recording import RecordingStore
from evergraft.store.seam import Store
from evergraft.store.verify import Finding, verify
from evergraft.testing.graphs import closing, land, root_of, route_on, start_graph, tiny_module


@pytest.fixture
def graph(memory: Store) -> Graph:
    """root <- a/one <- a/two, and root <- a/secret (private)."""
    graph = land(memory, start_graph(memory), "a/one")
    graph = land(memory, graph, "a/two", parent="a/one")
    return land(memory, graph, "a/secret", visibility="Private")


def serving(graph: Graph, task: str) -> RouteSummary:
    state = graph.task(task)
    assert state is not None
    assert state.route is not None
    return state.route


def force(store: Store, graph: Graph, *actions: Action) -> None:
    """Write a commit that no honest writer would, past every check."""
    commit = Commit(graph.version + 1, "mark", graph.head, "", "", graph.version, None, actions)
    store.put(names.log_key(commit.version), commit.encode())


def only(findings: tuple[Finding, ...]) -> Finding:
    (finding,) = findings
    return finding


def test_a_whole_graph_has_no_findings(memory: Store, graph: Graph) -> None:
    told: list[str] = []
    report = verify(memory, progress=told.append)
    assert report.findings == ()
    assert (report.version, report.commits, report.routes, report.modules, report.bytes) == (3, 4, 4, 6, 6 * 16)
    assert told == ["a/one", "a/secret", "a/two", "root"]
    assert report.to_json()["ok"] is True
    assert graph.version == report.version


def test_every_blob_in_use_is_read_once(memory: Store, graph: Graph) -> None:
    store = RecordingStore(memory)
    verify(store)
    read = [operation.key for operation in store.reads if operation.key.startswith(("modules/", "routes/"))]
    assert len(read) == len(set(read)) == 6 + 4
    assert store.writes == []
    quick = RecordingStore(memory)
    assert verify(quick, full=False).findings == ()
    assert not [operation for operation in quick.reads if operation.name == "get" and "modules/" in operation.key]
    assert graph.version == 3


@pytest.mark.parametrize("damage", ["flip", "absent", "other"])
def test_a_damaged_module_names_every_task_that_uses_it(memory: Store, graph: Graph, damage: str) -> None:
    module = root_of(graph).layers[0].module
    key = names.module_key(module)
    data = memory.get(key)
    if damage == "absent":
        memory.delete(key)
    else:
        memory.put(key, data[:-1] + b"\1" if damage == "flip" else encode(tiny_module("another")))
    finding = only(verify(memory).findings)
    assert finding.kind == "blob"
    assert finding.routes == ("a/one", "a/secret", "a/two", "root")
    if damage == "absent":
        assert only(verify(memory, full=False).findings).routes == finding.routes


def test_a_damaged_route_document_is_found(memory: Store, graph: Graph) -> None:
    key = names.route_key(serving(graph, "a/two").id)
    memory.put(key, memory.get(key).replace(b'"labels":["a","b"]', b'"labels":["b","a"]'))
    assert only(verify(memory).findings).routes == ("a/two",)


def test_a_route_that_differs_from_the_log_is_found(memory: Store, graph: Graph) -> None:
    route = serving(graph, "a/two")
    renamed = replace(route, layers=(replace(route.layers[0], name="other"), *route.layers[1:]))
    force(memory, graph, PutRoute(renamed))
    finding = only(verify(memory).findings)
    assert (finding.kind, finding.routes) == ("reference", ("a/two",))


def test_a_changed_commit_breaks_the_chain(memory: Store, graph: Graph) -> None:
    memory.put(names.log_key(1), memory.get(names.log_key(1)).replace(b'"author":"test"', b'"author":"else"'))
    finding = verify(memory).findings[0]
    assert finding.kind == "chain"
    assert "breaks at version 2" in finding.what
    assert graph.version == 3


def test_a_commit_that_vanished_is_found(memory: Store, graph: Graph) -> None:
    memory.delete(names.log_key(2))
    assert "commit 2 is absent though 1 later ones are there" in verify(memory).findings[0].what
    assert graph.version == 3


def test_building_on_a_private_task_is_found(memory: Store, graph: Graph) -> None:
    route, summary, new = route_on(serving(graph, "a/secret"), "a/thief")
    blobs.put_route(memory, route)
    force(memory, graph, AddModules(blobs.put_modules(memory, new)), PutRoute(summary))
    findings = verify(memory).findings
    assert {finding.kind for finding in findings} == {"privacy"}
    assert findings[0].routes == ("a/secret", "a/thief")


def test_sharing_a_private_tasks_module_under_a_false_parent_is_found(memory: Store, graph: Graph) -> None:
    stolen = serving(graph, "a/secret").layers[-1]
    route, _, _ = route_on(root_of(graph), "a/thief")
    route = replace(route, layers=(*route.layers[:-1], replace(stolen, name="stolen")))
    blobs.put_route(memory, route)
    summary = route_on(root_of(graph), "a/thief")[1]
    summary = replace(summary, id=canonical.sha256(route.encode()), layers=route.layers)
    force(memory, graph, AddModules({stolen.module: 16}), PutRoute(summary))
    finding = only(verify(memory).findings)
    assert (finding.kind, finding.routes) == ("privacy", ("a/secret", "a/thief"))


def test_an_unknown_parent_and_an_unadded_module_are_found(memory: Store, graph: Graph) -> None:
    orphan = route_on(root_of(graph), "x/never")[1]
    route, summary, new = route_on(orphan, "a/child")
    blobs.put_route(memory, route)
    blobs.put_modules(memory, new)
    force(memory, graph, PutRoute(summary), closing("a/child", RunKey(1, 1)))
    assert {finding.kind for finding in verify(memory).findings} == {"lineage", "reference"}


def test_a_checkpoint_that_lies_or_is_damaged_is_found(memory: Store, graph: Graph) -> None:
    for number in range(62):
        graph = land(memory, graph, f"b/{number}")
    assert graph.checkpoint == 64
    while graph.version < 66:
        graph = land(memory, graph, f"c/{graph.version}")
    assert verify(memory).findings == ()
    shard = next(iter(memory.list("checkpoints/shards/"))).key
    data = memory.get(shard)
    memory.put(shard, data[:-1])
    finding = only(verify(memory).findings)
    assert finding.kind == "checkpoint"
    memory.put(shard, data)
    write_checkpoint(memory, replace(log.read_graph(memory), shards=Graph().shards, checkpoint=-1))
    assert "checkpoint 66 does not agree with the log" in only(verify(memory).findings).what


def test_an_unfinished_or_absent_graph(memory: Store) -> None:
    with pytest.raises(NotAGraphError):
        verify(memory)
    start_graph(memory)
    memory.put(names.log_key(1), canonical.dumps({"format": 2}))
    with pytest.raises(FormatError):
        verify(memory)
    memory.delete(names.log_key(1))
    memory.delete(names.log_key(0))
    assert "no first commit" in only(verify(memory).findings).what
