"""The seam to devices, as far as a machine without an accelerator can hold it."""

from __future__ import annotations

import pytest
import torch

from evergraft.errors import UserError
from evergraft_trainer.device import is_memory_exhausted, open_device


def test_the_cpu_is_there_and_puts_nothing_anew() -> None:
    device = open_device("cpu")
    tensor = torch.ones(2)
    assert device.put(tensor) is tensor
    device.synchronize()
    device.mark_step()
    device.release_memory()


def test_precision_is_plain_or_bfloat16() -> None:
    device, a = open_device("cpu"), torch.ones(2, 2)
    with device.autocast("Float32"):
        assert (a @ a).dtype == torch.float32
    with device.autocast("BFloat16"):
        assert (a @ a).dtype == torch.bfloat16
    with pytest.raises(UserError, match=r"search\.precision: 'Float16' is unknown; allowed: Float32, BFloat16"):
        device.autocast("Float16")


def test_devices_that_are_not_here_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="device cuda: torch sees no GPU here"):
        open_device("cuda")
    monkeypatch.setitem(__import__("sys").modules, "torch_xla", None)
    with pytest.raises(UserError, match="device xla: torch_xla is not installed here"):
        open_device("xla")
    with pytest.raises(UserError, match="'tpu' is unknown; allowed: cpu, cuda, xla"):
        open_device("tpu")


def test_stepping_steps_the_optimiser() -> None:
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    parameter.grad = torch.ones(1)
    open_device("cpu").step(optimizer)
    assert parameter.item() == 0


@pytest.mark.parametrize(
    ("error", "exhausted"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Attempting to allocate"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_exhausted_memory_is_told_from_other_errors(error: Exception, exhausted: bool) -> None:
    assert is_memory_exhausted(error) is exhausted
