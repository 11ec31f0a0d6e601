"""The examples in docs/gitops as the tests read them: Lua out of argocd-cm, expressions out of Kustomizations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).resolve().parents[2] / "docs/gitops"
SETS = ("accepted", "trained")


def customizations() -> dict[str, str]:
    """The ConfigMap's keys."""
    document: dict[str, Any] = yaml.safe_load((DOCS / "argocd/argocd-cm.yaml").read_text())
    found: dict[str, str] = document["data"]
    return found


def health_lua(kind: str) -> str:
    """How Argo CD tells a kind's health."""
    return customizations()[f"resource.customizations.health.evergraft.dev_{kind}"]


def actions_lua() -> tuple[str, dict[str, str]]:
    """The discovery of a Task's actions, and each action by name."""
    value = yaml.safe_load(customizations()["resource.customizations.actions.evergraft.dev_Task"])
    return value["discovery.lua"], {item["name"]: item["action.lua"] for item in value["definitions"]}


def expressions(name: str) -> dict[str, dict[str, str]]:
    """A set of Flux's expressions: current, failed and inProgress by kind."""
    document = yaml.safe_load((DOCS / f"flux/{name}.yaml").read_text())
    items = document["spec"]["healthCheckExprs"]
    assert all(item["apiVersion"] == "evergraft.dev/v1alpha1" for item in items)
    return {item["kind"]: {k: v for k, v in item.items() if k not in ("apiVersion", "kind")} for item in items}
