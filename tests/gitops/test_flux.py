"""Flux's health checks, by another CEL implementation than Flux's; that one is asked in test_go.py."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from cel_expr_python import cel
from tests.gitops.examples import DOCS, SETS, expressions
from tests.gitops.expected import EXPECTED
from tests.gitops.record import OBJECTS

RECORDED = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(OBJECTS.glob("*.yaml"))}
FIELDS = ("metadata", "spec", "status")


def holds(expression: str, document: dict[str, Any]) -> bool:
    env = cel.NewEnv(variables=dict.fromkeys(FIELDS, cel.Type.DYN))
    data = {name: document[name] for name in FIELDS if name in document}
    result = env.compile(expression).eval(data=data)
    if result.type() == cel.Type.ERROR:
        raise ValueError(str(result.value()))
    found = result.value()
    assert isinstance(found, bool)
    return found


def verdict(name: str, document: dict[str, Any]) -> str:
    """What Flux says: its order is fixed, and a newer generation than the observed one is always in progress."""
    observed = document.get("status", {}).get("observedGeneration")
    if observed is not None and observed != document["metadata"]["generation"]:
        return "InProgress"
    expressions_here = expressions(name)[document["kind"]]
    for field, said in (("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current")):
        try:
            if field in expressions_here and holds(expressions_here[field], document):
                return said
        except (ValueError, RuntimeError):
            return "Waiting"
    return "InProgress"


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("set_name", SETS)
def test_health(name: str, set_name: str) -> None:
    assert verdict(set_name, RECORDED[name]) == EXPECTED[name][1 + SETS.index(set_name)]


@pytest.mark.parametrize("set_name", SETS)
def test_examples_are_kustomizations_that_wait(set_name: str) -> None:
    document = yaml.safe_load((DOCS / f"flux/{set_name}.yaml").read_text())
    source = yaml.safe_load((DOCS / "flux/source.yaml").read_text())
    assert document["spec"]["wait"] is True
    assert document["spec"]["sourceRef"] == {"kind": source["kind"], "name": source["metadata"]["name"]}
    assert set(expressions(set_name)) == {"Task", "ModuleGraph"}
