"""A root file: all layers of a root in one safetensors file, for ``root.weights`` and ``export --as-root``.

Tensors are named ``<layer>/<tensor>``; the metadata has each layer's kind and config, in order, and the
preprocessing. The file's SHA-256 is checked before anything in it is read. Called by ``roots`` and ``export``; the
only place that reads a ``.pth``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from evergraft import canonical
from evergraft.errors import FormatError, IntegrityError, UserError
from evergraft.graph.module import Module, Tensor, decode_tensors, encode_tensors, read_header
from evergraft_trainer.data.preprocessing import Preprocessing
from evergraft_trainer.nn import codec
from evergraft_trainer.nn.backbones import root_plan, root_preprocessing
from evergraft_trainer.nn.decompose import from_state

KEY = "evergraftRoot"
MAX_LAYERS = 1024

Layers = Sequence[tuple[str, Module]]


def write_root_file(layers: Layers, preprocessing: Mapping[str, Any]) -> bytes:
    """The bytes of a root file; equal contents give equal bytes."""
    described = [{"name": name, "kind": module.kind, "config": dict(module.config)} for name, module in layers]
    root = {"format": canonical.FORMAT, "layers": described, "preprocessing": dict(preprocessing)}
    tensors = {f"{name}/{key}": tensor for name, module in layers for key, tensor in module.tensors.items()}
    return encode_tensors(tensors, metadata={KEY: canonical.dumps(root).decode()})


def read_root_file(data: bytes, *, sha256: str, where: str) -> tuple[list[tuple[str, Module]], dict[str, Any]]:
    """The named layers and the preprocessing of a root file whose bytes must hash to `sha256`.

    Raises:
        IntegrityError: other bytes, no root file, or a layer whose tensors do not fit its config.
        FormatError: written by a newer format.
    """
    found = canonical.sha256(data)
    if found != sha256:
        raise IntegrityError(
            f"root.weights: weights with the wrong digest: {where} has SHA-256 {found}, expected {sha256}; "
            "fetch the right file, or correct root.weights.sha256"
        )
    header, body = read_header(data, where=where, max_tensors=MAX_LAYERS * 64)
    root = _described(header.pop("__metadata__", None), where=where)
    tensors = dict(decode_tensors(header, body, where=where))
    layers = [_layer(item, tensors, where=where) for item in root["layers"]]
    if len({name for name, _ in layers}) != len(layers):
        raise IntegrityError(f"{where}: a layer's name stands twice")
    if left := sorted(set(tensors) - {f"{name}/{key}" for name, module in layers for key in module.tensors}):
        raise IntegrityError(f"{where}: tensor {left[0]!r} belongs to no layer")
    return layers, Preprocessing.from_json(root["preprocessing"]).to_json()


def import_torchvision(
    weights: Path, *, backbone: str, config: Mapping[str, Any] | None = None
) -> tuple[list[tuple[str, Module]], dict[str, Any]]:
    """The named layers and the preprocessing of a torchvision ``.pth``, for `write_root_file`.

    Nothing in the file is executed: torch's weights-only reader takes tensors and plain containers.

    Raises:
        UserError: no such file, no state dict, or one of another backbone.
    """
    layers = from_state(_read_state(weights), root_plan(backbone, config or {}))
    return layers, root_preprocessing(backbone, config or {})


def _read_state(weights: Path) -> Mapping[str, torch.Tensor]:
    try:
        with warnings.catch_warnings(action="ignore"):
            state = torch.load(weights, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{weights}: no such file") from None
    except Exception as error:  # noqa: BLE001 - a hostile file can make the reader fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{weights}: not a file of weights alone (a state dict saved by torch): {reason}") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{weights}: not a state dict: expected a mapping from names to tensors")
    return state


def _described(metadata: object, *, where: str) -> dict[str, Any]:
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    try:
        root = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        root = None
    if not isinstance(root, dict) or not isinstance(root.get("format"), int):
        raise IntegrityError(f"{where}: no root file; `graph import-root` and `export --as-root` make them")
    if root["format"] > canonical.FORMAT:
        raise FormatError(f"{where}: a root file of format {root['format']}; this version reads {canonical.FORMAT}")
    layers, preprocessing = root.get("layers"), root.get("preprocessing")
    if not isinstance(layers, list) or not 0 < len(layers) <= MAX_LAYERS or not isinstance(preprocessing, dict):
        raise IntegrityError(f"{where}: a root file has 1 to {MAX_LAYERS} layers and a preprocessing")
    return root


def _layer(item: Any, tensors: Mapping[str, Tensor], *, where: str) -> tuple[str, Module]:
    known = isinstance(item, dict) and isinstance(item.get("name"), str) and isinstance(item.get("kind"), str)
    if not known or not isinstance(item.get("config"), dict):
        raise IntegrityError(f"{where}: a layer without name, kind and config")
    name, prefix = item["name"], f"{item['name']}/"
    own = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    module = Module(kind=item["kind"], config=item["config"], tensors=own)
    codec.check(module, where=f"{where}: layer {name!r}")
    return name, module
