"""torch for CPUs out of the CUDA build that package indexes have: libraries for GPUs become hollow ones.

torch's wheel asks for 3 GB of CUDA libraries that a CPU never enters, only for the loader to be content. Here each is
replaced by a small library of the same name that defines what the rest of torch looks for: functions that end the
process and say so. What computes on CPUs stays as it is, so results are the same bits. wheelhouse.py calls it.
An image made with it is for tests and must never be published.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.harness.commands import run
from tests.cluster.harness.errors import ClusterError
from tests.cluster.harness.packages import install
from tests.cluster.images import stubs

COMPILER = {"gcc": "gcc", "libc6-dev": "/usr/include/stdio.h", "binutils": "readelf"}
FOR_GPUS = ("libtorch_cuda.so", "libcaffe2_nvrtc.so", "libtorch_cuda_linalg.so", "libtorch_nvshmem.so")
"""torch's own libraries that a CPU never enters."""
CUDA_RUNTIME = "libcudart.so.13"
"""The one library of CUDA's that is kept: asked for devices, it rightly finds none."""
GPU_PROJECTS = re.compile(r"Requires-Dist: (nvidia-|cuda-|triton)")


def hollow(wheel: Path, torchvision: Path, cuda_runtime: Path) -> None:
    """Rewrite torch's wheel in place. Of the other wheels one uses its libraries, one has NVIDIA's runtime library.

    Raises:
        ClusterError: this torch is made differently from what is known here.
    """
    install(COMPILER)
    with tempfile.TemporaryDirectory(dir=wheel.parent.parent) as scratch:
        root = Path(scratch) / "torch"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root)
        libraries = root / "torch" / "lib"
        with zipfile.ZipFile(cuda_runtime) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(f"/{CUDA_RUNTIME}"))
            (libraries / CUDA_RUNTIME).write_bytes(archive.read(name))
        _hollow_libraries(libraries, _extensions(torchvision, Path(scratch)), Path(scratch) / "originals")
        _say_no_cuda(root / "torch" / "backends" / "cuda" / "__init__.py")
        (information,) = root.glob("torch-*.dist-info")
        _drop_requirements(information / "METADATA")
        _pack(root, information, wheel)


def _extensions(torchvision: Path, scratch: Path) -> list[Path]:
    """torchvision's libraries that are linked to torch's."""
    with zipfile.ZipFile(torchvision) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(r"torchvision/\w+\.so", name)]
        return [Path(archive.extract(name, scratch)) for name in names]


def _hollow_libraries(libraries: Path, users: Sequence[Path], originals: Path) -> None:
    originals.mkdir()
    for name in FOR_GPUS:
        shutil.move(libraries / name, originals / name)
    kept = sorted(path for path in libraries.glob("*.so*") if path.is_file())
    for path in kept:
        run("strip", "--strip-unneeded", str(path))
    kinds = {symbol: kind for name in FOR_GPUS for symbol, kind in stubs.defined(originals / name).items()}
    for soname, symbols in stubs.wanted(kept, users, home=FOR_GPUS[0], known=kinds).items():
        stubs.write(libraries / soname, symbols, kinds)


def _say_no_cuda(module: Path) -> None:
    """Have torch take itself for a build without CUDA, so that it does not look for kernels at import."""
    before, found, after = module.read_text().partition("return torch._C._has_cuda")
    if not found:
        raise ClusterError(f"{module}: torch.backends.cuda.is_built is written differently now; see hollow.py")
    module.write_text(f"{before}return False{after}")


def _drop_requirements(metadata: Path) -> None:
    """Do without CUDA's projects, as builds of torch for CPUs do."""
    lines = metadata.read_text().splitlines(keepends=True)
    metadata.write_text("".join(line for line in lines if not GPU_PROJECTS.match(line)))


def _pack(root: Path, information: Path, wheel: Path) -> None:
    """Write the wheel anew, with a record of what is in it now."""
    record = information / "RECORD"
    record.unlink()
    files = sorted(path for path in root.rglob("*") if path.is_file())
    lines = [_recorded(path.relative_to(root).as_posix(), path.read_bytes()) for path in files]
    record.write_text("".join([*lines, f"{record.relative_to(root).as_posix()},,\n"]))
    wheel.unlink()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as archive:
        for path in [*files, record]:
            archive.write(path, path.relative_to(root).as_posix())


def _recorded(name: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"
