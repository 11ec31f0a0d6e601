"""Routes and commits as documents: what is written is read back, and what is wrong is refused by name."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergraft import canonical
from evergraft.errors import FormatError, IntegrityError
from evergraft.graph.commit import (
    Action,
    AddModules,
    CloseSearch,
    Commit,
    Condemn,
    PutRoute,
    RemoveRoute,
    Restore,
    Swept,
)
from evergraft.graph.route import Delta, Layer, Route, RouteSummary, layers_digest
from evergraft.graph.transfer import Measured, Transfer
from evergraft.names import RunKey
from evergraft.testing.graphs import route_on

ids = st.integers(0, 255).map(canonical.digest)
tasks = st.sampled_from(["a/1", "a/2", "ünï/cødé"])
counts = st.integers(0, 1 << 40)
deltas = st.builds(Delta, kind=st.sampled_from(["lora", "norm", "bias"]), module=ids, parameters=counts)
layers = st.lists(
    st.builds(
        Layer,
        name=st.text(max_size=6),
        kind=st.text(max_size=6),
        module=ids,
        parameters=counts,
        deltas=st.lists(deltas, max_size=2).map(tuple),
    ),
    max_size=3,
    unique_by=lambda layer: layer.name,
).map(tuple)
values = st.dictionaries(st.text(max_size=4), st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4))
measured = st.builds(Measured, quality=st.floats(0, 1), samples=counts)
transfers = st.builds(
    Transfer, basis=st.text(max_size=4), linear_probe=st.none() | measured, fine_tuned=st.none() | measured
)
summaries = st.builds(
    RouteSummary,
    id=ids,
    task=tasks,
    parent=st.none() | ids,
    parent_task=st.none() | tasks,
    layers=layers,
    parameters=counts,
    added=counts,
    flops=counts,
    quality=st.none() | st.floats(0, 1),
    samples=counts,
    lineage_samples=counts,
    depth=counts,
    hyperparameters=values,
    visibility=st.sampled_from(["Public", "Private"]),
    transfer=st.none() | transfers,
    basis=st.none() | st.text(max_size=4),
)
runs = st.builds(RunKey, iteration=st.integers(1, 999_999_999), cycle=st.integers(1, 999_999_999))
actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(AddModules, modules=st.dictionaries(ids, counts, max_size=3)),
    st.builds(PutRoute, route=summaries),
    st.builds(RemoveRoute, task=tasks),
    st.builds(
        CloseSearch,
        task=tasks,
        run=runs,
        search=st.text(max_size=4),
        task_hash=st.text(max_size=4),
        outcome=st.sampled_from(["committed", "kept", "none", "failed"]),
        sampled=st.dictionaries(ids, counts, max_size=2),
    ),
    st.builds(Restore, version=counts, routes=st.dictionaries(tasks, st.none() | summaries, max_size=2)),
    st.builds(Condemn, ids=st.lists(ids, max_size=2).map(tuple)),
    st.builds(Swept, ids=st.lists(ids, max_size=2).map(tuple)),
)
commits = st.builds(
    Commit,
    version=counts,
    id=st.text(max_size=8),
    previous=st.none() | ids,
    time=st.text(max_size=8),
    author=st.text(max_size=8),
    base=st.integers(-1, 9),
    search=st.none() | st.text(max_size=4),
    actions=st.lists(actions, max_size=4).map(tuple),
)

ROUTE, SUMMARY, _ = route_on(None, "root")
COMMIT = Commit(0, "mark", None, "now", "me", -1, None, (PutRoute(SUMMARY),))
COMMIT_SHA256 = "aa6fa8e449ba57a16b6cc2b44a8f1e0a92ab51c6f6f6439bb444869ef9e0e884"


@given(commits)
def test_a_commit_is_read_back_and_has_one_form(commit: Commit) -> None:
    found = Commit.from_json(json.loads(commit.encode()))
    assert found == commit
    assert found.encode() == commit.encode()


@given(layers, values)
def test_a_route_is_read_back_and_has_one_form(layers: tuple[Layer, ...], facts: dict[str, Any]) -> None:
    route = replace(ROUTE, layers=layers, metrics=facts, hyperparameters=facts, labels=("ä", "b"), seconds=1.5)
    found = Route.from_json(json.loads(route.encode()))
    assert found == route
    assert found.encode() == route.encode()


def test_a_commits_bytes_are_those_that_released_graphs_hold() -> None:
    assert canonical.sha256(COMMIT.encode()) == COMMIT_SHA256


def test_the_digest_of_layers_names_what_is_computed() -> None:
    other = (*ROUTE.layers[:-1], replace(ROUTE.layers[-1], name="another"))
    assert layers_digest(ROUTE.layers) == layers_digest(tuple(ROUTE.layers))
    assert layers_digest(other) != layers_digest(ROUTE.layers)


def test_unknown_fields_are_left_alone() -> None:
    assert Route.from_json({**ROUTE.to_json(), "later": [1]}) == ROUTE
    assert Commit.from_json({**COMMIT.to_json(), "later": {}}) == COMMIT


@pytest.mark.parametrize("document", [ROUTE, COMMIT])
def test_a_newer_format_names_what_to_install(document: Route | Commit) -> None:
    with pytest.raises(FormatError, match=r"format 2 is newer than 1.*install"):
        type(document).from_json({**document.to_json(), "format": 2})


@pytest.mark.parametrize("value", [None, [], 1, {}, {"format": "1"}, {"format": None}])
def test_what_is_no_document_is_refused(value: Any) -> None:
    for kind in (Route, Commit):
        with pytest.raises(IntegrityError):
            kind.from_json(value)


@pytest.mark.parametrize("name", [name for name in ROUTE.to_json() if name != "format"])
@pytest.mark.parametrize("value", ["absent", None, {}, [[]], -1, "../../x", 1e400])
def test_a_wrong_field_of_a_route_never_escapes_as_another_error(name: str, value: Any) -> None:
    document = {**ROUTE.to_json(), name: value}
    if value == "absent":
        del document[name]
        with pytest.raises(IntegrityError, match="missing or wrong field"):
            Route.from_json(document)
        return
    with contextlib.suppress(IntegrityError):
        Route.from_json(document)


@pytest.mark.parametrize(
    "action",
    [
        {"type": "addModules", "modules": {"../../../etc/passwd": 1}},
        {"type": "condemn", "ids": ["../x"]},
        {"type": "swept", "ids": [7]},
        {"type": "putRoute", "route": None},
        {"type": "closeSearch", "task": "a/b"},
        {"type": "restore", "version": 1, "routes": {"a/b": {"id": "x"}}},
        {"type": "fly"},
        "putRoute",
    ],
)
def test_a_wrong_action_is_refused(action: Any) -> None:
    with pytest.raises(IntegrityError):
        Commit.from_json({**COMMIT.to_json(), "actions": [action]})


def test_two_layers_of_one_name_are_refused() -> None:
    twice = [ROUTE.layers[0].to_json()] * 2
    with pytest.raises(IntegrityError, match="a name stands twice"):
        Route.from_json({**ROUTE.to_json(), "layers": twice})


@pytest.mark.parametrize("text", ["", "i0-c1", "i1-c0", "i01-c1", "i1-c1 ", "1-1", "i1", "i-1-c1", "i9999999999-c1"])
def test_what_is_no_run_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a run key"):
        RunKey.parse(text)


@given(runs, runs)
def test_run_keys_are_ordered_by_iteration_then_cycle(one: RunKey, other: RunKey) -> None:
    assert RunKey.parse(str(one)) == one
    assert (one < other) == ((one.iteration, one.cycle) < (other.iteration, other.cycle))
