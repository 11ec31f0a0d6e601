"""A module: one layer's weights, immutable and named by the digest of its contents.

The bytes of a module are a safetensors file whose metadata holds kind and config. The id is not a hash of that
file (its header may be written in several ways) but of the contents in one canonical order, so that any reader can
recompute it. Called by the store, the trainer and ``graph verify``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from evergraft import canonical
from evergraft.errors import FormatError, IntegrityError

DTYPE_BYTES: Mapping[str, int] = MappingProxyType(
    {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
)
"""Bytes of one element, by safetensors dtype name."""

MAX_HEADER_BYTES = 4 << 20
MAX_TENSORS = 4096
MAX_CONFIG_BYTES = 64 << 10


@dataclass(frozen=True)
class Tensor:
    """Raw little-endian bytes of one tensor in C order, with its dtype (a safetensors name) and shape."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview = field(repr=False)

    @property
    def elements(self) -> int:
        """The number of elements: the product of the shape."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Module:
    """One layer's kind, JSON config and tensors (parameters and buffers)."""

    kind: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @cached_property
    def id(self) -> str:
        """SHA-256 over the canonical JSON of kind, config and sorted (name, dtype, shape), then the raw bytes."""
        names = sorted(self.tensors)
        shapes = [[name, self.tensors[name].dtype, list(self.tensors[name].shape)] for name in names]
        hasher = hashlib.sha256(canonical.dumps({"kind": self.kind, "config": self.config, "tensors": shapes}))
        for name in names:
            hasher.update(self.tensors[name].data)
        return hasher.hexdigest()

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(len(tensor.data) for tensor in self.tensors.values())


def encode(module: Module) -> bytes:
    """The safetensors file of a module; kind and config ride in its metadata."""
    metadata = {
        "format": str(canonical.FORMAT),
        "kind": module.kind,
        "config": canonical.dumps(module.config).decode(),
    }
    return encode_tensors(module.tensors, metadata=metadata)


def encode_tensors(tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with canonical header: equal tensors and metadata give equal bytes."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    names = sorted(tensors)
    for name in names:
        end = offset + len(tensors[name].data)
        header[name] = {
            "dtype": tensors[name].dtype,
            "shape": list(tensors[name].shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = canonical.dumps(header)
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(tensors[name].data for name in names)])


def decode(data: bytes, *, expected_id: str | None = None) -> Module:
    """Read a module from untrusted bytes; tensors are views into `data`, for the caller to copy.

    Raises:
        IntegrityError: the bytes are no module, or not the one named by `expected_id`.
        FormatError: written by a newer format.
    """
    where = f"module {expected_id[:12]}…" if expected_id else "module"
    header, body = read_header(data, where=where)
    kind, config = _identity(header.pop("__metadata__", None), where=where)
    tensors = dict(decode_tensors(header, body, where=where))
    module = Module(kind=kind, config=config, tensors=tensors)
    try:
        found = module.id
    except (ValueError, RecursionError) as error:  # NaN in the config, half a surrogate in a name, …
        raise IntegrityError(f"{where}: its config or names have no canonical form: {error}") from None
    if expected_id is not None and found != expected_id:
        raise IntegrityError(f"{where}: its contents hash to {found[:12]}…, so the stored bytes are damaged")
    return module


def read_header(data: bytes, *, where: str, max_tensors: int = MAX_TENSORS) -> tuple[dict[str, Any], memoryview]:
    """Split a safetensors file into its header (JSON object) and its tensor bytes.

    Raises:
        IntegrityError: the header is absent, too large or no JSON object.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > MAX_HEADER_BYTES or 8 + size > len(data):
        raise IntegrityError(f"{where}: not a whole safetensors file ({len(data)} bytes)")
    try:
        header = canonical.loads(data[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{where}: the safetensors header is no JSON: {error}") from None
    if not isinstance(header, dict) or len(header) > max_tensors:
        raise IntegrityError(f"{where}: the safetensors header is no object of at most {max_tensors} tensors")
    return header, memoryview(data)[8 + size :]


def _identity(metadata: object, *, where: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(metadata, dict):
        raise IntegrityError(f"{where}: no metadata with kind and config")
    written = str(metadata.get("format", ""))
    if written.isdecimal() and int(written) > canonical.FORMAT:
        raise FormatError(canonical.newer(int(written), what=where))
    kind, text = metadata.get("kind"), metadata.get("config")
    if not isinstance(kind, str) or not isinstance(text, str) or len(text) > MAX_CONFIG_BYTES:
        raise IntegrityError(f"{where}: kind or config is missing or too large")
    try:
        config = canonical.loads(text)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{where}: config is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise IntegrityError(f"{where}: config is no JSON object")
    return kind, config


def decode_tensors(header: Mapping[str, Any], body: memoryview, *, where: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a safetensors file, as views into `body`; they must fill it without gap or overlap.

    Raises:
        IntegrityError: dtype, shape and offsets do not fit each other.
    """
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: _start(item[1], where=where)):
        dtype, shape = entry.get("dtype"), entry.get("shape")
        if (
            not isinstance(dtype, str)
            or dtype not in DTYPE_BYTES
            or not isinstance(shape, list)
            or not all(map(_is_size, shape))
        ):
            raise IntegrityError(f"{where}: tensor {name!r} has an unknown dtype or a bad shape")
        start = end
        end = start + math.prod(shape) * DTYPE_BYTES[dtype]
        if entry.get("data_offsets") != [start, end]:
            raise IntegrityError(f"{where}: tensor {name!r} does not lie where its shape says")
        yield name, Tensor(dtype=dtype, shape=tuple(shape), data=body[start:end])
    if end != len(body):
        raise IntegrityError(f"{where}: {len(body)} bytes of tensors where the header describes {end}")


def _start(entry: object, *, where: str) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise IntegrityError(f"{where}: a tensor without offsets")
    return offsets[0], offsets[1]


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48
