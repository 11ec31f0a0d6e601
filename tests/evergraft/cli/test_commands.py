"""Every command once, as a user would call it, on one small graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evergraft
from evergraft.cli import main, make_parser
from evergraft_trainer.testing.commands import Run, contents, task_file


@pytest.fixture
def pets(run: Run, graph: Path, images: Path, tmp_path: Path) -> Path:
    """The graph with one task."""
    answer = run("run", task_file(tmp_path, images), "--graph", graph)
    assert answer.code == 0, answer.err
    return graph


def as_json(run: Run, *arguments: object) -> Any:
    answer = run(*arguments, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def test_run_reports_a_row_and_the_second_time_that_it_is_committed(
    run: Run, pets: Path, images: Path, tmp_path: Path
) -> None:
    before = contents(pets)
    (row,) = as_json(run, "run", tmp_path / "pets.yaml", "--graph", pets)
    assert (row["task"], row["outcome"], row["parent"], row["samples"]) == ("default/pets", "already", "root", 64)
    assert "AlreadyCommitted" in row["reason"]
    assert contents(pets) == before


def test_run_initialises_an_empty_url_from_the_module_graph_among_its_files(
    run: Run, images: Path, tmp_path: Path
) -> None:
    path = task_file(tmp_path, images)
    root = (tmp_path / "root.yaml").read_text() if (tmp_path / "root.yaml").exists() else ROOT
    path.write_text(
        path.read_text()
        + "---\napiVersion: evergraft.dev/v1alpha1\nkind: ModuleGraph\nmetadata: {name: default}\n"
        + f"spec: {{root: {root}, taskDefaults: {{search: {{seed: 7}}}}}}\n"
    )
    (before,) = as_json(run, "plan", path, "--graph", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert "from root" in before["firstGeneration"][0]
    (row,) = as_json(run, "run", path, "--graph", tmp_path / "new")
    assert row["outcome"] == "committed"
    (plan,) = as_json(run, "plan", path, "--graph", tmp_path / "new")
    assert plan["values"]["search"]["seed"] == 7
    assert plan["sources"]["search.seed"] == "ModuleGraph taskDefaults"


ROOT = "{backbone: vit, config: {imageSize: 8, patchSize: 4, width: 12, depth: 1, heads: 3}, seed: 0}"


def test_a_failed_task_stops_only_those_after_it(run: Run, graph: Path, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    after = "  after: [default/a-broken]\n"
    task_file(folder, "nowhere", name="a-broken")
    waiting = task_file(folder, images, name="b-waiting")
    waiting.write_text(waiting.read_text() + after)
    task_file(folder, images, name="c-free")
    answer = run("run", folder, "--graph", graph, "--json")
    assert answer.code == 65
    outcomes = {row["task"]: row["outcome"] for row in json.loads(answer.out)}
    assert outcomes == {"default/a-broken": "error", "default/b-waiting": "skipped", "default/c-free": "committed"}


def test_tasks_run_after_those_they_name(run: Run, graph: Path, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    first = task_file(folder, images, name="a")
    first.write_text(first.read_text() + "  after: [default/b]\n")
    task_file(folder, images, name="b")
    rows = as_json(run, "run", folder, "--graph", graph)
    assert [row["task"] for row in rows] == ["default/b", "default/a"]
    assert rows[1]["parent"] == "default/b"


def test_plan_writes_nothing_and_shows_values_with_their_source(
    run: Run, graph: Path, images: Path, tmp_path: Path
) -> None:
    before = contents(graph)
    (plan,) = as_json(run, "plan", task_file(tmp_path, images), "--graph", graph)
    assert contents(graph) == before
    assert (plan["state"], plan["run"], plan["base"], plan["samples"]) == ("not yet run", "i1-c1", 0, 64)
    assert plan["sources"]["search.samples"] == "Task"
    assert sum(plan["counts"]["train"].values()) == 32
    assert "from root" in plan["firstGeneration"][0]
    lines = run("plan", tmp_path / "pets.yaml", "--graph", graph).out.splitlines()
    for line in (
        "search.samples = 64  (Task)",
        "search.hangAfter = 600  (built-in)",
        "search.scoring.sizeDecay = 1  (built-in)",
        "search.optimizer = left to the strategy  (built-in)",
    ):
        assert f"  {line}" in lines


def test_predict_from_the_command_and_from_python_agree(run: Run, pets: Path, images: Path) -> None:
    paths = sorted((images / "cat").iterdir())[:3]
    rows = as_json(run, "predict", pets, "pets", *paths)
    labels, probabilities = evergraft.load(str(pets), "default/pets").predict(paths)
    assert [row["label"] for row in rows] == labels
    assert [row["probability"] for row in rows] == [round(float(row.max()), 6) for row in probabilities]
    assert np.allclose(probabilities.sum(axis=1), 1)


def test_explain_says_why_with_figures(run: Run, pets: Path) -> None:
    facts = as_json(run, "explain", pets, "pets")
    assert facts["parent"] == "root"
    assert facts["reason"] == "no other task has a public route yet"
    assert len(facts["qualities"]) == 2
    told = run("explain", pets, "pets").out
    assert "reason        no other task" in told
    assert f"imageSize     {facts['imageSize']}" in told
    assert facts["imageSize"] > 0


def test_show_and_explain_tell_what_transfer_was_worth(run: Run, pets: Path) -> None:
    facts = as_json(run, "explain", pets, "pets")
    ledger = facts["transfer"]["ledger"]
    assert ledger["fineTuned"] == {"quality": facts["quality"], "samples": 64, "over": 0.0}
    assert ledger["linearProbe"]["over"] == pytest.approx(facts["quality"] - ledger["linearProbe"]["quality"])
    points = {row["task"]: row["overLinearProbe"] for row in as_json(run, "graph", "show", pets)["tasks"]}
    assert points == {"default/pets": pytest.approx(100 * ledger["linearProbe"]["over"], abs=0.01), "root": None}
    told = run("explain", pets, "pets").out
    assert f"{points['default/pets']:+.1f}" in told.split("a linear probe of the root")[1].splitlines()[0]
    header, pets_row, root_row = [line for line in run("graph", "show", pets).out.splitlines() if line[1:2].isalpha()][
        -3:
    ]
    place = header.index("transfer") + len("transfer")
    assert pets_row[:place].endswith(f"{points['default/pets']:+.1f}")
    assert root_row[:place].endswith(" -")


def test_show_reads_no_route_document(run: Run, pets: Path) -> None:
    for path in (pets / "routes").rglob("*.json"):
        path.unlink()
    assert as_json(run, "graph", "show", pets)["tasks"][0]["overLinearProbe"] is not None


def test_an_exported_root_starts_a_graph_with_the_same_features(run: Run, pets: Path, tmp_path: Path) -> None:
    facts = as_json(run, "export", pets, "pets", "--as-root", tmp_path / "root.safetensors")
    root = tmp_path / "next.yaml"
    root.write_text(f"{{backbone: vit, weights: {{url: root.safetensors, sha256: {facts['sha256']}}}}}")
    assert run("graph", "init", tmp_path / "next", "--root", root).code == 0
    old, new = (
        as_json(run, "graph", "lineage", pets, "pets")[0],
        as_json(run, "graph", "lineage", tmp_path / "next", "root")[0],
    )
    modules = [layer["module"] for layer in old["layers"] if layer["name"] != "head"]
    assert [layer["module"] for layer in new["layers"]] == modules


def test_an_export_holds_every_tensor_and_the_route(run: Run, pets: Path, tmp_path: Path) -> None:
    facts = as_json(run, "export", pets, "pets", "--out", tmp_path / "model")
    document = json.loads((tmp_path / "model.json").read_text())
    assert document["labels"] == ["cat", "dog"]
    header_size = int.from_bytes((tmp_path / "model.safetensors").read_bytes()[:8], "little")
    header = json.loads((tmp_path / "model.safetensors").read_bytes()[8 : 8 + header_size])
    assert "head/weight" in header
    assert facts["parameters"] == document["parameters"]["total"]


@pytest.mark.parametrize(
    ("out", "stem"), [("model.v2", "model.v2"), ("model.v2.json", "model.v2"), ("m.safetensors", "m")]
)
def test_a_dot_in_the_name_of_an_export_stays(run: Run, pets: Path, tmp_path: Path, out: str, stem: str) -> None:
    facts = as_json(run, "export", pets, "pets", "--out", tmp_path / out)
    assert (facts["weights"], facts["route"]) == (str(tmp_path / f"{stem}.safetensors"), str(tmp_path / f"{stem}.json"))
    assert (tmp_path / f"{stem}.json").is_file()


def test_show_log_and_lineage(run: Run, pets: Path) -> None:
    shown = as_json(run, "graph", "show", pets)
    assert [row["task"] for row in shown["tasks"]] == ["default/pets", "root"]
    assert as_json(run, "graph", "show", pets, "--version", 0)["tasks"][0]["task"] == "root"
    assert [commit["version"] for commit in as_json(run, "graph", "log", pets)] == [1, 0]
    pets_step, root_step = as_json(run, "graph", "lineage", pets, "pets")
    assert {layer["how"] for layer in pets_step["layers"]} == {"cloned", "new"}
    assert {layer["by"] for layer in root_step["layers"]} == {"root"}


def test_verify_with_answers(run: Run, pets: Path) -> None:
    report = as_json(run, "graph", "verify", pets, "--answers")
    assert report["ok"]
    assert {row["task"] for row in report["answers"]} == {"default/pets", "root"}
    assert all(row["bitIdentical"] for row in report["answers"])


def test_data_check(run: Run, images: Path) -> None:
    report = as_json(run, "data", "check", images)
    assert report["counts"]["train"] == {"cat": 16, "dog": 16}
    assert "2 labels; train 32" in run("data", "check", images).out


def test_graph_check_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    assert run("graph", "check", tmp_path / "store").code == 0
    assert contents(tmp_path / "store") == {}


def test_a_deep_check_says_what_it_tried_and_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    answer = run("graph", "check", tmp_path / "store", "--deep")
    assert answer.code == 0, answer.out + answer.err
    assert answer.out.count("ok   ") == 5
    assert answer.out.endswith(": fit\n")
    assert answer.err == ""
    assert contents(tmp_path / "store") == {}
    assert [path.name for path in (tmp_path / "store").iterdir()] == [".writing"]


def test_init_again_adopts_and_another_root_is_refused(run: Run, graph: Path, tmp_path: Path) -> None:
    assert run("graph", "init", graph, "--root", tmp_path / "root.yaml").code == 0
    (tmp_path / "other.yaml").write_text(ROOT.replace("seed: 0", "seed: 1"))
    answer = run("graph", "init", graph, "--root", tmp_path / "other.yaml")
    assert answer.code == 64
    assert "another root" in answer.err


def test_a_command_alone_prints_its_help(run: Run) -> None:
    for words in ([], ["graph"], ["data"], ["bench"], ["bench", "stream"]):
        answer = run(*words)
        assert answer.code == 64
        assert "usage: evergraft" in answer.out


def test_the_command_line_is_frozen() -> None:
    """A flag that goes away breaks somebody's script; one that comes is written here on purpose."""
    assert _flags(make_parser()) == {
        "": {"--help", "--version"},
        "run": {"--help", "--json", "--graph", "--threads", "--device", "--workers", "--at-once", "--passes"},
        "steward": {"--help", "--json"},
        "worker": {
            *(
                "--devices",
                "--help",
                "--json",
                "--graph",
                "--search",
                "--task",
                "--threads",
                "--device",
                "--status",
                "--report",
            )
        },
        "replay": {"--help", "--json"},
        "plan": {"--help", "--json", "--graph"},
        "predict": {"--help", "--json", "--version"},
        "explain": {"--help", "--json", "--version"},
        "export": {"--help", "--json", "--out", "--as-root", "--version"},
        "data": {"--help"},
        "data check": {"--help", "--json", "--format", "--train", "--validation", "--test", "--max-bad-fraction"},
        "bench": {"--help"},
        "bench stream": {"--help"},
        "bench stream data": {"--help", "--json", "--quick", "--any-data"},
        "bench stream run": {
            *("--help", "--json", "--methods", "--seeds", "--order", "--again"),
            *("--quick", "--any-data", "--results", "--root"),
        },
        "bench stream report": {
            "--help",
            "--json",
            "--quick",
            "--any-data",
            "--figures",
            "--page",
            "--picture",
            "--results",
            "--root",
        },
        "graph": {"--help"},
        "graph init": {"--help", "--json", "--root"},
        "graph check": {"--help", "--json", "--deep"},
        "graph show": {"--help", "--json", "--version"},
        "graph log": {"--help", "--json", "--limit"},
        "graph lineage": {"--help", "--json", "--version"},
        "graph verify": {"--help", "--json", "--answers", "--threads"},
        "graph gc": {"--help", "--json", "--grace", "--dry-run"},
        "graph restore": {"--help", "--json", "--task"},
        "graph remove": {"--help", "--json", "--force"},
        "graph copy": {"--help", "--json"},
        "graph import-root": {"--help", "--json", "--backbone", "--out"},
    }


def _flags(parser: Any, path: str = "") -> dict[str, set[str]]:
    found = {path: {flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")}}
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for name, child in action.choices.items():
                found |= _flags(child, f"{path} {name}".strip())
    return found


def test_an_interrupt_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evergraft.store.log.read_graph", stop)
    assert main(["graph", "show", str(tmp_path)]) == 130
    assert "goes on where this one was" in capsys.readouterr().err
