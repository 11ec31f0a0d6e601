"""What the Dockerfiles are built from: their rules, and requirements that say every version exactly."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILES = [ROOT / part / "Dockerfile" for part in ("operator", "trainer")]
PINNED = {"torch", "torchvision", "torch-xla"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def extras() -> ModuleType:
    """requirements/extras.py."""
    spec = importlib.util.spec_from_file_location("extras", ROOT / "requirements" / "extras.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pins(name: str) -> dict[str, str]:
    """Versions by project in a file of requirements/; anything but an exact version fails."""
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[0-9][\w.]*", str(requirement.specifier)) for requirement in found)
    return {canonicalize_name(requirement.name): str(requirement.specifier)[2:] for requirement in found}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_each_keeps_the_rules(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    final = text[text.rindex("\nFROM ") :]
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"python:3.11-slim-bookworm"}
    assert re.findall(r"^USER (.+)$", final, re.MULTILINE) == ["65532:65532"]
    assert f"ARG VERSION={PROJECT['version']}\n" in final
    assert "://" not in text
    assert "apt" not in re.findall(r"\w+", text)


@pytest.mark.parametrize("accelerator", ["cpu", "cuda", "tpu"])
@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_everything_that_an_image_installs_has_one_version(path: Path, accelerator: str, extras: ModuleType) -> None:
    wanted = {"operator": ["operator", "gcs", "s3"], "trainer": ["trainer", "gcs", "s3"]}[path.parent.name]
    assert f"python extras.py {' '.join(wanted)}" in path.read_text(encoding="utf-8")
    exact = pins("constraints.txt") | pins(f"torch-{accelerator}.txt")
    for line in extras.requirements(ROOT / "pyproject.toml", wanted):
        requirement = Requirement(line)
        version = exact[canonicalize_name(requirement.name)]
        # torch_xla is made for a torch that is older than what the other accelerators get.
        if accelerator != "tpu" or canonicalize_name(requirement.name) not in PINNED:
            assert requirement.specifier.contains(version), (line, version)


def test_constraints_leave_torch_to_the_accelerator() -> None:
    assert not PINNED & set(pins("constraints.txt"))
    assert pins("torch-cpu.txt") == pins("torch-cuda.txt")
    assert set(pins("torch-tpu.txt")) == PINNED


def test_extras_are_read_and_named_wrong(extras: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\ndependencies = ["b>=1"]\n[project.optional-dependencies]\nx = ["a_A[e]>2", "b>=1"]\n')
    assert extras.requirements(path, ["x"]) == ["a_A[e]>2", "b>=1"]
    assert extras.requirements(path, ["x"], ["a-a"]) == ["b>=1"]
    with pytest.raises(KeyError, match="y"):
        extras.requirements(path, ["y"])
