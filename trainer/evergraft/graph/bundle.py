"""A bundle: many modules in one safetensors file, as candidates write them at each validation.

Only a winner's modules become objects of their own; until then one file a state keeps the store's operations few.
Optimiser state travels as modules of kind ``optimizer``. Called by the trainer, which writes them, and the engine,
which takes the winner's modules out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from evergraft import canonical
from evergraft.errors import FormatError, IntegrityError
from evergraft.graph.module import MAX_TENSORS, Module, Tensor, decode_tensors, encode_tensors, read_header
from evergraft.graph.route import reading


def encode_bundle(modules: Iterable[Module]) -> bytes:
    """One safetensors file: tensors named ``<number of the module>/<name>``, kinds and configs in the metadata."""
    listing: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    for number, module in enumerate(modules):
        listing.append({"id": module.id, "kind": module.kind, "config": dict(module.config)})
        tensors.update({f"{number:04d}/{name}": tensor for name, tensor in module.tensors.items()})
    metadata = {"format": str(canonical.FORMAT), "modules": canonical.dumps(listing).decode()}
    return encode_tensors(tensors, metadata=metadata)


def decode_bundle(data: bytes, *, sha256: str | None = None, where: str = "bundle") -> dict[str, Module]:
    """The modules of a bundle by id, each id recomputed; tensors are views into `data`.

    Raises:
        IntegrityError: the bytes are no bundle, do not have digest `sha256`, or hold a module under another id.
        FormatError: written by a newer format.
    """
    if sha256 is not None and canonical.sha256(data) != sha256:
        raise IntegrityError(f"{where}: its bytes do not have the digest that was recorded")
    header, body = read_header(data, where=where, max_tensors=MAX_TENSORS * 16)
    metadata = header.pop("__metadata__", None)
    written = str(metadata.get("format", "")) if isinstance(metadata, dict) else ""
    if written.isdecimal() and int(written) > canonical.FORMAT:
        raise FormatError(canonical.newer(int(written), what=where))
    tensors: dict[str, dict[str, Tensor]] = {}
    for name, tensor in decode_tensors(header, body, where=where):
        number, _, rest = name.partition("/")
        tensors.setdefault(number, {})[rest] = tensor
    found: dict[str, Module] = {}
    with reading(where):
        for index, item in enumerate(canonical.loads(metadata["modules"]) if isinstance(metadata, dict) else ()):
            module = Module(
                kind=str(item["kind"]), config=dict(item["config"]), tensors=tensors.get(f"{index:04d}", {})
            )
            found[str(item["id"])] = module
        for module_id, module in found.items():
            if module.id != module_id:
                raise IntegrityError(f"{where}: module {module_id[:12]}… hashes to {module.id[:12]}…")
    return found
