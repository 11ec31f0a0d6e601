"""The kit itself: its faults do what they say, its invariants can fail, its strategies make what is well formed."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from evergraft import canonical, names
from evergraft.errors import ConflictError, EvergraftError, StoreFullError, StoreUnavailableError
from evergraft.graph.commit import Commit
from evergraft.graph.module import Module, decode, encode
from evergraft.graph.route import Route, RouteSummary
from evergraft.graph.state import Graph, apply, check
from evergraft.names import RunKey
from evergraft.store import log
from evergraft.store.failures import translate
from evergraft.store.memory import MemoryStore
from evergraft.store.open import open_store
from evergraft.store.options import StoreOptions
from evergraft.store.seam import Created, Landed, Lost, Store, Unknown
from evergraft.testing import deep, play, strategies
from evergraft.testing.faults import FaultyStore
from evergraft.testing.graphs import land, start_graph
from evergraft.testing.injection import ATOMIC, WAYS, Call, Way, drawn, every_fault, http_error, nth, scripted
from evergraft.testing.invariants import check_invariants


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore(uuid.uuid4().hex)


def told(store: FaultyStore, key: str = "log/a") -> Any:
    """What a caller sees of a conditional create."""
    try:
        return store.put_if_absent(key, b"data")
    except EvergraftError as error:
        return type(error)


# --- faults -------------------------------------------------------------------------------------------------------

NOT_THERE = (Way.LOST_BEFORE, Way.HTTP_409, Way.HTTP_412, Way.HTTP_429, Way.HTTP_500, Way.HTTP_503, Way.TIMEOUT)


@pytest.mark.parametrize("way", NOT_THERE)
def test_a_request_that_never_arrived_or_was_refused_is_unknown_and_wrote_nothing(memory: Store, way: Way) -> None:
    store = FaultyStore(memory, plan=nth("put_if_absent", 0, way))
    assert isinstance(told(store), Unknown)
    assert list(memory.list("")) == []
    assert told(store) == Landed()
    assert store.faults.struck == [(Call("put_if_absent", 0, "log/a"), way)]


def test_what_was_carried_out_stands_whatever_the_caller_hears(memory: Store) -> None:
    ways = scripted([Way.LOST_AFTER, Way.TWICE, Way.LATE, Way.FULL, Way.TORN, Way.SLOW])
    store = FaultyStore(memory, plan=ways)
    assert [told(store, f"log/{n}") for n in range(6)] == [
        Unknown(f"{memory.url}/log/0: [Errno 104] the test kit lost the answer"),
        Landed(),
        Unknown(f"{memory.url}/log/2: [Errno 104] the test kit lost the answer"),
        StoreFullError,
        Unknown(f"{memory.url}/log/4: [Errno 104] the test kit lost the answer"),
        Landed(),
    ]
    assert [entry.key for entry in memory.list("")] == ["log/0", "log/1", "log/4", "log/5"]
    assert memory.get("log/4") == b"da"
    assert store.faults.deliver() == 1
    assert memory.get("log/2") == b"data"
    assert sum(store.faults.slept) == 20.0


def test_a_late_write_does_not_overwrite_what_came_meanwhile(memory: Store) -> None:
    store = FaultyStore(memory, plan=nth("put_if_absent", 0, Way.LATE))
    told(store)
    memory.put_if_absent("log/a", b"other")
    store.faults.deliver()
    assert memory.get("log/a") == b"other"
    assert told(store) == Lost(b"other")


@pytest.mark.parametrize("name", ["get", "list", "put", "delete"])
def test_every_other_operation_fails_in_every_way_that_it_can(memory: Store, name: str) -> None:
    for way in sorted(WAYS[name] - {Way.SLOW, Way.STALL, Way.TWICE}):
        memory.put("log/a", b"data")
        store = FaultyStore(memory, plan=nth(name, 0, way))
        act: Callable[[], Any] = {
            "get": lambda store=store: store.get("log/a"),
            "list": lambda store=store: list(store.list("log/")),
            "put": lambda store=store: store.put("log/a", b"new!"),
            "delete": lambda store=store: store.delete("log/a"),
        }[name]
        with pytest.raises(StoreFullError if way is Way.FULL else StoreUnavailableError):
            act()
        act()


def test_plans_name_every_fault_of_a_recorded_run(memory: Store) -> None:
    store = FaultyStore(memory)
    start_graph(store)
    found = list(every_fault(store.faults.calls))
    assert len(found) == sum(len(WAYS[call.name] & ATOMIC) for call in store.faults.calls)
    assert {way for call, way in found if call.name == "get"} == WAYS["get"]
    plan, again = drawn(3, chance=0.5), drawn(3, chance=0.5)
    struck = [plan(call) for call in store.faults.calls * 9]
    assert struck == [again(call) for call in store.faults.calls * 9]
    assert Way.STALL not in struck
    assert None in struck
    assert len(set(struck)) > 5


@pytest.mark.parametrize("status", [409, 412, 429, 500, 503])
@pytest.mark.parametrize("like", ["gs", "s3"])
def test_made_up_answers_are_translated_as_the_clients_own(status: int, like: str) -> None:
    """Against what gcsfs and s3fs really raise for these answers."""
    if like == "gs":
        from gcsfs.retry import validate_response

        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
            validate_response(status, b"", "bucket/key")
        real: Exception = caught.value
    else:
        from botocore.exceptions import ClientError
        from s3fs.errors import translate_boto_error

        answer = {"Error": {"Code": str(status)}, "ResponseMetadata": {"HTTPStatusCode": status}}
        real = translate_boto_error(ClientError(answer, "PutObject"))
    made = http_error(status, like=like)
    assert type(translate(made, where="x")) is type(translate(real, where="x")) is StoreUnavailableError


# --- invariants ---------------------------------------------------------------------------------------------------


def rewrite(store: Store, version: int, change: Callable[[dict[str, Any]], None]) -> None:
    commit = json.loads(store.get(names.log_key(version)))
    change(commit)
    store.put(names.log_key(version), canonical.dumps(commit))


def route_in(commit: dict[str, Any]) -> dict[str, Any]:
    return next(action["route"] for action in commit["actions"] if action["type"] == "putRoute")


def private(commit: dict[str, Any]) -> None:
    route_in(commit)["visibility"] = "Private"


def orphaned(commit: dict[str, Any]) -> None:
    route_in(commit)["parent"] = "0" * 64


def run_again(commit: dict[str, Any]) -> None:
    commit["actions"][-1]["task"] = "a/one"


def same_search(commit: dict[str, Any]) -> None:
    commit["actions"][-1]["search"] = names.search_id("a/one", RunKey(1, 1))


def condemned(commit: dict[str, Any]) -> None:
    commit["actions"].append({"type": "condemn", "ids": [route_in(commit)["layers"][-1]["module"]]})


@pytest.mark.parametrize(
    ("version", "change", "message"),
    [
        (1, private, "which is private"),
        (2, orphaned, "was never committed before it"),
        (2, run_again, "closed at or after a run"),
        (2, same_search, "landed 2 routes"),
        (2, condemned, "in use and condemned"),
        (1, lambda commit: commit.update(id="else"), "was acknowledged as version 1 and is not there"),
        (1, lambda commit: commit.update(author="else"), "does not follow the commit before it"),
        (2, lambda commit: commit.update(version=9), "holds version 9"),
        (2, lambda commit: commit["actions"].pop(0), "was never added"),
    ],
)
def test_each_invariant_can_fail(
    memory: Store, version: int, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    graph = start_graph(memory)
    graph = land(memory, graph, "a/one")
    land(memory, graph, "a/two", parent="a/one")
    acknowledged = [(commit.version, commit.id) for commit, _ in log.read_commits(memory)]
    assert check_invariants(memory, acknowledged) == []
    rewrite(memory, version, change)
    assert any(message in what for what in check_invariants(memory, acknowledged))


def test_a_lost_commit_and_a_gap_are_found(memory: Store) -> None:
    graph = start_graph(memory)
    for number in range(3):
        graph = land(memory, graph, f"a/{number}")
    acknowledged = [(commit.version, commit.id) for commit, _ in log.read_commits(memory)]
    memory.delete(names.log_key(2))
    wrong = check_invariants(memory, acknowledged)
    assert any("acknowledged as version 2" in what for what in wrong)
    assert any("where version 2 must be" in what for what in wrong)


# --- the play and the deep check ----------------------------------------------------------------------------------


def test_the_play_notices_a_guard_that_lets_something_through(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    game = play.Play(lambda: memory)
    step = game.landing(0, "a/one", (1, 1))
    assert step is not None
    assert game.attempt(0, step) == "landed"
    assert game.attempt(1, step) == "already"
    monkeypatch.setattr(log, "check", lambda *args, **kwargs: None)
    with pytest.raises(play.DisagreementError, match="though \\['already'\\]"):
        game.attempt(1, step)


def test_the_play_notices_a_guard_that_refuses_too_much(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    game = play.Play(lambda: memory)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ConflictError("no")

    monkeypatch.setattr(log, "check", refuse)
    with pytest.raises(play.DisagreementError, match="conflict at version 0"):
        game.attempt(0, play.closing_step("a/one", (1, 1), "kept"))


class Overwriting:
    """An S3 look-alike: some conditional creates overwrite what stands."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.url, self.get, self.put, self.list, self.delete = inner.url, inner.get, inner.put, inner.list, inner.delete

    def put_if_absent(self, key: str, data: bytes) -> Created:
        self.inner.put(key, data)
        return Landed()


