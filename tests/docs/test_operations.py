"""docs/operations.md and the operator's code say the same reasons."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml

from evergraft.metrics import FAILURES, PHASES
from evergraft_operator.conditions import GRAPH_TYPES, TASK_TYPES
from evergraft_operator.events import Reason

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
DECIDES = (
    "admission",
    "conditions",
    "course",
    "deletion",
    "failures",
    "graphs",
    "graphstatus",
    "reconcile",
    "report",
    "runs",
    "scene",
    "stalls",
    "waiting",
    "whereabouts",
)
"""Modules that choose reasons."""
NO_REASONS = {
    # Kubernetes' own words, read or written elsewhere than in a reason.
    *("True", "False", "Unknown", "Failed", "Succeeded", "PodFailurePolicy", "OOMKilled"),
    *("ContainerCreating", "PodInitializing", "CreateContainerConfigError", "CreateContainerError"),
    *("RunContainerError", "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"),
    *("ImageInspectError", "RegistryUnavailable", "FailedCreate", "DeletionByPodGC", "DeletionByTaintManager"),
    # Kinds, values of specs, condition types.
    *("Task", "ModuleGraph", "Delete", "Retain", "Daily", "Weekly", "Monthly", "Never", "CPU"),
    *(*TASK_TYPES, *GRAPH_TYPES),
    # What is waited for between Jobs, told by the sentence alone.
    *("After", "BackOff", "ContainerConfig", "ReadingHead", "Reporting", "Stopping"),
    "GraphObserved",
}
MADE_UP = {f"{duty}Failed" for duty in ("Init", "Heads", "Remove", "Collect", "Verify")}
"""Reasons that the code puts together."""

Row = tuple[str, ...]


def tables() -> Iterator[tuple[str, str, Row]]:
    """Every row of every table: the chapter, the section in it, the cells."""
    chapter = section = ""
    for line in PAGE.splitlines():
        if line.startswith("## "):
            chapter, section = line[3:], ""
        elif line.startswith("### "):
            section = line[4:]
        elif line.startswith("|") and not line.startswith("| ---"):
            yield chapter, section, tuple(cell.strip() for cell in line.strip("|").split("|"))


def documented() -> set[tuple[str, str, str, str]]:
    """Kind, condition, status and reason of every row about conditions."""
    return {
        (chapter, section, row[0], row[1].strip("`"))
        for chapter, section, row in tables()
        if chapter in ("Task", "ModuleGraph") and row[0] in ("True", "False", "Unknown")
    }


def first_column(chapter: str) -> list[str]:
    return [row[0].strip("`") for found, _, row in tables() if found == chapter and row[0].startswith("`")]


def in_code() -> set[str]:
    """Words in the code that look like reasons."""
    words = set()
    for name in DECIDES:
        tree = ast.parse((ROOT / f"operator/evergraft_operator/{name}.py").read_text())
        texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        words |= {text for text in texts if isinstance(text, str) and re.fullmatch(r"[A-Z][a-zA-Z]+", text)}
    return words


def told() -> set[str]:
    """Every reason the page has a row for."""
    return {row[3] for row in documented()} | set(first_column("Failures")) | set(first_column("Events"))


def test_every_reason_in_the_code_is_on_the_page() -> None:
    shared = {"Stalled", "Suspended", "Verified", "Accepted"}
    assert (in_code() | MADE_UP) - (NO_REASONS - shared) - told() == set()


def test_every_reason_on_the_page_is_in_the_code() -> None:
    events = set(get_args(Reason))
    assert told() - in_code() - MADE_UP - events == set()


def test_what_is_no_reason_is_needed_here() -> None:
    """An exception that nothing needs would hide a reason of that name."""
    types = {*TASK_TYPES, *GRAPH_TYPES}
    assert NO_REASONS - types <= in_code()


@pytest.mark.parametrize("path", sorted((ROOT / "tests/gitops/objects").glob("*.yaml")), ids=lambda path: path.stem)
def test_conditions_that_the_operator_writes_have_their_row(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    conditions = document.get("status", {}).get("conditions", [])
    written = {(document["kind"], item["type"], item["status"], item["reason"]) for item in conditions}
    assert written - documented() == set()


def test_events_failures_and_phases_are_complete() -> None:
    assert set(first_column("Events")) == set(get_args(Reason))
    assert first_column("Failures") == list(FAILURES)
    assert first_column("At a glance") == list(PHASES)


def test_every_row_says_what_to_do() -> None:
    for _, section, row in tables():
        if row[0] in ("True", "False", "Unknown"):
            assert len(row) == 4, (section, row)
            assert all(row), (section, row)
