"""The same verdicts by the libraries that Flux and Argo CD are made of: fluxcd's CEL evaluator, kstatus, gopher-lua."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.absent import absent
from tests.gitops.examples import SETS, expressions, health_lua
from tests.gitops.expected import EXPECTED
from tests.gitops.record import OBJECTS

SOURCES = Path(__file__).resolve().parent / "go"
BUILD_S = 1500

pytestmark = [pytest.mark.slow, pytest.mark.timeout(BUILD_S + 120)]


@pytest.fixture(scope="session")
def program() -> Path:
    """The Go program, built once for its sources and kept outside of the tree."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        absent("Flux's and kstatus' libraries: there is no Go compiler here")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir()))).hexdigest()[:16]
    home = Path(os.environ.get("EVERGRAFT_CACHE") or Path.home() / ".cache" / "evergraft")
    built = home / f"bin-gitops-{digest}" / "gitops"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        made = built.with_name(f"new-{os.getpid()}")
        command = [go, "build", "-trimpath", "-ldflags=-s -w", "-o", str(made), "."]
        done = subprocess.run(command, cwd=SOURCES, check=False, capture_output=True, text=True, timeout=BUILD_S)
        if done.returncode != 0 and ("dial tcp" in done.stderr or "no such host" in done.stderr):
            absent("Flux's and kstatus' libraries: their Go modules cannot be fetched")
        assert done.returncode == 0, done.stderr[-2000:]
        made.replace(built)
    return built


@pytest.fixture(scope="module")
def verdicts(program: Path) -> dict[str, dict[str, str]]:
    """What each library makes of each object."""
    objects = {path.stem: yaml.safe_load(path.read_text()) for path in OBJECTS.glob("*.yaml")}
    given = {
        "objects": objects,
        "flux": {name: expressions(name) for name in SETS},
        "lua": {kind: health_lua(kind) for kind in ("Task", "ModuleGraph")},
    }
    done = subprocess.run(
        [str(program)], input=json.dumps(given), check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", EXPECTED)
def test_verdicts(verdicts: dict[str, dict[str, str]], name: str) -> None:
    told = verdicts[name]
    assert (told["argo"], told["accepted"], told["trained"], told["kstatus"]) == EXPECTED[name]
