"""Wheels for a build without a network: what the images install, downloaded by this machine's pip as it is set up.

The build sees them through a bind mount and a pip.conf mounted the same way, so neither the Dockerfiles nor the
images know of it. torch's libraries for GPUs are made hollow by hollow.py.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.harness.commands import run
from tests.cluster.images.cache import ROOT, kept, key
from tests.cluster.images.hollow import hollow

MOUNT = "/wheelhouse"
TIMEOUT_S = 1800
PIP_CONF = f"[global]\nno-index = true\nfind-links = {MOUNT}\n"
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"
TORCH = ROOT / "requirements" / "torch-cpu.txt"
HERE = Path(__file__).parent


def operator_wheels() -> Path:
    """The folder for the operator's image: ``wheels`` and ``pip.conf``."""
    wanted = _extras("operator", "gcs", "s3")
    return kept("wheels_operator", key(Path(__file__), CONSTRAINTS, wanted), lambda place: _fill(place, wanted))


def trainer_wheels() -> Path:
    """The same for the trainer's image on CPU."""
    wanted = _extras("trainer", "gcs", "s3", "--without", "torch", "torchvision")

    def make(place: Path) -> None:
        _add_torch(place)
        _fill(place, wanted + _own_requirements(place / "wheels"))

    code = (Path(__file__), HERE / "hollow.py", HERE / "stubs.py")
    return kept("wheels_trainer", key(*code, CONSTRAINTS, TORCH, wanted), make)


def _add_torch(place: Path) -> None:
    """torch made hollow, with CUDA's runtime library at the version that torch pins, and torchvision."""
    runtime = place / "runtime"
    download(place / "wheels", ["--no-deps", "--requirement", str(TORCH)])
    (toolkit,) = (line for line in _requires(place / "wheels", "torch") if line.startswith("cuda-toolkit["))
    version = toolkit.split(";")[0].partition("==")[2].strip()
    download(runtime, ["--no-deps", f"cuda-toolkit=={version}"])
    (pinned,) = {
        line.split(";")[0]
        for line in _requires(runtime, "cuda_toolkit")
        if line.startswith("nvidia-cuda-runtime") and re.search(r"""extra == ['"]cudart['"]""", line)
    }
    download(runtime, ["--no-deps", pinned])
    (torch,), (torchvision,) = ((place / "wheels").glob(f"{name}-*.whl") for name in ("torch", "torchvision"))
    hollow(torch, torchvision, next(runtime.glob("nvidia_cuda_runtime-*.whl")))
    shutil.rmtree(runtime)


def _own_requirements(wheels: Path) -> str:
    """What hollow torch still asks for, to download with the rest."""
    return "".join(f"{line}\n" for line in _requires(wheels, "torch") if "extra ==" not in line)


def _requires(wheels: Path, project: str) -> list[str]:
    """The requirements in a wheel's metadata."""
    (wheel,) = wheels.glob(f"{project}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        text = archive.read(name).decode()
    return re.findall(r"^Requires-Dist: (.+)$", text, re.MULTILINE)


def _extras(*arguments: str) -> str:
    """What the Dockerfile's own stage would ask for."""
    program = ROOT / "requirements" / "extras.py"
    return run(sys.executable, str(program), "--pyproject", str(ROOT / "pyproject.toml"), *arguments)


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
    # This machine's pip as it is set up: its settings may be in the environment.
    run(*command, "--dest", str(wheels), *target, *what, timeout_s=TIMEOUT_S, env=os.environ)
