"""Recorded searches of every strategy: each replays to the same decisions, and whatever is changed is named."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evergraft.cli import main
from evergraft.errors import EvergraftError, IntegrityError, UserError
from evergraft.search.engine import run_search
from evergraft.search.events import silent
from evergraft.search.replayed import Replayed, replay_search
from evergraft.search.strategies import STRATEGIES
from evergraft.search.values import Finish, SlotRef
from evergraft.store import log
from evergraft.store.files import FileStore
from evergraft.testing.arithmetic import ArithmeticTrainer, init_graph, make_request

RECORDED = Path(__file__).resolve().parents[2] / "data" / "searches"
FIRST, SECOND = (make_request("kept/task", iteration=iteration).search for iteration in (1, 2))
HOSTILE: tuple[Any, ...] = (None, -1, 10**30, 1e308, "", "../x", [], {}, [[[]]], True)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A copy of what is recorded of mu2net, to be changed."""
    return copy_of("mu2net", tmp_path)


def copy_of(strategy: str, folder: Path) -> Path:
    shutil.copytree(RECORDED / strategy, folder / strategy)
    return folder / strategy


def change(path: Path, edit: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def replayed(graph: Path, search: str = FIRST) -> Replayed:
    return replay_search(FileStore(graph), search)


def test_every_strategy_is_recorded_and_little_is_kept() -> None:
    assert {path.name for path in RECORDED.iterdir() if path.is_dir()} - {"__pycache__"} == set(STRATEGIES)
    files = [path for path in RECORDED.rglob("*") if path.suffix not in (".py", ".pyc") and path.is_file()]
    assert {path.suffix for path in files} == {".json"}
    assert sum(path.stat().st_size for path in files) < 200_000


@pytest.mark.parametrize("search", [FIRST, SECOND], ids=["first", "second"])
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_every_recorded_search_replays_to_the_same_decisions(strategy: str, search: str) -> None:
    found = replay_search(FileStore(RECORDED / strategy), search)
    assert (found.differences, found.state) == ((), "committed")
    assert isinstance(found.plans[-1], Finish)
    looks = strategy == "graft" and search == FIRST  # before a task has a route of its own
    assert len(found.plans) == (4 if strategy == "mu2net" else 3 if looks else 2)


def test_the_script_records_what_is_kept(tmp_path: Path) -> None:
    """Documents differ in what names their writers; what was decided does not."""
    runpy.run_path(str(RECORDED / "record.py"))["record"]("mu2net", tmp_path / "again")
    for search in (FIRST, SECOND):
        assert replayed(tmp_path / "again", search).to_json() == replayed(RECORDED / "mu2net", search).to_json()


def test_the_command_line_replays_and_its_exit_code_tells(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(graph), FIRST]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "every decision is the recorded one"
    change(graph / f"searches/{FIRST}/0001-0001/result.json", lambda value: value.update(quality=0.25))
    assert main(["replay", str(graph), FIRST, "--json"]) == 65
    said = json.loads(capsys.readouterr().out)
    assert (said["same"], said["state"]) == (False, "committed")
    assert "0001-0001/result.json: not the result that the search was decided on" in said["differences"]


def _first_candidate(**fields: Any) -> Callable[[Any], None]:
    return lambda value: value["plan"]["candidates"][0].update(fields)


CHANGES: list[tuple[str, Callable[[Any], Any], str]] = [
    ("0000-0002/result.json", lambda v: v.update(seconds=2.0), "0000-0002/result.json: not the result"),
    ("0002-0000/result.json", lambda v: v.update(samples=17), "0002-0000/result.json: not the result"),
    ("plan-0001.json", _first_candidate(samples=32), "plan-0001.json.candidates[0].samples: 32 recorded, 16 replayed"),
    ("plan-0000.json", _first_candidate(extra=1), "plan-0000.json.candidates[0].extra: recorded, but not replayed"),
    ("plan-0002.json", lambda v: v["plan"]["candidates"].pop(), "plan-0002.json.candidates: 2 recorded, 3 replayed"),
    ("search.json", lambda v: v["spec"]["search"].update(seed=9), "search.json: specHash"),
    ("search.json", lambda v: v["spec"].update(metric="Top5"), "search.json: specHash"),
    ("search.json", lambda v: v.update(base=1), "commit 3: base: 2 recorded, 1 replayed"),
    ("search.json", lambda v: v.update(taskHash="0"), "commit 3: taskHash"),
    (
        "search.json",
        lambda v: v.update(run="i1-c2"),
        f"search.json: kept/task at i1-c2 has another search than {FIRST}",
    ),
    ("data.json", lambda v: v["labels"].append("maybe"), "final/result.json: route.labels: 2 recorded, 3 replayed"),
    ("final/result.json", lambda v: v["finish"]["winner"].update(slot=7), "final/result.json: finish.winner.slot"),
    ("final/result.json", lambda v: v["route"].update(flops=1), "final/result.json: route.flops"),
    ("final/result.json", lambda v: v.update(outcome="kept"), "commit 3: outcome: "),
    ("final/result.json", lambda v: v["sampled"].clear(), "commit 3: sampled"),
]


@pytest.mark.parametrize(("name", "edit", "told"), CHANGES, ids=[f"{name} {told[-20:]}" for name, _, told in CHANGES])
def test_a_change_is_noticed_and_named(graph: Path, name: str, edit: Callable[[Any], None], told: str) -> None:
    change(graph / f"searches/{FIRST}" / name, edit)
    assert any(difference.startswith(told) for difference in replayed(graph).differences), replayed(graph).differences


def test_a_changed_commit_is_noticed(graph: Path) -> None:
    change(graph / "log/00000000000000000003.json", lambda value: value["actions"][2].update(outcome="none"))
    assert any(told.startswith("commit 3: outcome") for told in replayed(graph).differences)


def test_a_missing_document_is_noticed(graph: Path) -> None:
    folder = graph / f"searches/{FIRST}"
    (folder / "plan-0001.json").unlink()
    assert replayed(graph).differences == ("plan-0001.json: not recorded",)
    (folder / "0001-0000/result.json").unlink()
    assert "0001-0000/result.json: missing, although the search is closed" in replayed(graph).differences
    (folder / "final/result.json").unlink()
    assert "commit 3: closes the search, whose end is not recorded" in replayed(graph).differences


def test_a_result_that_no_plan_asks_for_is_noticed(graph: Path) -> None:
    folder = graph / f"searches/{FIRST}"
    shutil.copytree(folder / "0000-0000", folder / "0007-0000")
    change(folder / "0007-0000/result.json", lambda value: value.update(generation=7))
    assert "0007-0000/result.json: no plan asks for it" in replayed(graph).differences


def test_an_open_search_replays_wherever_it_was_left(graph: Path) -> None:
    """Documents are taken away in the reverse order of their writing; what is left is the search at that moment."""
    folder = graph / f"searches/{SECOND}"
    for path in graph.glob("log/*4.json"):
        path.unlink()
    assert (replayed(graph, SECOND).state, replayed(graph, SECOND).same) == ("closed", True)
    (folder / "final/result.json").unlink()
    written = [
        folder / name
        for generation in range(3)
        for name in (f"plan-{generation:04d}.json", *(f"{generation:04d}-{slot:04d}/result.json" for slot in range(3)))
    ]
    steps = []
    while written:
        found = replayed(graph, SECOND)
        assert (found.differences, found.state) == ((), "open"), written[-1]
        steps.append(len(found.plans))
        written.pop().unlink()
    assert steps == [4, *[3] * 4, *[2] * 4, *[1] * 3]


def test_a_search_that_a_crash_failed_replays(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    init_graph(store)
    settings: dict[str, Any] = {
        "strategy": "mu2net",
        "samples": 4 * 16,
        "parameters": {"generations": 2, "candidates": 2},
    }
    for task, policy in (("a/one", "Fail"), ("a/two", "Discard")):
        request = make_request(task, failed_candidates=policy, **settings)
        outcome, _ = run_search(
            store,
            log.read_graph(store),
            request=request,
            make_trainer=lambda folder, spec: ArithmeticTrainer(folder, spec, failing=frozenset({SlotRef(0, 1)})),
            emit=silent,
        )
        found = replay_search(store, request.search)
        assert found.same, found.differences
        assert (outcome.kind, len(found.plans)) == (("failed", 1) if policy == "Fail" else ("committed", 3))


def test_a_search_that_is_not_there_is_named(graph: Path) -> None:
    with pytest.raises(UserError, match=r"no such search"):
        replayed(graph, "0" * 32)
    (graph / f"searches/{FIRST}/data.json").unlink()
    with pytest.raises(UserError, match=r"no data pinned yet"):
        replayed(graph)


def test_a_strategy_of_another_version_names_the_program_to_use(graph: Path) -> None:
    change(
        graph / f"searches/{FIRST}/search.json", lambda value: value.update(strategy={"name": "mu2net", "version": 9})
    )
    with pytest.raises(UserError, match=r"mu2net had version 9 .* replay it with evergraft"):
        replayed(graph)


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("search.json", lambda value: value.pop("spec")),
        ("search.json", lambda value: value.update(base=99)),
        ("search.json", lambda value: value.update(strategy=[])),
        ("search.json", lambda value: value["spec"]["search"].update(strategy="telepathy")),
        ("search.json", lambda value: value["spec"]["search"]["parameters"].update(candidates=10**9)),
        ("search.json", lambda value: value["spec"]["search"].update(samples=1)),
        ("data.json", lambda value: value.update(counts=[])),
        ("plan-0001.json", lambda value: value.pop("plan")),
        ("0001-0000/result.json", lambda value: value.update(quality=2)),
        ("0001-0000/result.json", lambda value: value.update(samples=-1)),
        ("0001-0000/result.json", lambda value: value.update(slot=2)),
        ("0001-0000/result.json", lambda value: value.update(layers=7)),
        ("0001-0000/result.json", lambda value: value.pop("format")),
        ("final/result.json", lambda value: value["route"].pop("metrics")),
        ("final/result.json", lambda value: value.update(results=None)),
    ],
)
def test_a_damaged_document_is_refused(graph: Path, name: str, edit: Callable[[Any], None]) -> None:
    change(graph / f"searches/{FIRST}" / name, edit)
    with pytest.raises(IntegrityError, match=r"\S"):
        replayed(graph)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"format": 1', b"\xff", b"[" * 100_000, b'{"format": 1, "a": NaN}'])