def test_a_deep_check_finds_a_store_that_loses_commits(memory: Store) -> None:
    report = deep.deep_check(lambda url: Overwriting(memory), memory.url)
    assert not report.holds
    assert report.to_json()["fit"] is False
    assert "stalled writers are overtaken" in [trial.name for trial in report.trials if trial.wrong]
    assert list(memory.list("")) == []


def test_a_deep_check_of_a_fit_store_holds_and_counts_what_it_may_not_delete(memory: Store) -> None:
    names_told: list[str] = []
    report = deep.deep_check(open_store, memory.url, progress=names_told.append)
    assert report.holds, report.to_json()
    assert names_told == [trial.name for trial in report.trials]
    assert (report.left, list(memory.list(""))) == (0, [])

    def forbid(operation: str, key: str) -> None:
        if operation == "delete" and "/rounds/" not in key and "/fencing/" not in key:
            raise StoreUnavailableError("workers delete nothing")

    report = deep.deep_check(lambda url: FaultyStore(memory, before=forbid), memory.url)
    assert report.holds
    assert report.left == len(list(memory.list(""))) > 0


def test_a_deep_check_cleans_up_when_the_store_goes_away(memory: Store) -> None:

    def vanish(operation: str, key: str) -> None:
        if operation != "delete" and "/storm/" in key:
            raise StoreUnavailableError("gone")

    with pytest.raises(StoreUnavailableError, match="gone"):
        deep.deep_check(lambda url: FaultyStore(memory, before=vanish), memory.url)
    assert list(memory.list("")) == []


