"""The kinds of deltas: modules that change one layer of a route.

``lora`` adds to matrices and ``adapter`` a bottleneck; ``norm`` and ``bias`` hold new values for a layer's norms
(affine and running statistics) and biases. A delta's config says what it fits, so its shapes can be checked without
the layer. Called through the registry, by ``merge`` and by ``candidate``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import nn

from evergraft.errors import IntegrityError
from evergraft_trainer.nn import adapter, lora, vit
from evergraft_trainer.nn.kind import Config, Kind, Shape, linear_flops
from evergraft_trainer.nn.layers import LAYERS

Names = Callable[[nn.Module], tuple[str, ...]]


def norm_modules(network: nn.Module) -> tuple[tuple[str, nn.Module], ...]:
    """The norms of a layer with their names; those of folded adapters are not the layer's."""
    return tuple(
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)) and not name.startswith("adapters.")
    )


def norm_names(network: nn.Module) -> tuple[str, ...]:
    """The tensors of a layer's norms: affine parameters and running statistics."""
    return tuple(
        f"{name}.{key}" if name else key for name, module in norm_modules(network) for key in module.state_dict()
    )


def bias_names(network: nn.Module) -> tuple[str, ...]:
    """The biases of a layer's linear maps and convolutions."""
    return tuple(
        f"{name}.bias" if name else "bias"
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None and not name.startswith("adapters.")
    )


NAMES: Mapping[str, Names] = MappingProxyType({"norm": norm_names, "bias": bias_names})
"""For deltas that replace values: which tensors of a layer they hold."""


def target_config(kind: str, config: Config) -> dict[str, object]:
    """The config of a `norm` or `bias` delta of a layer: the layer's, without folded adapters."""
    return {"kind": kind, "config": {name: value for name, value in config.items() if name != "adapters"}}


def prune(network: nn.Module, keep: tuple[str, ...]) -> nn.Module:
    """Take every tensor out of `network` but those named, in place."""
    for prefix, module in network.named_modules():
        for store in (module._parameters, module._buffers):  # noqa: SLF001 - torch offers no public way to remove
            for name in [name for name in store if (f"{prefix}.{name}" if prefix else name) not in keep]:
                del store[name]
    return network


def _check_target(config: Config) -> None:
    if set(config) != {"kind", "config"} or not isinstance(config["config"], Mapping):
        raise IntegrityError("expected the config fields 'kind' and 'config' of the layer it changes")
    if not isinstance(config["kind"], str) or config["kind"] not in LAYERS:
        raise IntegrityError(f"config field 'kind' is {config['kind']!r}; known: {', '.join(sorted(LAYERS))}")
    if config["config"].get("adapters"):
        raise IntegrityError("config field 'config' names adapters, which are not part of what it changes")
    LAYERS[config["kind"]].check(config["config"])


def _replacing(name: str) -> Kind:
    def build(config: Config) -> nn.Module:
        network = LAYERS[config["kind"]].build(config["config"])
        return prune(network, NAMES[name](network))

    return Kind(name=name, check=_check_target, build=build, initialise=_leave, trace=_pass)


def _leave(network: nn.Module, generator: torch.Generator) -> None:
    """A replacing delta starts as the layer's own values, which `candidate` copies."""


def _pass(config: Config, shape: Shape) -> tuple[Shape, int]:  # noqa: ARG001 - costs nothing
    return shape, 0


def _build_lora(config: Config) -> nn.Module:
    sizes = vit.matrices(config)
    return lora.Lora(rank=config["rank"], sizes={name: sizes[name] for name in config["targets"]})


def _trace_lora(config: Config, shape: Shape) -> tuple[Shape, int]:
    sizes = vit.matrices(config)
    pairs = [pair for t in config["targets"] for pair in ((sizes[t][0], config["rank"]), (config["rank"], sizes[t][1]))]
    return shape, linear_flops(shape[0], *pairs)


def _trace_adapter(config: Config, shape: Shape) -> tuple[Shape, int]:
    return shape, 2 * linear_flops(shape[0], (config["features"], config["width"]))


DELTAS: Mapping[str, Kind] = MappingProxyType(
    {
        "lora": Kind(name="lora", check=lora.check, build=_build_lora, initialise=lora.initialise, trace=_trace_lora),
        "norm": _replacing("norm"),
        "bias": _replacing("bias"),
        "adapter": Kind(
            name="adapter",
            check=adapter.check,
            build=lambda c: adapter.Adapter(features=c["features"], width=c["width"]),
            initialise=adapter.initialise_adapter,
            trace=_trace_adapter,
        ),
    }
)
