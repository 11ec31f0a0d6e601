from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime
from tests.gitops.examples import DOCS, actions_lua, customizations, health_lua
from tests.gitops.expected import EXPECTED
from tests.gitops.record import OBJECTS, objects

RECORDED = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(OBJECTS.glob("*.yaml"))}


def table(lua: Any, value: Any) -> Any:
    """A value as Argo CD gives it to Lua."""
    if isinstance(value, dict):
        return lua.table_from({key: table(lua, item) for key, item in value.items()})
    if isinstance(value, list):
        return lua.table_from([table(lua, item) for item in value])
    return value


def plain(value: Any) -> Any:
    """A Lua table as JSON would have it."""
    if not hasattr(value, "items"):
        return value
    found = {key: plain(item) for key, item in value.items()}
    return list(found.values()) if found and set(found) == set(range(1, len(found) + 1)) else found


def run(script: str, document: dict[str, Any]) -> Any:
    """Run a script on an object, without any of Lua's libraries that Argo CD leaves out."""
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    for name in ("io", "package", "require", "dofile", "loadfile", "debug", "string", "math", "coroutine"):
        lua.globals()[name] = None
    lua.globals().obj = table(lua, document)
    return plain(lua.execute(script))


def test_what_is_recorded_is_what_the_operator_writes() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in OBJECTS.iterdir()}
    assert written == objects(), "run `python -m tests.gitops.record`"


def test_every_phase_is_recorded() -> None:
    phases = {document.get("status", {}).get("phase") for name, document in RECORDED.items() if name.startswith("task")}
    assert phases == {
        None,
        "Pending",
        "Queued",
        "Starting",
        "Training",
        "Committing",
        "Succeeded",
        "Failed",
        "Suspended",
        "Deleting",
    }
    assert set(RECORDED) == set(EXPECTED)


def test_what_is_stalled_is_not_said_to_go_on() -> None:
    """Tools that look at Reconciling first would wait for ever."""
    for name, document in RECORDED.items():
        told = {item["type"]: item["status"] for item in document.get("status", {}).get("conditions", [])}
        assert (told.get("Stalled"), told.get("Reconciling")) != ("True", "True"), name


@pytest.mark.parametrize("name", EXPECTED)
def test_health(name: str) -> None:
    document = RECORDED[name]
    health = run(health_lua(document["kind"]), document)
    assert health["status"] == EXPECTED[name][0]
    assert isinstance(health["message"], str)
    assert health["message"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("task-failed-no-candidate", "NoCandidate: run i1-c1: no candidate came to a route worth committing"),
        ("task-queued-nodes", "a node: 0/3 nodes are available: 3 Insufficient gpu"),
        ("task-committing", "run i1-c1 is being committed (2/4)"),
        ("graph-ready-damaged", "Damaged: module ab12… differs from its name"),
        ("task-new", "waiting for the operator"),
    ],
)
def test_health_says_why(name: str, message: str) -> None:
    assert run(health_lua(RECORDED[name]["kind"]), RECORDED[name])["message"].startswith(message)


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("task")])
def test_actions_are_offered_where_they_make_sense(name: str) -> None:
    document = RECORDED[name]
    offered = {action for action, state in run(actions_lua()[0], document).items() if not state["disabled"]}
    suspended, phase = document["spec"].get("suspend") is True, document.get("status", {}).get("phase")
    wanted = set()
    if phase != "Deleting":
        wanted.add("resume" if suspended else "suspend")
        if phase in ("Succeeded", "Failed"):
            wanted.add("evolve")
    assert offered == wanted


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("suspend", {}, {"suspend": True}),
        ("suspend", {"suspend": False}, {"suspend": True}),
        ("resume", {"suspend": True}, {"suspend": False}),
        ("evolve", {}, {"iteration": 2}),
        ("evolve", {"iteration": 41}, {"iteration": 42}),
    ],
)
def test_an_action_changes_one_field(action: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    document = copy.deepcopy(RECORDED["task-succeeded"])
    for name in ("suspend", "iteration"):
        document["spec"].pop(name, None)
    document["spec"] |= before
    changed = run(actions_lua()[1][action], copy.deepcopy(document))
    assert changed == {**document, "spec": {**document["spec"], **after}}
    assert json.dumps(changed["spec"].get("iteration", 1)) in ("1", "2", "42")


def test_there_are_customizations_of_our_kinds_and_no_others() -> None:
    assert set(customizations()) == {
        "resource.customizations.health.evergraft.dev_Task",
        "resource.customizations.health.evergraft.dev_ModuleGraph",
        "resource.customizations.actions.evergraft.dev_Task",
    }
    assert set(actions_lua()[1]) == {"suspend", "resume", "evolve"}
    application = yaml.safe_load((DOCS / "argocd/application.yaml").read_text())
    assert application["kind"] == "Application"
