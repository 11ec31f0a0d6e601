"""Lineage: every layer is told by how it came and who made it, down to the root."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evergraft import canonical, names
from evergraft.errors import IntegrityError
from evergraft.graph.route import Delta, Route
from evergraft.store import blobs
from evergraft.store.lineage import read_lineage, trace
from evergraft.store.seam import Store
from evergraft.testing.graphs import land, root_of, route_on, start_graph


def test_a_route_is_traced_to_the_root(memory: Store) -> None:
    graph = land(memory, land(memory, start_graph(memory), "a/one"), "a/two", parent="a/one")
    state = graph.task("a/two")
    assert state is not None
    assert state.route is not None
    steps = read_lineage(memory, state.route.id)
    assert [step.route.task for step in steps] == ["a/two", "a/one", "root"]
    assert [(origin.how, origin.by) for origin in steps[0].origins] == [
        ("shared", "root"),
        ("shared", "root"),
        ("cloned", "a/two"),
    ]
    assert {(origin.how, origin.by) for origin in steps[-1].origins} == {("new", "root")}
    assert steps[-1].id == root_of(graph).id
    assert steps[0].to_json()["layers"][2]["how"] == "cloned"


def test_a_delta_is_by_whom_added_it() -> None:
    root, _, _ = route_on(None, "root")
    changed = replace(root.layers[0], deltas=(Delta("lora", canonical.digest("delta"), 8),))
    child = replace(root, task="a/one", layers=(changed, *root.layers[1:]))
    first = trace([("child", child), ("root", root)])[0].origins[0]
    assert (first.how, first.by) == ("delta", "a/one")


def test_a_head_is_new_on_another_task_s_route_and_cloned_from_one_s_own() -> None:
    root, _, _ = route_on(None, "root")
    head = replace(root.layers[-1], kind="head")

    def child(task: str, module: str) -> Route:
        return replace(root, task=task, layers=(*root.layers[:-1], replace(head, module=canonical.digest(module))))

    chain = [("r4", child("a/one", "c")), ("r3", child("a/two", "b")), ("r2", child("a/one", "a")), ("r1", root)]
    heads = [step.origins[-1] for step in trace(chain)[:-1]]
    assert [(origin.how, origin.by) for origin in heads] == [("cloned", "a/one"), ("new", "a/two"), ("new", "a/one")]


def test_a_missing_ancestor_is_damage(memory: Store) -> None:
    memory.put(names.GRAPH, b"{}")
    orphan = route_on(route_on(None, "root")[1], "a/one")[0]
    with pytest.raises(IntegrityError, match="does not exist, though the graph names it"):
        read_lineage(memory, blobs.put_route(memory, orphan))
