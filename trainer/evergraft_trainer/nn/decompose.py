"""Torchvision's ViT and ResNet as our layers, weight by weight; recomposed they give torchvision's own bits.

Called by ``root_file`` to import trained weights, and by tests. Works on state dicts, so a file needs no model.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from evergraft.errors import IntegrityError, UserError
from evergraft.graph.module import Module
from evergraft_trainer.nn import codec
from evergraft_trainer.nn.backbones import Plan
from evergraft_trainer.nn.kind import Config

BLOCK = {
    "norm1.weight": "ln_1.weight",
    "norm1.bias": "ln_1.bias",
    "qkv.weight": "self_attention.in_proj_weight",
    "qkv.bias": "self_attention.in_proj_bias",
    "out_proj.weight": "self_attention.out_proj.weight",
    "out_proj.bias": "self_attention.out_proj.bias",
    "norm2.weight": "ln_2.weight",
    "norm2.bias": "ln_2.bias",
    "fc1.weight": "mlp.0.weight",
    "fc1.bias": "mlp.0.bias",
    "fc2.weight": "mlp.3.weight",
    "fc2.bias": "mlp.3.bias",
}
"""Tensors of an encoder block: ours, torchvision's."""

LEGACY = {"mlp.0.": "mlp.linear_1.", "mlp.3.": "mlp.linear_2."}
"""What older files call the MLP."""

VIT = {
    "patch_embed": {"projection.weight": "conv_proj.weight", "projection.bias": "conv_proj.bias"},
    "class_token": {"token": "class_token"},
    "position_embed": {"embedding": "encoder.pos_embedding"},
    "norm": {"weight": "encoder.ln.weight", "bias": "encoder.ln.bias"},
}
"""Tensors of the other ViT layers: ours, torchvision's."""


def from_state(state: Mapping[str, Tensor], plan: Plan) -> list[tuple[str, Module]]:
    """The layers of `plan` with the weights of a torchvision state dict.

    Raises:
        UserError: the state is of another backbone: a tensor is missing or has another shape.
    """
    stages = _stages(state)
    made, block = [], 0
    for name, kind, config in plan:
        if kind == "encoder_block":
            prefix = f"encoder.layers.encoder_layer_{block}."
            wanted = {ours: _modern(state, prefix, theirs) for ours, theirs in BLOCK.items()}
        elif kind == "residual_block":
            if block >= len(stages):
                raise UserError(f"the weights have {len(stages)} residual blocks, this backbone has more")
            wanted = {key: f"{stages[block]}.{key}" for key in codec.names_of(kind, config)}
        elif kind == "stem":
            wanted = {key: key for key in codec.names_of(kind, config)}
        else:
            wanted = VIT[kind]
        block += kind in ("encoder_block", "residual_block")
        made.append((name, _module(name, kind, config, state, wanted)))
    return made


def from_torchvision(model: nn.Module, plan: Plan) -> list[tuple[str, Module]]:
    """The layers of `plan` with the weights of a torchvision model; its head is left out."""
    return from_state(model.state_dict(), plan)


def head_from_torchvision(model: nn.Module) -> Module:
    """A head with the weights of a torchvision model's last linear layer."""
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    config = {"features": last.in_features, "classes": last.out_features}
    return codec.module("head", config, last, where="layer 'head'")


def _module(name: str, kind: str, config: Config, state: Mapping[str, Tensor], names: Mapping[str, str]) -> Module:
    where = f"layer {name!r}"
    tensors = {}
    for ours, theirs in names.items():
        if theirs not in state:
            raise UserError(f"{where}: the weights have no tensor {theirs!r}; are they of another backbone?")
        value = state[theirs]
        tensors[ours] = codec.from_torch(value.float() if value.is_floating_point() else value, where=where)
    module = Module(kind=kind, config=config, tensors=tensors)
    try:
        codec.check(module, where=where)
    except IntegrityError as error:
        raise UserError(f"{error}; are the weights of another backbone?") from None
    return module


def _modern(state: Mapping[str, Tensor], prefix: str, name: str) -> str:
    for modern, legacy in LEGACY.items():
        if name.startswith(modern) and prefix + name not in state:
            return prefix + name.replace(modern, legacy)
    return prefix + name


def _stages(state: Mapping[str, Tensor]) -> list[str]:
    """The prefixes of residual blocks, in order: layer1.0, layer1.1, …"""
    found = {tuple(key.split(".")[:2]) for key in state if key.startswith("layer") and key.count(".") >= 2}
    return [".".join(parts) for parts in sorted(found, key=lambda parts: (parts[0], int(parts[1])))]
