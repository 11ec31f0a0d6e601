"""The one seam to devices: cpu, cuda and xla behind the same few verbs.

The training loop, evaluation and serving ask nothing else of a device. torch_xla is imported only when an xla device
is opened. ``open_device`` is called once per process, by the worker and by local runs.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from evergraft.errors import UserError

DeviceKind = Literal["cpu", "cuda", "xla"]

_EXHAUSTED = ("out of memory", "RESOURCE_EXHAUSTED", "can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Device:
    """One device. `name` is the hardware's own, for the numeric profile."""

    kind: DeviceKind
    torch_device: torch.device
    name: str

    def put(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor on this device; the same one if it is there already."""
        return tensor.to(self.torch_device, non_blocking=self.kind == "cuda")

    def autocast(self, precision: str) -> AbstractContextManager[Any]:
        """The context to run a forward pass in: bfloat16 for precision BFloat16, plain float32 for Float32.

        Raises:
            UserError: another precision.
        """
        if precision == "Float32":
            return nullcontext()
        if precision == "BFloat16":
            return torch.autocast(self.kind, dtype=torch.bfloat16)
        raise UserError(f"search.precision: {precision!r} is unknown; allowed: Float32, BFloat16")

    def inference(self) -> AbstractContextManager[Any]:
        """The context of a forward pass without gradients; xla cannot hold inference tensors."""
        return torch.no_grad() if self.kind == "xla" else torch.inference_mode()

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Step the optimiser and, on xla, cut the graph here."""
        optimizer.step()
        self.mark_step()

    def mark_step(self) -> None:
        """Tell a lazy device (xla) to run what was traced so far; nothing elsewhere."""
        if self.kind == "xla":
            _xla_model().mark_step()

    def synchronize(self) -> None:
        """Wait until everything asked of the device is done."""
        if self.kind == "cuda":
            torch.cuda.synchronize(self.torch_device)
        elif self.kind == "xla":
            _xla_model().mark_step()
            _xla_model().wait_device_ops()

    def free_memory(self) -> int | None:
        """Bytes that could still be allocated here, roughly; None where nobody can tell (xla)."""
        if self.kind == "cuda":
            idle = torch.cuda.memory_reserved(self.torch_device) - torch.cuda.memory_allocated(self.torch_device)
            return int(torch.cuda.mem_get_info(self.torch_device)[0]) + int(idle)
        return free_memory() if self.kind == "cpu" else None

    def release_memory(self) -> None:
        """Give cached memory back, after an exhaustion."""
        if self.kind == "cuda":
            torch.cuda.empty_cache()


def open_device(kind: str) -> Device:
    """Open a device of this kind.

    Raises:
        UserError: this machine has none, or torch is built without it.
    """
    if kind == "cpu":
        return Device(kind="cpu", torch_device=torch.device("cpu"), name=torch.backends.cpu.get_cpu_capability())
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise UserError("device cuda: torch sees no GPU here; use --device cpu or install the driver")
        index = torch.cuda.current_device()
        return Device(kind="cuda", torch_device=torch.device("cuda", index), name=torch.cuda.get_device_name(index))
    if kind == "xla":
        device = _xla_model().xla_device()
        return Device(kind="xla", torch_device=device, name=str(_xla_model().xla_device_hw(device)))
    raise UserError(f"device {kind!r} is unknown; allowed: cpu, cuda, xla")


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes of this computer's memory that a process can still use, its cgroup's limit (version 2) included."""
    try:
        facts = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text().splitlines())
        free = int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        group = root / "sys/fs/cgroup"
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return free if limit == "max" else min(free, int(limit) - int(used) + int(stat["inactive_file"]))
    except (OSError, KeyError, ValueError):
        return free


def is_memory_exhausted(error: BaseException) -> bool:
    """Whether an error says that the device's memory is exhausted."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _EXHAUSTED)


def _xla_model() -> Any:
    try:
        from torch_xla.core import xla_model
    except ImportError as error:
        raise UserError(f"device xla: torch_xla is not installed here ({error}); use the TPU image") from None
    return xla_model
