"""The numeric profile: everything that decides the bits of a computation, as settings and as a recorded value.

Under one profile a result is the same bits for ever; under another it agrees within a tolerance. ``apply`` is called
once per process before the first tensor; ``current_profile`` is recorded in every result. Attention is pinned where
it is computed (``nn.vit``).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch.utils import deterministic

from evergraft import canonical
from evergraft_trainer.device import Device

CUBLAS_WORKSPACE = ":4096:8"
"""cuBLAS is deterministic only with a workspace of its own (its manual, "Results reproducibility")."""

ATTENTION = {"cpu": "flash", "cuda": "math", "xla": "math"}
SETTINGS = {
    "deterministicAlgorithms": True,
    "cudnnBenchmark": False,
    "tf32": False,
    "mhaFastpath": False,
    "layout": "contiguous",
}
"""What `apply` sets, as recorded."""

_PER_RUN = ("dtype", "batchSize", "digest")
"""The parts of a profile that belong to one computation rather than to the process."""


def apply(*, threads: int | None = 1) -> None:
    """Set this process up for reproducible numbers: to be called before CUDA starts.

    `threads` is the number of CPU threads of one operation, part of the profile; None leaves it as it is.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    torch.use_deterministic_algorithms(True)
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.mha.set_fastpath_enabled(False)
    if threads is not None:
        torch.set_num_threads(threads)


def current_profile(device: Device, *, dtype: str, batch_size: int) -> dict[str, Any]:
    """The profile of a computation here: versions, hardware, threads, dtype (Float32 | BFloat16), batch, settings.

    ``digest`` names it: equal digests promise equal bits.
    """
    profile: dict[str, Any] = {
        "versions": _versions(device),
        "device": device.kind,
        "name": _hardware(device),
        "threads": torch.get_num_threads(),
        "attention": ATTENTION[device.kind],
        "dtype": dtype,
        "batchSize": batch_size,
        "settings": {**SETTINGS, "cublasWorkspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG", "")},
    }
    return {**profile, "digest": canonical.digest(profile)}


def same_numerics(profile: Mapping[str, Any], device: Device) -> bool:
    """Whether a recorded profile is this process's, whatever dtype and batch it was recorded for."""
    here = current_profile(device, dtype="", batch_size=0)
    return {k: v for k, v in profile.items() if k not in _PER_RUN} == {
        k: v for k, v in here.items() if k not in _PER_RUN
    }


def _versions(device: Device) -> dict[str, str]:
    names = ("torch", "torchvision", "numpy", "Pillow", *(("torch_xla",) if device.kind == "xla" else ()))
    found = {name: _version(name) for name in names}
    if device.kind == "cuda":
        return {**found, "cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    if device.kind == "cpu":
        return {**found, "blas": _blas()}
    return found


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _blas() -> str:
    lines = (line.strip(" -") for line in torch.__config__.show().splitlines())
    return "; ".join(line.split(" (Git")[0] for line in lines if "Math Kernel" in line or "MKL-DNN" in line)


def _hardware(device: Device) -> str:
    """The device's name; on a CPU the dispatch level and the model, as BLAS picks its kernels and blocks by both."""
    return f"{device.name} {_cpu_model()}" if device.kind == "cpu" else device.name


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    wanted = ("model name", "cpu family", "model")
    return "/".join(facts[name].strip() for name in wanted if name in facts) or platform.machine()
