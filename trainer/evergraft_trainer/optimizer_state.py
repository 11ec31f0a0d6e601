"""Optimiser state as modules of kind ``optimizer``, one per layer, so that it is stored and named like weights.

A candidate that resumes takes its own back; a clone may take over the state that was stored with its parent's
layer (momentum, in the published method). Called by the trainer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import nn

from evergraft.errors import IntegrityError
from evergraft.graph.module import Module
from evergraft_trainer.nn.assemble import RouteModel
from evergraft_trainer.nn.codec import from_torch, to_torch

KIND = "optimizer"


def save_optimizer(optimizer: torch.optim.Optimizer, model: RouteModel) -> list[Module]:
    """One module a trained layer; tensors are named ``<parameter>|<state>``, float32."""
    modules = []
    for layer, parameters in _layers(model):
        where = f"optimiser state of layer {layer!r}"
        tensors = {
            f"{name}|{key}": from_torch(value, where=where)
            for name, parameter in parameters.items()
            for key, value in optimizer.state.get(parameter, {}).items()
            if isinstance(value, torch.Tensor)
        }
        if tensors:
            config = {"layer": layer, "optimizer": type(optimizer).__name__}
            modules.append(Module(kind=KIND, config=config, tensors=tensors))
    return modules


def restore_optimizer(optimizer: torch.optim.Optimizer, model: RouteModel, saved: Iterable[Module]) -> None:
    """Put saved state back where optimiser, layer, parameter and shape are the same; the rest starts afresh.

    Raises:
        IntegrityError: the state of one parameter is incomplete.
    """
    by_layer = {str(module.config.get("layer")): module for module in saved if module.kind == KIND}
    for layer, parameters in _layers(model):
        module = by_layer.get(layer)
        if module is None or module.config.get("optimizer") != type(optimizer).__name__:
            continue
        for name, parameter in parameters.items():
            state = _state(module, name, parameter)
            if state and all(value.dim() == 0 or value.shape == parameter.shape for value in state.values()):
                _check_whole(optimizer, state, layer=layer)
                optimizer.state[parameter] = state
    if isinstance(optimizer, torch.optim.SGD) and optimizer.state:
        _complete(optimizer)


def _layers(model: RouteModel) -> Iterator[tuple[str, Mapping[str, nn.Parameter]]]:
    return ((layer.name, layer.trained_parameters()) for layer in model.route_layers() if layer.trains)


def _state(module: Module, name: str, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
    where = f"optimiser state of layer {module.config.get('layer')!r}"
    prefix = f"{name}|"
    return {
        key.removeprefix(prefix): to_torch(value, where=where).to(parameter.device)
        for key, value in module.tensors.items()
        if key.startswith(prefix)
    }


def _complete(optimizer: torch.optim.SGD) -> None:
    """Start the other buffers at zero: the first step gives them the same bits, and torch's fused kernel wants all."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state.setdefault(parameter, {"momentum_buffer": torch.zeros_like(parameter)})


def _check_whole(optimizer: torch.optim.Optimizer, state: Mapping[str, torch.Tensor], *, layer: str) -> None:
    wanted = {"momentum_buffer"} if isinstance(optimizer, torch.optim.SGD) else {"step", "exp_avg", "exp_avg_sq"}
    if set(state) != wanted:
        raise IntegrityError(f"optimiser state of layer {layer!r}: has {sorted(state)}, needs {sorted(wanted)}")
