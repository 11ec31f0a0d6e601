"""Stored modules and networks: round trips, dtypes, hostile tensors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evergraft.errors import IntegrityError
from evergraft.graph.module import Module, Tensor, decode, encode
from evergraft_trainer.nn import codec
from evergraft_trainer.nn.candidate import fresh

BLOCK = {"width": 8, "heads": 2, "mlp": 16}
RESIDUAL = {"block": "basic", "input": 4, "width": 4, "stride": 2}


@pytest.mark.parametrize(("kind", "config"), [("encoder_block", BLOCK), ("residual_block", RESIDUAL)])
def test_a_module_survives_store_and_network(kind: str, config: dict[str, object]) -> None:
    module = codec.module(kind, config, fresh(kind, config, seed=1, name="x"), where="x")
    read = decode(encode(module), expected_id=module.id)
    network = codec.network(read, where="x")
    assert codec.module(kind, config, network, where="x").id == module.id
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def _placed(module: Module) -> list[tuple[str, Tensor, int]]:
    """Each tensor with the place it gets when they lie one after another."""
    found, place = [], 0
    for name, tensor in module.tensors.items():
        found.append((name, tensor, place))
        place += len(tensor.data)
    return found


def test_weights_are_fresh_aligned_allocations() -> None:
    module = codec.module("encoder_block", BLOCK, fresh("encoder_block", BLOCK, seed=1, name="x"), where="x")
    for shift in range(1, 9):  # the file may lie anywhere in memory
        data = bytearray(b" " * shift + b"".join(bytes(tensor.data) for _, tensor, _ in _placed(module)))
        views = {
            name: replace(tensor, data=memoryview(data)[shift + place : shift + place + len(tensor.data)])
            for name, tensor, place in _placed(module)
        }
        network = codec.network(replace(module, tensors=views), where="x")
        before = network.state_dict()["qkv.weight"].clone()
        assert torch.equal(before, codec.network(module, where="x").state_dict()["qkv.weight"])
        assert all(value.data_ptr() % 64 == 0 and value.is_contiguous() for value in network.state_dict().values())
        data[:] = bytes(len(data))
        assert torch.equal(network.state_dict()["qkv.weight"], before)


@given(values=st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_half_precision_is_read_as_float32(values: list[float]) -> None:
    for dtype, name in ((torch.bfloat16, "BF16"), (torch.float16, "F16")):
        half = torch.tensor(values, dtype=dtype)
        stored = Tensor(name, (len(values),), half.view(torch.int16).numpy().tobytes())
        read = codec.to_torch(stored, where="x")
        assert read.dtype == torch.float32
        assert torch.equal(read, half.float())


def head(**tensors: Tensor) -> Module:
    zeros = {"weight": Tensor("F32", (3, 2), bytes(24)), "bias": Tensor("F32", (3,), bytes(12))}
    return Module(kind="head", config={"features": 2, "classes": 3}, tensors={**zeros, **tensors})


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (head(weight=Tensor("F32", (2, 3), bytes(24))), r"tensor 'weight' should be F32 \[3, 2\], got F32 \[2, 3\]"),
        (head(bias=Tensor("I64", (3,), bytes(24))), r"tensor 'bias' should be F32 \[3\], got I64 \[3\]"),
        (head(bias=Tensor("F64", (3,), bytes(24))), "dtype F64; weights are F32, BF16 or F16"),
        (head(bias=Tensor("F32", (3,), bytes(8))), r"8 bytes do not fill F32 \[3\]"),
        (head(extra=Tensor("F32", (1,), bytes(4))), r"unexpected tensors \['extra'\]"),
        (replace(head(), tensors={}), r"missing tensors \['bias', 'weight'\]"),
        (replace(head(), kind="exec"), "unknown kind of layer 'exec'"),
        (replace(head(), config={"features": 1 << 16, "classes": 1 << 20}), "more than 1073741824 elements"),
    ],
)
def test_hostile_modules_are_refused_by_name(module: Module, message: str) -> None:
    with pytest.raises(IntegrityError, match=rf"^layer 'head'.*{message}"):
        codec.network(module, where="layer 'head'")


def test_shapes_are_refused_before_memory_is_taken() -> None:
    huge = {"features": 1 << 14, "classes": 1 << 15}  # 2 GiB of weights, were they made
    module = Module(kind="head", config=huge, tensors={"weight": Tensor("F32", (1,), bytes(4))})
    with pytest.raises(IntegrityError, match="missing tensors"):
        codec.network(module, where="layer 'head'")


def test_other_dtypes_are_not_stored() -> None:
    with pytest.raises(IntegrityError, match=r"float32, got torch\.float64"):
        codec.from_torch(torch.zeros(1, dtype=torch.float64), where="x")