def test_only_the_strategies_need_hypothesis() -> None:
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import evergraft.testing.deep, evergraft.testing.clients, evergraft.testing.mishaps\n"
        "try: import evergraft.testing.strategies\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "evergraft[testing]"' in done.stdout


# --- strategies ---------------------------------------------------------------------------------------------------


@given(strategies.modules)
def test_modules_are_read_back(module: Module) -> None:
    found = decode(encode(module), expected_id=module.id)
    assert (found.kind, found.config, found.id) == (module.kind, module.config, module.id)


@given(strategies.commits)
def test_commits_are_read_back(commit: Commit) -> None:
    assert Commit.from_json(json.loads(commit.encode())).encode() == commit.encode()


@given(strategies.routes, strategies.summaries)
def test_routes_are_read_back(route: Route, summary: RouteSummary) -> None:
    assert Route.from_json(json.loads(route.encode())).encode() == route.encode()
    assert RouteSummary.from_json(json.loads(canonical.dumps(summary.to_json()))) == summary


@given(strategies.commits)
def test_any_commit_is_refused_or_folds(commit: Commit) -> None:
    """The guard answers with an error of ours, whatever actions come together."""
    first = replace(commit, version=0, previous=None, actions=())
    graph = apply(Graph(), first, digest=canonical.sha256(first.encode()))
    try:
        check(graph, commit.actions, base=commit.base)
    except EvergraftError:
        return
    follows = replace(commit, version=1, previous=graph.head)
    assert apply(graph, follows, digest="0" * 64).version == 1


@pytest.mark.server
@pytest.mark.parametrize("server", ["gcs_server", "s3_server"])
def test_a_deep_check_of_a_bucket(server: str, request: pytest.FixtureRequest) -> None:
    bucket = request.getfixturevalue(server)
    options = StoreOptions(endpoint=bucket.endpoint, key=bucket.key, secret=bucket.secret)
    opened = open_store(bucket.url, options)  # one client for all: each costs a second to make
    report = deep.deep_check(lambda url: opened, bucket.url)
    assert report.holds, report.to_json()
    assert [entry.key for entry in opened.list("probe/")] == []
