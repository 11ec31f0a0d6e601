"""The workflow for a public forge, which nobody runs here: its form, and that what it calls exists."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml
from tests.docs.blocks import REPOSITORY

PATH = REPOSITORY / ".github/workflows/ci.yaml"
TEXT = PATH.read_text(encoding="utf-8")


class Strict(yaml.SafeLoader):
    """YAML that refuses a key given twice, as forges do."""


def mapping(loader: Strict, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    assert len(keys) == len(set(keys)), f"a key twice in {keys}"
    return dict(zip(keys, (loader.construct_object(value, deep=True) for _, value in node.value), strict=True))


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
WORKFLOW = yaml.load(TEXT, Loader=Strict)
JOBS: dict[str, Any] = WORKFLOW["jobs"]
STEPS = [(name, number, step) for name, job in JOBS.items() for number, step in enumerate(job["steps"])]
SCRIPTS = [pytest.param(step["run"], id=f"{name}-{number}") for name, number, step in STEPS if "run" in step]


def test_it_says_that_it_was_not_run() -> None:
    assert "NOT RUN SO FAR" in TEXT


def test_its_parts_are_what_a_workflow_has() -> None:
    # YAML 1.1 reads the key `on` as a truth value.
    assert set(WORKFLOW) == {"name", True, "permissions", "concurrency", "jobs"}
    assert WORKFLOW["permissions"] == {"contents": "read"}
    for name, job in JOBS.items():
        assert set(job) <= {"name", "runs-on", "timeout-minutes", "steps", "container"}, name
        assert job["timeout-minutes"] <= 120
    for name, number, step in STEPS:
        assert ("run" in step) != ("uses" in step), (name, number)
        assert set(step) <= {"name", "run", "uses", "with", "env", "if"}, (name, number)


def test_actions_are_pinned_to_commits_and_say_their_version() -> None:
    used = re.findall(r"uses: (.+)$", TEXT, re.MULTILINE)
    assert len(used) == sum("uses" in step for *_, step in STEPS)
    for line in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
    by_action = {line.partition("@")[0]: line for line in used}
    assert set(used) == set(by_action.values()), "one action at two versions"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_shell(script: str) -> None:
    plain = re.sub(r"\$\{\{.*?\}\}", "x", script)
    done = subprocess.run(["bash", "-n"], input=plain, text=True, capture_output=True, check=False, timeout=20)
    assert done.returncode == 0, done.stderr


def test_what_it_calls_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    scripts = "\n".join(step.get("run", "") for *_, step in STEPS)
    targets = re.findall(r"^make ([a-z][\w-]*)", scripts, re.MULTILINE)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    images = (REPOSITORY / "images.txt").read_text(encoding="utf-8").split()
    assert set(re.findall(r"--tag (\S+)", TEXT)) <= set(images)
    from evergraft.testing import servers

    for name in re.findall(r"from evergraft\.testing\.servers import ([\w, ]+?)(?:;|$)", TEXT, re.MULTILINE):
        for each in name.split(", "):
            assert hasattr(servers, each), each


def test_no_secret_and_no_expression_reaches_a_shell() -> None:
    """An expression inside a script is put in before the shell reads it; settings go through the environment."""
    assert "secrets." not in TEXT
    assert all("${{" not in step.get("run", "") for *_, step in STEPS)
