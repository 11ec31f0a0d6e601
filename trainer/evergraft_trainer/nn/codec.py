"""Between stored modules and networks.

A stored module is untrusted: its kind, config and shapes are checked against a network on the meta device before
any memory is taken. Weights are always copied into fresh contiguous allocations, because the bits of a matrix
product depend on how its operands are aligned. Called by ``assemble``, ``candidate``, ``extract`` and export.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from evergraft.errors import IntegrityError
from evergraft.graph.module import DTYPE_BYTES, Module, Tensor
from evergraft_trainer.nn.kinds import kind_of

assert sys.byteorder == "little", "tensors are stored little-endian and copied as they are"

_FLOATS = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def to_torch(tensor: Tensor, *, where: str) -> torch.Tensor:
    """A fresh tensor with the values of `tensor`; BF16 and F16 become fp32.

    Raises:
        IntegrityError: the dtype is none that weights have, or the bytes do not fill the shape.
    """
    if tensor.dtype not in _FLOATS and tensor.dtype != "I64":
        raise IntegrityError(f"{where}: dtype {tensor.dtype}; weights are F32, BF16 or F16 (counters I64)")
    if len(tensor.data) != tensor.elements * DTYPE_BYTES[tensor.dtype]:
        raise IntegrityError(f"{where}: {len(tensor.data)} bytes do not fill {tensor.dtype} {list(tensor.shape)}")
    fresh = torch.empty(tensor.shape, dtype=_FLOATS.get(tensor.dtype, torch.int64))
    if tensor.elements:
        fresh.view(-1).view(torch.uint8).numpy()[:] = np.frombuffer(tensor.data, dtype=np.uint8)
    return fresh.float() if tensor.dtype in _FLOATS else fresh


def from_torch(value: torch.Tensor, *, where: str) -> Tensor:
    """The stored form of an fp32 or int64 tensor, copied.

    Raises:
        IntegrityError: another dtype.
    """
    names = {torch.float32: "F32", torch.int64: "I64"}
    if value.dtype not in names:
        raise IntegrityError(f"{where}: weights are kept in float32, got {value.dtype}")
    plain = value.detach().to("cpu").contiguous()
    return Tensor(dtype=names[value.dtype], shape=tuple(value.shape), data=plain.numpy().tobytes())


def network(module: Module, *, where: str, delta: bool = False) -> nn.Module:
    """The network of a stored layer (or delta) on the CPU, frozen and in eval mode.

    Raises:
        IntegrityError: unknown kind, bad config, or tensors that do not fit it; the message begins with `where` and
            says what was expected and what came.
    """
    skeleton = kind_of(module.kind, where=where, delta=delta).skeleton(module.config, where=where)
    _check_tensors(module, skeleton, where=where)
    filled = skeleton.to_empty(device="cpu")
    with torch.no_grad():
        for name, target in filled.state_dict().items():
            target.copy_(to_torch(module.tensors[name], where=f"{where}: tensor {name!r}"))
    return filled.requires_grad_(False).eval()


def check(module: Module, *, where: str, delta: bool = False) -> None:
    """Check kind, config and shapes of a stored module, without taking memory.

    Raises:
        IntegrityError: as `network`.
    """
    _check_tensors(
        module, kind_of(module.kind, where=where, delta=delta).skeleton(module.config, where=where), where=where
    )


def names_of(kind: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """The tensors a layer of this kind and config has."""
    return tuple(kind_of(kind, where=kind).shapes(config))


def module(kind: str, config: Mapping[str, Any], network: nn.Module, *, where: str, delta: bool = False) -> Module:
    """The stored form of a network (or of a part of one with the same tensor names): the inverse of `network`."""
    names = kind_of(kind, where=where, delta=delta).skeleton(config, where=where).state_dict()
    state = network.state_dict()
    return Module(kind=kind, config=config, tensors={name: from_torch(state[name], where=where) for name in names})


def _check_tensors(module: Module, skeleton: nn.Module, *, where: str) -> None:
    expected = skeleton.state_dict()
    if set(expected) != set(module.tensors):
        missing, extra = sorted(set(expected) - set(module.tensors)), sorted(set(module.tensors) - set(expected))
        raise IntegrityError(f"{where}: {module.kind}: missing tensors {missing}, unexpected tensors {extra}")
    for name, wanted in expected.items():
        got = module.tensors[name]
        if got.shape != tuple(wanted.shape) or (got.dtype == "I64") != (wanted.dtype == torch.int64):
            dtype = "I64" if wanted.dtype == torch.int64 else "F32"
            raise IntegrityError(
                f"{where}: {module.kind}: tensor {name!r} should be {dtype} {list(wanted.shape)}, "
                f"got {got.dtype} {list(got.shape)}"
            )
