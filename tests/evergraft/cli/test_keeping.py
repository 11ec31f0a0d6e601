"""The commands that keep a graph, as a user would call them, on a graph that an earlier version wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evergraft_trainer.testing.commands import Run, contents

OLD = Path(__file__).resolve().parents[2] / "data" / "graphs" / "format-1"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A copy of the kept graph: old/birds and old/secret are built on old/pets, old/twice on old/birds."""
    shutil.copytree(OLD, tmp_path / "kept")
    return tmp_path / "kept"


def as_json(run: Run, *arguments: object) -> Any:
    answer = run(*arguments, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def route(run: Run, graph: Path, task: str) -> str | None:
    rows = {row["task"]: row["route"] for row in as_json(run, "graph", "show", graph)["tasks"]}
    found: str | None = rows[task]
    return found


def test_gc_takes_each_blob_a_step_at_a_time(run: Run, kept: Path) -> None:
    before = contents(kept)
    planned = as_json(run, "graph", "gc", kept, "--grace", "0s", "--dry-run")
    assert (planned["deleted"], planned["dryRun"]) == (7, True)
    assert contents(kept) == before
    assert "would do:" in run("graph", "gc", kept, "--dry-run").out
    assert as_json(run, "graph", "gc", kept, "--grace", "0s")["deleted"] == 7
    assert as_json(run, "graph", "gc", kept, "--grace", "0s")["swept"] == 7
    said = run("graph", "gc", kept)
    assert "0 blobs condemned, 0 wait for 24h" in said.out
    assert "open search" in said.out
    assert run("graph", "verify", kept).code == 0


@pytest.mark.parametrize("grace", ["", "24", "h", "-1h", "1.5h", "1w", "1 h"])
def test_a_grace_period_that_is_no_time_is_refused(run: Run, kept: Path, grace: str) -> None:
    answer = run("graph", "gc", kept, f"--grace={grace}")
    assert answer.code == 64
    assert "is no time; write a whole number and s, m, h or d" in answer.err


def test_remove_names_who_builds_on_it_and_restore_puts_it_back(run: Run, kept: Path) -> None:
    was = route(run, kept, "old/pets")
    answer = run("graph", "remove", kept, "old/pets")
    assert answer.code == 64
    assert "old/pets: old/birds, old/secret, old/twice build on its route" in answer.err
    said = run("graph", "remove", kept, "old/pets", "--force")
    assert said.code == 0, said.err
    assert "graph restore 15" in said.out
    assert route(run, kept, "old/pets") is None
    assert as_json(run, "graph", "verify", kept, "--answers")["ok"]
    assert run("graph", "restore", kept, 15, "--task", "old/pets").code == 0
    assert route(run, kept, "old/pets") == was
    again = run("graph", "restore", kept, 15)
    assert (again.code, "nothing was written" in again.out) == (0, True)


def test_restore_tells_what_gc_took(run: Run, kept: Path) -> None:
    before = contents(kept)
    answer = run("graph", "restore", kept, 7)
    assert answer.code == 64
    assert "old/going needs" in answer.err
    assert "old/gone needs" in answer.err
    assert "Traceback" not in answer.err
    assert contents(kept) == before
    assert "version 99 does not exist" in run("graph", "restore", kept, 99).err
    assert "never heard of" in run("graph", "restore", kept, 7, "--task", "old/nobody").err


def test_copy_goes_on_and_refuses_another_graph(run: Run, kept: Path, graph: Path, tmp_path: Path) -> None:
    done = as_json(run, "graph", "copy", kept, tmp_path / "copy")
    assert (done["version"], done["commits"], done["checkpoints"]) == (15, 16, 3)
    assert as_json(run, "graph", "copy", kept, tmp_path / "copy")["commits"] == 0
    assert route(run, tmp_path / "copy", "old/birds") == route(run, kept, "old/birds")
    said = run("graph", "copy", kept, tmp_path / "copy")
    assert said.out.endswith("everything holds\n")
    before = contents(graph)
    answer = run("graph", "copy", kept, graph)
    assert answer.code == 64
    assert "another graph is here" in answer.err
    assert contents(graph) == before


def test_on_no_graph_every_command_says_so(run: Run, tmp_path: Path) -> None:
    for command in (["gc"], ["restore", 0], ["remove", "a/one"], ["copy", tmp_path / "to"]):
        answer = run("graph", command[0], tmp_path / "nothing", *command[1:])
        assert answer.code == 64, command
        assert "no module graph here" in answer.err
    assert contents(tmp_path) == {}
