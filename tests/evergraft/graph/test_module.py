"""Modules: the id is of the contents, the codec gives them back, and damaged or planted bytes are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergraft.errors import FormatError, IntegrityError
from evergraft.graph.module import DTYPE_BYTES, MAX_HEADER_BYTES, Module, Tensor, decode, encode

NORM = Module(
    kind="norm",
    config={"width": 2, "eps": "1e-6"},
    tensors={
        "weight": Tensor("F32", (2,), bytes.fromhex("0000803f00000040")),
        "bias": Tensor("F32", (2,), bytes.fromhex("0000000000008040")),
    },
)
NORM_ID = "681b13febd87b04d36d2dcb700ca0cc10381f5529abd623b0ec6aa3ee3221d29"


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(sorted(DTYPE_BYTES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    size = DTYPE_BYTES[dtype]
    for length in shape:
        size *= length
    return Tensor(dtype, shape, draw(st.binary(min_size=size, max_size=size)))


configs = st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8) | st.booleans(), max_size=4)
modules = st.builds(
    Module,
    kind=st.text(min_size=1, max_size=8),
    config=configs,
    tensors=st.dictionaries(st.text(max_size=8).filter(lambda name: name != "__metadata__"), tensors(), max_size=4),
)


def rewritten(data: bytes, **changes: Any) -> bytes:
    """The same file with entries of its header replaced."""
    size = int.from_bytes(data[:8], "little")
    text = json.dumps({**json.loads(data[8 : 8 + size]), **changes}).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def test_the_id_is_the_one_that_released_graphs_hold() -> None:
    assert NORM.id == NORM_ID


@given(modules)
def test_what_is_encoded_is_decoded(module: Module) -> None:
    found = decode(encode(module), expected_id=module.id)
    assert found == module
    assert found.id == module.id


def test_the_id_does_not_depend_on_how_the_header_is_written() -> None:
    data = encode(NORM)
    other = rewritten(data)
    assert other != data
    assert decode(other, expected_id=NORM.id) == NORM


def test_any_change_of_contents_changes_the_id() -> None:
    others = [
        Module("bias", NORM.config, NORM.tensors),
        Module("norm", {"width": 3}, NORM.tensors),
        Module("norm", NORM.config, {"weight": NORM.tensors["weight"]}),
        Module("norm", NORM.config, {**NORM.tensors, "bias": Tensor("F32", (1, 2), NORM.tensors["bias"].data)}),
        Module("norm", NORM.config, {**NORM.tensors, "bias": Tensor("I32", (2,), NORM.tensors["bias"].data)}),
        Module("norm", NORM.config, {**NORM.tensors, "bias": Tensor("F32", (2,), b"\1" * 8)}),
    ]
    assert len({NORM.id, *(other.id for other in others)}) == 1 + len(others)


@given(st.data())
def test_a_flipped_bit_is_found(data: st.DataObject) -> None:
    file = bytearray(encode(NORM))
    file[data.draw(st.integers(0, len(file) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = decode(bytes(file), expected_id=NORM.id)
    except (IntegrityError, FormatError):
        return
    assert found == NORM  # the bit was in padding, or in the format number of an older format


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "bias": None},
        {"weight": {"dtype": "F32", "shape": [2], "data_offsets": [8, 17]}},
        {"weight": {"dtype": "F32", "shape": [3], "data_offsets": [8, 16]}},
        {"weight": {"dtype": "F31", "shape": [2], "data_offsets": [8, 16]}},
        {"weight": {"dtype": "F32", "shape": [-2], "data_offsets": [8, 16]}},
        {"weight": {"dtype": "F32", "shape": [1 << 60, 1 << 60], "data_offsets": [8, 16]}},
        {"weight": {"dtype": "F32", "shape": "2", "data_offsets": [8, 16]}},
        {"weight": {"dtype": ["F32"], "shape": [2], "data_offsets": [8, 16]}},
        {"weight": {"dtype": "F32", "shape": [2]}},
        {"more": {"dtype": "F32", "shape": [0], "data_offsets": [99, 99]}},
        {"__metadata__": None},
        {"__metadata__": {"kind": "norm"}},
        {"__metadata__": {"kind": "norm", "config": "[]"}},
        {"__metadata__": {"kind": "norm", "config": "{"}},
        {"__metadata__": {"kind": "norm", "config": "[" * 20000}},
        {"__metadata__": {"kind": "norm", "config": '{"width": NaN}'}},
        {"__metadata__": {"kind": "norm", "config": '{"width": "\\ud800"}'}},
        {"__metadata__": {"kind": "norm", "config": '{"width": ' + "[" * 900 + "]" * 900 + "}"}, "weight": None},
    ],
)
def test_a_wrong_header_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="module"):
        decode(rewritten(encode(NORM), **changes))


def test_a_header_that_claims_too_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(IntegrityError, match="not a whole safetensors file"):
        decode((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}" * MAX_HEADER_BYTES)


def test_a_newer_format_is_refused() -> None:
    newer = rewritten(encode(NORM), __metadata__={"kind": "norm", "config": "{}", "format": "2"})
    with pytest.raises(FormatError, match="format 2 is newer than 1"):
        decode(newer)
