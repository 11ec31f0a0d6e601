"""Errands over a local store, without the operator's images: what is refused, what is done twice, which codes come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evergraft.cli import main
from evergraft.errors import ConflictError, FormatError, SpecError, StoreConflictError
from evergraft.names import RunKey
from evergraft.steward import duties
from evergraft.steward.answer import Answer
from evergraft.steward.errand import read_errand
from evergraft.store import log
from evergraft.store.files import FileStore
from evergraft.testing.graphs import land, start_graph


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A graph with one task."""
    store = FileStore(tmp_path / "graph")
    land(store, start_graph(store), "a/one")
    return tmp_path / "graph"


def errand(graph: Path, duty: str, **fields: Any) -> str:
    return json.dumps({"format": 1, "duty": duty, "store": {"url": f"file://{graph}"}, **fields})


def do(text: str) -> Answer:
    return duties.carry_out(read_errand(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is not set"),
        ("{", "no JSON"),
        ("[]", "no format number"),
        ('{"format": 1}', "duty: 'None' is unknown; one of init"),
        ('{"format": 1, "duty": "heads"}', "store: expected an object with a url"),
    ],
)
def test_a_wrong_errand_is_named(text: str | None, said: str) -> None:
    with pytest.raises(SpecError, match="EVERGRAFT_STEWARD") as refused:
        read_errand(text)
    assert said in str(refused.value)


def test_a_newer_operator_s_errand_is_left_alone(graph: Path) -> None:
    with pytest.raises(FormatError, match="format 2"):
        read_errand(errand(graph, "heads", format=2))


@pytest.mark.parametrize(
    ("duty", "fields"),
    [
        ("heads", {}),
        ("heads", {"tasks": [{}] * 161}),
        ("remove", {"tasks": ["a/one"]}),
        ("remove", {"tasks": []}),
        ("collect", {"gracePeriod": "x"}),
    ],
)
def test_a_duty_without_its_fields_is_refused(graph: Path, duty: str, fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="EVERGRAFT_STEWARD"):
        do(errand(graph, duty, **fields))


def test_heads_are_read_in_the_order_asked(graph: Path) -> None:
    answer = do(errand(graph, "heads", tasks=[{"task": "a/none"}, {"task": 1}, {"task": "a/one"}]))
    assert answer.heads is not None
    assert [head and head["outcome"] for head in answer.heads] == [None, None, "committed"]
    assert answer.heads[1] is None
    assert answer.heads[0] is not None


def test_each_pod_reads_its_own_part(graph: Path) -> None:
    text = errand(graph, "heads", tasks=[*[{"task": "a/none"}] * 20, {"task": "a/one"}, {"task": "a/none"}])
    parts = [duties.carry_out(read_errand(text, part)).heads or () for part in ("0", "1", "2")]
    assert [len(heads) for heads in parts] == [20, 2, 0]
    assert [head and head["run"] for head in parts[1]] == ["i1-c1", None]
    with pytest.raises(SpecError, match="JOB_COMPLETION_INDEX: expected a number"):
        read_errand(text, "x")


def test_a_route_is_removed_once(graph: Path) -> None:
    for _ in range(2):
        assert do(errand(graph, "remove", tasks=[{"uid": "u", "task": "a/one"}])).exit_code == 0
    store = FileStore(graph)
    head = log.read_graph(store)
    state = head.task("a/one")
    assert state is not None
    assert (state.route, state.outcome, head.version) == (None, "removed", 2)
    assert do(errand(graph.parent / "nowhere", "remove", tasks=[{"task": "a/one"}])).exit_code == 0
    with pytest.raises(ConflictError, match="RouteRemoved"):
        land(store, head, "a/one")  # its run key stays closed


def test_a_removal_that_comes_late_takes_no_route_that_was_trained_anew(graph: Path) -> None:
    meant = errand(graph, "remove", tasks=[{"uid": "u", "task": "a/one", "iteration": 1}])
    assert do(meant).exit_code == 0
    store = FileStore(graph)
    land(store, log.read_graph(store), "a/one", run=RunKey(2, 1))
    late = do(meant)
    assert (late.exit_code, late.removed) == (64, [False])
    assert "run i2-c1 is closed, later than iteration 1; its route stays" in late.reason
    state = log.read_graph(store).task("a/one")
    assert state is not None
    assert state.route is not None
    assert do(errand(graph, "remove", tasks=[{"uid": "v", "task": "a/one", "iteration": 2}])).removed == [True]


def test_a_route_that_others_build_on_stays(graph: Path) -> None:
    store = FileStore(graph)
    land(store, log.read_graph(store), "a/two", parent="a/one")
    answer = do(errand(graph, "remove", tasks=[{"task": "a/one"}, {"task": "a/none"}, {"task": "root"}]))
    assert (answer.exit_code, answer.removed) == (64, [False, True, False])
    assert "a/two build" in answer.reason
    assert json.loads(answer.encode())["removed"] == [False, True, False]


def test_routes_that_build_on_each_other_go_in_the_order_in_which_they_can(graph: Path) -> None:
    store = FileStore(graph)
    land(store, log.read_graph(store), "a/two", parent="a/one")
    land(store, log.read_graph(store), "a/three", parent="a/two")
    answer = do(errand(graph, "remove", tasks=[{"task": f"a/{name}"} for name in ("one", "two", "three")]))
    assert (answer.exit_code, answer.removed) == (0, [True, True, True])
    assert [task for task, state in log.read_graph(store).tasks() if state.route is not None] == ["root"]


def test_a_collection_overtaken_without_end_is_tried_again(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object, **__: object) -> None:
        raise ConflictError("condemn: again")

    monkeypatch.setattr(duties, "gc", busy)
    with pytest.raises(StoreConflictError, match="again") as told:
        do(errand(graph, "collect", gracePeriod="24h"))
    assert told.value.exit_code == 75


def test_damage_ends_with_65_and_is_named(graph: Path) -> None:
    assert do(errand(graph, "verify", answers=False)).exit_code == 0
    next(graph.glob("modules/*/*")).write_bytes(b"x")
    answer = do(errand(graph, "verify", answers=False))
    assert answer.exit_code == 65
    assert answer.graph is None
    assert "module" in answer.reason or "blob" in answer.reason


def test_the_command_answers_in_every_case(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERGRAFT_STEWARD", errand(graph, "heads", tasks=[{"task": "a/one"}]))
    assert main(["steward"]) == 0
    assert json.loads(capsys.readouterr().out)["heads"][0]["run"] == "i1-c1"
    monkeypatch.setenv("EVERGRAFT_REPORT", str(tmp_path / "message"))
    monkeypatch.setenv("EVERGRAFT_STEWARD", errand(graph.parent / "nowhere", "heads", tasks=[]))
    assert main(["steward"]) == 64
    assert "no module graph here" in json.loads((tmp_path / "message").read_bytes())["reason"]


def test_an_answer_that_cannot_be_written_is_refused_before_the_errand(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERGRAFT_STEWARD", errand(graph, "heads", tasks=[]))
    monkeypatch.setenv("EVERGRAFT_REPORT", str(tmp_path / "nodir" / "message"))
    assert main(["steward"]) == 64
    assert f"EVERGRAFT_REPORT {tmp_path}/nodir/message: cannot be written" in capsys.readouterr().err
