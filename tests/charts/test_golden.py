"""What the chart renders to for a few value files, whole, so that every change of a template is seen.

Write them anew with EVERGRAFT_WRITE_GOLDEN=1 and read the difference.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml
from tests.charts.conftest import CHART, VALUES, Helm, Object, Render, values_file

GOLDEN = Path(__file__).resolve().parent / "golden"
NAMES = sorted(path.stem for path in VALUES.iterdir())


def from_a_file(value: Object) -> bool:
    """Whether it only holds what a file holds, which has tests of its own."""
    return value["kind"] in ("CustomResourceDefinition", "PrometheusRule", "ConfigMap")


@pytest.mark.parametrize("name", NAMES)
def test_the_chart_renders_as_it_did(name: str, render: Render) -> None:
    objects = [value for value in render(values_file(name)) if not from_a_file(value)]
    text = yaml.safe_dump_all(objects, width=120, allow_unicode=True)
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("EVERGRAFT_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_every_golden_file_has_its_values() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_helm_lint_finds_nothing(name: str, helm: Helm) -> None:
    done = helm("lint", str(CHART), "--strict", "--kube-version", "1.37.0", "--values", str(VALUES / f"{name}.yaml"))
    assert done.returncode == 0, done.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith(("[WARNING]", "[ERROR]"))] == []


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({}, "No policy is set"),
        ({"watch": {"namespaces": ["a", "b"]}}, "namespaces a, b."),
        ({"crds": {"enabled": False}}, "has to bring the CRDs"),
        ({"replicas": 2}, "without a PodDisruptionBudget"),
    ],
)
def test_notes_say_what_is_left_to_do(values: dict[str, object], part: str, helm: Helm, tmp_path: Path) -> None:
    # Notes are shown by an install only, so they are rendered as a template of a copy.
    templates = shutil.copytree(CHART, tmp_path / "evergraft") / "templates"
    notes = (templates / "NOTES.txt").read_text()
    for path in templates.rglob("*.*"):
        if path.name != "_helpers.tpl":
            path.unlink()
    (templates / "_notes.tpl").write_text(f'{{{{ define "notes" }}}}{notes}{{{{ end }}}}')
    (templates / "notes.yaml").write_text('{{ dict "notes" (include "notes" .) | toYaml }}')
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    done = helm(
        *("template", "evergraft", str(templates.parent), "--namespace", "ops", "--kube-version", "1.37.0"),
        *("--values", str(tmp_path / "values.yaml")),
    )
    assert done.returncode == 0, done.stderr
    shown = yaml.safe_load(done.stdout)["notes"]
    assert part in shown
    assert "-n ops" in shown
