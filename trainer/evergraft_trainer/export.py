"""Routes as files of their own: for other programs, or as the root of another graph.

Nothing is written before the golden answers have been recomputed. Called by ``evergraft export`` and
``graph import-root``.
"""

from __future__ import annotations

import contextlib
import errno
import uuid
from pathlib import Path
from typing import Any

from evergraft import canonical
from evergraft.errors import IntegrityError, PermissionDeniedError, StoreFullError, UserError
from evergraft.graph.module import Module, encode_tensors
from evergraft.graph.route import Layer
from evergraft.store.open import open_store
from evergraft_trainer import profile
from evergraft_trainer.device import open_device
from evergraft_trainer.golden import compare
from evergraft_trainer.nn.codec import module as as_module
from evergraft_trainer.nn.merge import load_layer
from evergraft_trainer.nn.root_file import import_torchvision, write_root_file
from evergraft_trainer.serving import Served, serve


def export_route(url: str, task: str, *, out: Path, version: int | None = None) -> dict[str, Any]:
    """Write ``<out>.safetensors`` (every tensor, ``<layer>/<tensor>``) and ``<out>.json`` (the route document).

    An `out` that ends in one of the two suffixes means the same without it.

    Raises:
        UserError: no such task, `out` names no file, or the folder is not ours to write.
        IntegrityError: the stored route does not give its golden answers; nothing is written.
    """
    served = _checked(url, task, version)
    tensors = {f"{place}/{name}": tensor for place, module in _parts(served) for name, tensor in module.tensors.items()}
    data = encode_tensors(tensors, metadata={"format": str(canonical.FORMAT), "route": served.summary.id})
    weights, document = _named(out, ".safetensors"), _named(out, ".json")
    _write(weights, data)
    _write(document, served.route.encode())
    return {
        "task": task,
        "version": served.version,
        "weights": str(weights),
        "route": str(document),
        "sha256": canonical.sha256(data),
        "parameters": served.model.num_parameters(),
    }


def export_root(url: str, task: str, *, out: Path, version: int | None = None) -> dict[str, Any]:
    """Write a task's route, without its head and with its deltas merged, as a root file.

    Raises: as `export_route`.
    """
    _check_named(out, flag="--as-root")
    served = _checked(url, task, version)
    layers = [_merged(layer, served) for layer in served.route.layers if layer.kind != "head"]
    data = write_root_file(layers, served.preprocessing.to_json())
    _write(out, data)
    return {"task": task, "file": str(out), "sha256": canonical.sha256(data), "bytes": len(data)}


def import_root(weights: Path, *, backbone: str, out: Path) -> dict[str, Any]:
    """Turn a torchvision state dict (``.pth``) into a root file.

    Raises:
        UserError: the file cannot be read as tensors alone, or does not fit the backbone, or `out` names no file.
    """
    _check_named(out, flag="--out")
    layers, preprocessing = import_torchvision(weights, backbone=backbone)
    data = write_root_file(layers, preprocessing)
    _write(out, data)
    return {"file": str(out), "sha256": canonical.sha256(data), "bytes": len(data), "layers": len(layers)}


def _checked(url: str, task: str, version: int | None) -> Served:
    profile.apply(threads=1)
    served = serve(open_store(url), task, version=version)
    device = open_device("cpu")
    found = compare(served.route.golden, served.model, served.route.layers, served.preprocessing, device=device)
    if not found.within_tolerance:
        raise IntegrityError(
            f"{task}: recomputed golden answers differ by {found.max_difference:.2e}; "
            "the graph is damaged, see: evergraft graph verify"
        )
    return served


def _parts(served: Served) -> list[tuple[str, Module]]:
    """Each layer's module and deltas, with the place they get in the file."""
    parts = []
    for layer in served.route.layers:
        parts.append((layer.name, served.modules[layer.module]))
        for number, delta in enumerate(layer.deltas):
            parts.append((f"{layer.name}/delta.{number:02d}.{delta.kind}", served.modules[delta.module]))
    return parts


def _merged(layer: Layer, served: Served) -> tuple[str, Module]:
    """A layer's name, and one module with all of its deltas merged."""
    found = load_layer(layer, served.modules.__getitem__, merge_all=True)
    return layer.name, as_module(layer.kind, found.config, found.network, where=f"layer {layer.name!r}")


def _named(out: Path, suffix: str) -> Path:
    """`out` with `suffix`; a dot elsewhere in its name, as in ``route.v2``, stays.

    Raises:
        UserError: it names no file.
    """
    name = out.name.removesuffix(".safetensors").removesuffix(".json")
    if not name:
        raise UserError(f"--out {out}: names no file; give one, such as {out / 'route'}")
    return out.with_name(name + suffix)


def _check_named(out: Path, *, flag: str) -> None:
    if not out.name:
        raise UserError(f"{flag} {out}: names no file; give one, such as {out / 'root.safetensors'}")


def _write(path: Path, data: bytes) -> None:
    """Write a whole file or none."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # where nothing can be written, nothing is left to remove
            temporary.unlink(missing_ok=True)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        kind = StoreFullError if full else PermissionDeniedError
        fix = "free some space" if full else "name a file in a folder that is yours to write"
        raise kind(f"{path}: cannot be written: {error.strerror}; {fix}") from None
