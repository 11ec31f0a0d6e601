"""Wheels for a build without a network: what the images install, downloaded by this machine's pip as it is set up.

The build sees them through a bind mount and a pip.conf mounted the same way, so neither the Dockerfiles nor the
images know of it. torch and CUDA's libraries come from slimtorch.py.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.images.cache import ROOT, kept, key
from tests.cluster.images.slimtorch import add_torch, key_of_torch

MOUNT = "/wheelhouse"
PIP_CONF = f"[global]\nno-index = true\nfind-links = {MOUNT}\n"
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"


def operator_wheels() -> Path:
    """The folder for the operator's image: ``wheels`` and ``pip.conf``."""
    wanted = _extras("operator", "gcs", "s3")
    return kept("wheels_operator", key(Path(__file__), CONSTRAINTS, wanted), lambda place: _fill(place, wanted))


def trainer_wheels() -> Path:
    """The same for the trainer's image on CPU."""
    wanted = _extras("trainer", "gcs", "s3", "--without", "torch", "torchvision")

    def make(place: Path) -> None:
        _fill(place, wanted)
        add_torch(place / "wheels")

    return kept("wheels_trainer", key(Path(__file__), CONSTRAINTS, wanted, key_of_torch()), make)


def _extras(*arguments: str) -> str:
    """What the Dockerfile's own stage would ask for."""
    program = ROOT / "requirements" / "extras.py"
    done = subprocess.run(
        [sys.executable, str(program), *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def _fill(place: Path, wanted: str) -> None:
    (place / "pip.conf").write_text(PIP_CONF)
    (place / "requirements.txt").write_text(wanted + "hatchling\n")
    download(place / "wheels", ["--requirement", str(place / "requirements.txt"), "--constraint", str(CONSTRAINTS)])


def download(wheels: Path, what: Sequence[str]) -> None:
    """Download wheels that the base image's Python can use, whatever Python runs this."""
    wheels.mkdir(exist_ok=True)
    machine = platform.machine()
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(36, 4, -1)]
    platforms += [f"--platform={name}_{machine}" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux")]
    target = ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp", *platforms]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "--dest", str(wheels), *target, *what], check=True)
