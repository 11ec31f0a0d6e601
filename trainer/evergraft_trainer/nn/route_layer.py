"""One layer of a running route: its network, the LoRA beside it, and which parts of it are being trained.

A frozen layer is always in eval mode, whatever is asked of the model, so nothing ever writes its buffers. Called by
``assemble`` and ``candidate``; read by ``extract``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evergraft.graph.module import Module
from evergraft.graph.route import Layer
from evergraft_trainer.nn.deltas import bias_names, norm_modules, norm_names
from evergraft_trainer.nn.kind import Config, Shape
from evergraft_trainer.nn.kinds import DELTAS, LAYERS
from evergraft_trainer.nn.lora import Lora
from evergraft_trainer.nn.noise import Noise


@dataclass(frozen=True)
class NewDelta:
    """A delta in training: its kind and config as it will be stored."""

    kind: str
    config: Config


class RouteLayer(nn.Module):
    """A named layer of a route.

    `source` is the stored layer that it stands on, None when its own weights are new (trained, or changed when the
    candidate was made). `new` are the deltas being trained on top of `source`. `folded` is a module made from the
    oldest deltas, which `source` names and the store does not hold yet.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        kind: str,
        config: Config,
        source: Layer | None,
        lora: Lora | None = None,
        lora_config: Config | None = None,
        trained: bool = False,
        new: tuple[NewDelta, ...] = (),
        folded: Module | None = None,
        noise: Noise | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.lora = lora
        self.name = name
        self.kind = kind
        self.config = config
        self.lora_config = lora_config
        self.source = source
        self.whole = trained
        self.new = new
        self.folded = folded
        self.noise = noise
        self.requires_grad_(False)
        for parameter in self.trained_parameters().values():
            parameter.requires_grad_(True)
        self.train(False)

    @property
    def trains(self) -> bool:
        """Whether anything of this layer is trained."""
        return self.whole or bool(self.new)

    def forward(self, x: Tensor) -> Tensor:
        """B×… in the shape of the layer before to B×… in this layer's."""
        noise = self.noise if self.training else None
        if self.lora is not None:
            return self._tensor(self.network(x, noise=noise, lora=self.lora))
        return self._tensor(self.network(x, noise=noise))

    def train(self, mode: bool = True) -> RouteLayer:
        """Enter training mode where something is trained; BatchNorms only if they are trained themselves."""
        super().train(False)
        self.training = mode and self.trains
        if self.whole:
            self.network.train(mode)
        elif any(delta.kind == "norm" for delta in self.new):
            for _, norm in norm_modules(self.network):
                norm.train(mode)
        return self

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters being trained, by name: ``<tensor>`` or ``lora/<tensor>``."""
        names = set(self._trained_names())
        found = {name: parameter for name, parameter in self.network.named_parameters() if name in names}
        if self.lora is not None and any(delta.kind == "lora" for delta in self.new):
            found |= {f"lora/{name}": parameter for name, parameter in self.lora.named_parameters()}
        return found

    def trained_state(self) -> dict[str, Tensor]:
        """The tensors that training changes (parameters, and running statistics), by the same names; not copied."""
        names = set(self._trained_names())
        found = {name: value for name, value in self.network.state_dict().items() if name in names}
        if self.lora is not None and any(delta.kind == "lora" for delta in self.new):
            found |= {f"lora/{name}": value for name, value in self.lora.state_dict().items()}
        return found

    def part(self, kind: str) -> nn.Module:
        """The network that holds the tensors of a new delta of this kind."""
        if kind == "lora":
            assert self.lora is not None
            return self.lora
        if kind == "adapter":
            adapters = self.network.adapters
            assert isinstance(adapters, nn.ModuleList)
            return adapters[-1]
        return self.network

    def trace(self, shape: Shape) -> tuple[Shape, int]:
        """(Shape after this layer, FLOPs of one image) for an activation of `shape` before it."""
        after, flops = LAYERS[self.kind].trace(self.config, shape)
        if self.lora_config is not None:
            flops += DELTAS["lora"].flops(self.lora_config, shape)
        return after, flops

    def num_parameters(self) -> int:
        """Parameters at work in this layer, the LoRA's included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _trained_names(self) -> Iterator[str]:
        if self.whole:
            yield from self.network.state_dict()
        for delta in self.new:
            if delta.kind == "norm":
                yield from norm_names(self.network)
            elif delta.kind == "bias":
                yield from bias_names(self.network)
            elif delta.kind == "adapter":
                last = len(self.config["adapters"]) - 1
                yield from (f"adapters.{last}.{name}" for name in self.part("adapter").state_dict())

    @staticmethod
    def _tensor(value: object) -> Tensor:
        assert isinstance(value, torch.Tensor)
        return value
