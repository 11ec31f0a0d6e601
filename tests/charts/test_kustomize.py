"""The chart and manifests/ are two ways to the same objects: what either renders is diffed, labels of Helm's aside."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.charts.conftest import ROOT, Object, Render

MANIFESTS = ROOT / "manifests"
OF_HELM = (
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
)
pytestmark = pytest.mark.slow
"""Where there is no kubectl, one is built."""

NAMESPACED = {"watch": {"namespaces": ["evergraft"]}, "crds": {"enabled": False}}
NETWORK = {"networkPolicy": {"enabled": True, "workers": {"namespaces": ["evergraft"]}}}
TWO = {"replicas": 2, "pdb": {"enabled": True}}


def built(kubectl: str, folder: Path) -> list[Object]:
    """What `kubectl apply -k` would apply."""
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return list(yaml.safe_load_all(done.stdout))


def plain(objects: Sequence[Object]) -> dict[tuple[str, str, str], Any]:
    """Objects by kind, namespace and name, without what only Helm writes, and without the tests of `helm test`."""
    found: dict[tuple[str, str, str], Any] = {}
    for value in copy.deepcopy(objects):
        metadata = value["metadata"]
        annotations = metadata.get("annotations", {})
        if value["kind"] == "Namespace" or "helm.sh/hook" in annotations:
            continue
        annotations.pop("helm.sh/resource-policy", None)
        if not annotations:
            metadata.pop("annotations", None)
        labels = metadata["labels"]
        if labels.get(OF_HELM[1]) == "Helm":
            for name in OF_HELM:
                labels.pop(name, None)
        if value["kind"] == "Deployment":
            # A patch moves what it changes to the front; no entry refers to another.
            for box in value["spec"]["template"]["spec"]["containers"]:
                box["env"].sort(key=lambda entry: entry["name"])
        found[value["kind"], metadata.get("namespace", ""), metadata["name"]] = value
    return found


@pytest.mark.parametrize(
    ("overlay", "components", "values"),
    [
        ("cluster", (), {}),
        ("namespaced", (), NAMESPACED),
        ("cluster", ("high-availability", "network-policy"), {**TWO, **NETWORK}),
        ("namespaced", ("high-availability", "network-policy"), {**NAMESPACED, **TWO, **NETWORK}),
    ],
    ids=["cluster", "namespaced", "cluster, all", "namespaced, all"],
)
def test_kustomize_and_the_chart_render_the_same(
    overlay: str, components: tuple[str, ...], values: dict[str, Any], kubectl: str, render: Render, tmp_path: Path
) -> None:
    def near(path: Path) -> str:
        return str(Path("/".join([".."] * len(tmp_path.resolve().parts[1:]))) / path.relative_to("/"))

    kustomization = {
        "resources": [near(MANIFESTS / "overlays" / overlay)],
        "components": [near(MANIFESTS / "components" / name) for name in components],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    ours, theirs = plain(built(kubectl, tmp_path)), plain(render(values))
    assert set(ours) == set(theirs)
    for key, value in ours.items():
        assert value == theirs[key], key


def test_the_crds_can_be_applied_alone(kubectl: str) -> None:
    objects = built(kubectl, MANIFESTS / "crds")
    assert [value["kind"] for value in objects] == ["CustomResourceDefinition"] * 2


def test_a_namespaced_overlay_has_nothing_of_the_cluster_s(kubectl: str) -> None:
    for value in built(kubectl, MANIFESTS / "overlays" / "namespaced"):
        assert value["metadata"]["namespace"] == "evergraft", value["kind"]