def test_what_is_no_document_is_refused(graph: Path, data: bytes) -> None:
    for name in ("search.json", "data.json", "plan-0000.json", "0000-0000/result.json", "final/result.json"):
        path = graph / f"searches/{FIRST}" / name
        kept = path.read_bytes()
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match=r"no JSON|no format number"):
            replayed(graph)
        path.write_bytes(kept)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) within a JSON value."""
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, inner in items:
        yield value, key
        yield from _places(inner)


@pytest.mark.parametrize("strategy", ["lora", "mu2net"])
def test_no_value_anywhere_gives_a_traceback(tmp_path: Path, strategy: str) -> None:
    """Every field of every kind of document becomes something else: refused, noticed, or harmless."""
    graph = copy_of(strategy, tmp_path)
    folder = graph / f"searches/{SECOND}"
    noticed = 0
    for name in ("search.json", "data.json", "plan-0000.json", "0000-0000/result.json", "final/result.json"):
        text = (folder / name).read_text()
        for number in range(sum(1 for _ in _places(json.loads(text)))):
            value = json.loads(text)
            container, key = list(_places(value))[number]
            container[key] = HOSTILE[number % len(HOSTILE)]
            (folder / name).write_text(json.dumps(value))
            try:
                noticed += not replayed(graph, SECOND).same
            except EvergraftError:
                noticed += 1
        (folder / name).write_text(text)
    assert noticed > 100
