"""The fold and its guard: what a commit changes, and what HEAD forbids."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evergraft import canonical
from evergraft.errors import AlreadyCommittedError, ConflictError, IntegrityError, RouteRemovedError
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
from evergraft.graph.route import RouteSummary
from evergraft.graph.state import Graph, TaskState, apply, check, shard_of
from evergraft.names import RunKey
from evergraft.testing.graphs import closing, route_on

ROOT = route_on(None, "root")[1]
ONE = RunKey(1, 1)


def step(graph: Graph, *actions: Action, base: int | None = None, guarded: bool = True) -> Graph:
    """Check and apply one commit, as a store would."""
    if guarded:
        check(graph, actions, base=graph.version if base is None else base)
    commit = Commit(graph.version + 1, "mark", graph.head, "", "", graph.version, None, actions)
    return apply(graph, commit, digest=canonical.sha256(commit.encode()))


def child(parent: RouteSummary, task: str, *words: object, visibility: str = "Public") -> RouteSummary:
    return route_on(parent, task, *words, visibility=visibility)[1]


def landing(parent: RouteSummary, task: str, run: RunKey = ONE, *, visibility: str = "Public") -> tuple[Action, ...]:
    route = child(parent, task, str(run), visibility=visibility)
    new = {module: 16 for module in route.module_ids() if module not in parent.module_ids()}
    return AddModules(new), PutRoute(route), closing(task, run, visibility=visibility)


def serving(graph: Graph, task: str) -> RouteSummary:
    state = graph.task(task)
    assert state is not None
    assert state.route is not None
    return state.route


@pytest.fixture
def graph() -> Graph:
    """A root and one task."""
    return step(step(Graph(), PutRoute(ROOT)), *landing(ROOT, "a/one"))


def test_landing_keeps_run_search_digest_outcome_and_route(graph: Graph) -> None:
    state = graph.task("a/one")
    assert state is not None
    assert (state.run, state.task_hash, state.outcome, state.version) == (ONE, "hash", "committed", 1)
    assert serving(graph, "a/one").parent == ROOT.id
    assert [task for task, _ in graph.tasks()] == ["a/one", "root"]


def test_a_fold_leaves_the_earlier_graph_as_it_was(graph: Graph) -> None:
    before = (graph.version, dict(graph.tasks()))
    after = step(graph, *landing(ROOT, "a/two"))
    assert (graph.version, dict(graph.tasks())) == before
    assert after.version == graph.version + 1
    unchanged = [n for n in range(256) if after.shards[n] is graph.shards[n]]
    assert sorted({*range(256)} - {*unchanged}) == [shard_of("a/two")]


def test_a_commit_must_follow_by_version_and_by_digest(graph: Graph) -> None:
    for version, previous in ((graph.version + 2, graph.head), (graph.version + 1, "0" * 64), (0, None)):
        with pytest.raises(IntegrityError, match="does not follow"):
            apply(graph, Commit(version, "", previous, "", "", 0, None, ()), digest="0" * 64)


@pytest.mark.parametrize("run", [RunKey(1, 1), RunKey(1, 2), RunKey(2, 1)])
def test_a_run_at_or_below_the_tasks_key_never_lands(graph: Graph, run: RunKey) -> None:
    graph = step(graph, *landing(ROOT, "a/one", RunKey(2, 1)))
    with pytest.raises(AlreadyCommittedError, match="closed run i2-c1"):
        check(graph, landing(ROOT, "a/one", run), base=0)
    check(graph, landing(ROOT, "a/one", RunKey(2, 2)), base=0)


def test_neither_restore_nor_removal_lowers_the_key(graph: Graph) -> None:
    first = serving(graph, "a/one")
    graph = step(graph, *landing(ROOT, "a/one", RunKey(2, 1)))
    restored = step(graph, Restore(1, {"a/one": first}))
    assert serving(restored, "a/one") == first
    with pytest.raises(AlreadyCommittedError):
        check(restored, landing(ROOT, "a/one", RunKey(2, 1)), base=restored.version)
    removed = step(graph, RemoveRoute("a/one"))
    state = removed.task("a/one")
    assert state is not None
    assert (state.route, state.outcome, state.run) == (None, "removed", RunKey(2, 1))
    with pytest.raises(RouteRemovedError, match="set iteration to 3"):
        check(removed, landing(ROOT, "a/one", RunKey(2, 1)), base=removed.version)
    check(removed, landing(ROOT, "a/one", RunKey(3, 1)), base=removed.version)


@pytest.mark.parametrize("outcome", ["kept", "none", "failed"])
def test_a_search_that_lands_nothing_still_closes(graph: Graph, outcome: str) -> None:
    after = step(graph, closing("a/one", RunKey(1, 2), outcome=outcome))
    assert serving(after, "a/one") == serving(graph, "a/one")
    with pytest.raises(AlreadyCommittedError, match=outcome):
        check(after, landing(ROOT, "a/one", RunKey(1, 2)), base=after.version)


def test_a_route_lands_only_with_its_closed_search(graph: Graph) -> None:
    route = child(ROOT, "a/two")
    with pytest.raises(ConflictError, match="lands only with the search"):
        check(graph, (PutRoute(route),), base=graph.version)
    with pytest.raises(ConflictError, match="lands only with the search"):
        check(graph, (PutRoute(route), closing("a/three", ONE)), base=graph.version)


def test_sampling_counts_stay_until_a_search_brings_new_ones(graph: Graph) -> None:
    counted = replace(closing("a/one", RunKey(1, 2), outcome="kept"), sampled={ROOT.id: 3})
    graph = step(step(graph, counted), closing("a/one", RunKey(1, 3), outcome="none"))
    state = graph.task("a/one")
    assert state is not None
    assert state.sampled == {ROOT.id: 3}


def test_nobody_builds_on_another_tasks_private_route(graph: Graph) -> None:
    graph = step(graph, *landing(ROOT, "a/secret", visibility="Private"))
    secret = serving(graph, "a/secret")
    with pytest.raises(ConflictError, match="a/secret, which is private"):
        check(graph, landing(secret, "a/two"), base=graph.version)
    check(graph, landing(secret, "a/secret", RunKey(2, 1), visibility="Private"), base=graph.version)
    removed = step(graph, RemoveRoute("a/secret"))
    with pytest.raises(ConflictError, match="private"):
        check(removed, landing(secret, "a/two"), base=removed.version)


def test_a_route_shares_with_its_parent_and_nobody_else(graph: Graph) -> None:
    graph = step(graph, *landing(ROOT, "a/secret", visibility="Private"))
    stolen = serving(graph, "a/secret").layers[-1]
    route = child(ROOT, "a/two")
    thief = replace(route, layers=(*route.layers[:-1], stolen))
    with pytest.raises(ConflictError, match="neither new nor of its parent"):
        check(graph, (PutRoute(thief), closing("a/two", ONE)), base=graph.version)


@pytest.mark.parametrize("missing", [{"parent": None}, {"parent_task": None}, {"parent_task": "a/nobody"}])
def test_a_route_without_a_known_parent_proves_nothing(graph: Graph, missing: dict[str, str | None]) -> None:
    route = replace(child(ROOT, "a/two"), **missing)  # type: ignore[arg-type]
    with pytest.raises(ConflictError, match="parent"):
        check(graph, (PutRoute(route), closing("a/two", ONE)), base=graph.version)


def test_the_root_stays(graph: Graph) -> None:
    with pytest.raises(ConflictError, match="one root"):
        check(graph, (PutRoute(route_on(None, "root", "another")[1]),), base=graph.version)
    with pytest.raises(ConflictError, match="root"):
        check(graph, (RemoveRoute("root"),), base=graph.version)
    with pytest.raises(ConflictError, match="root"):
        check(graph, (Restore(0, {"root": None}),), base=graph.version)


def test_removing_what_is_not_there_is_refused(graph: Graph) -> None:
    with pytest.raises(ConflictError, match="no route to remove at version 1"):
        check(graph, (RemoveRoute("a/none"),), base=graph.version)


def test_condemned_blobs_are_refused_until_they_are_swept_and_made_again(graph: Graph) -> None:
    actions = landing(ROOT, "a/two")
    route = actions[1]
    assert isinstance(route, PutRoute)
    for blob in (route.route.layers[-1].module, route.route.id):
        condemned = step(graph, Condemn((blob,)))
        with pytest.raises(ConflictError, match="condemned"):
            check(condemned, actions, base=condemned.version)
        swept = step(condemned, Swept((blob,)))
        assert swept.condemned == frozenset()
        with pytest.raises(ConflictError, match="was deleted since version 1"):
            check(swept, actions, base=graph.version)
        check(swept, actions, base=swept.version)
    added = step(graph, Condemn((route.route.layers[-1].module,)))
    with pytest.raises(ConflictError, match="condemned"):
        check(added, (actions[0],), base=added.version)


def test_what_is_in_use_cannot_be_condemned_and_what_is_not_condemned_cannot_be_swept(graph: Graph) -> None:
    """gc decides at one version and commits at another; a route may have landed between."""
    route = serving(graph, "a/one")
    for blob in (route.id, route.layers[0].module, route.layers[-1].module):
        with pytest.raises(ConflictError, match="in use at version 1"):
            check(graph, (Condemn((blob,)),), base=0)
    with pytest.raises(ConflictError, match="is not condemned at version 1"):
        check(graph, (Swept((route.id,)),), base=0)


@pytest.mark.parametrize(("was", "becomes"), [("Private", "Public"), ("Public", "Private")])
def test_a_closed_task_never_changes_its_visibility(graph: Graph, was: str, becomes: str) -> None:
    """Else its private modules would come to others through its next route, or through a restore."""
    landed = step(graph, *landing(ROOT, "a/two", visibility=was))
    none = step(graph, closing("a/two", ONE, outcome="none", visibility=was))
    for before in (landed, none):
        for actions in (
            landing(ROOT, "a/two", RunKey(2, 1), visibility=becomes),
            (closing("a/two", RunKey(2, 1), outcome="kept", visibility=becomes),),
            (PutRoute(child(ROOT, "a/two", visibility=becomes)), closing("a/two", RunKey(2, 1), visibility=was)),
        ):
            with pytest.raises(ConflictError, match=r"a/two: spec\.visibility is immutable"):
                check(before, actions, base=before.version)


def test_restore_puts_back_a_tasks_own_routes_that_still_have_their_blobs(graph: Graph) -> None:
    first = serving(graph, "a/one")
    with pytest.raises(ConflictError, match="own earlier route"):
        check(graph, (Restore(1, {"a/two": first}),), base=graph.version)
    with pytest.raises(ConflictError, match="version 9 does not exist"):
        check(graph, (Restore(9, {"a/one": first}),), base=graph.version)
    newer = step(graph, *landing(ROOT, "a/one", RunKey(2, 1)))
    swept = step(step(newer, Condemn((first.layers[-1].module,))), Swept((first.layers[-1].module,)))
    with pytest.raises(ConflictError, match="deleted"):
        check(swept, (Restore(1, {"a/one": first}),), base=swept.version)
    gone = step(graph, Restore(0, {"a/one": None}))
    assert gone.task("a/one") == replace(graph.task("a/one") or TaskState(), route=None, outcome="removed", version=2)


def test_users_count_tasks_not_layers(graph: Graph) -> None:
    graph = step(graph, *landing(serving(graph, "a/one"), "a/two"))
    users = graph.users()
    assert users[ROOT.layers[0].module] == 3
    assert users[ROOT.layers[-1].module] == 1
    assert [route.task for route in graph.routes()] == ["a/one", "a/two", "root"]


def test_a_tasks_state_is_read_back() -> None:
    state = TaskState(ONE, "s", "h", "committed", "Private", child(ROOT, "a/one"), 7, {ROOT.id: 2})
    assert TaskState.from_json(state.to_json()) == state
    assert TaskState.from_json(TaskState().to_json()) == TaskState()
    assert isinstance(closing("a/one", ONE), CloseSearch)
