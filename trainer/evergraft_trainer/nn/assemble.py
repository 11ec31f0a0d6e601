"""A route as one network: ordered named layers from images to logits.

``load_route`` builds a committed route for serving and for candidates to share; ``candidate.build_candidate`` makes
one to train. Called by training, evaluation, serving and verification.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from evergraft.errors import IntegrityError
from evergraft.graph.module import Module
from evergraft.graph.route import Layer
from evergraft_trainer.nn import codec
from evergraft_trainer.nn.head import Head, pool
from evergraft_trainer.nn.kind import Shape
from evergraft_trainer.nn.lora import Lora
from evergraft_trainer.nn.merge import Get, load_layer
from evergraft_trainer.nn.route_layer import RouteLayer


class RouteModel(nn.Module):
    """A route. Frozen layers run without gradients and in eval mode; only trained parameters require gradients.

    `image_size` is the side of its square images in pixels, `channels` 1 or 3.
    """

    def __init__(self, layers: Sequence[RouteLayer], *, image_size: int | None = None) -> None:
        super().__init__()
        if not layers:
            raise IntegrityError("a route has no layers")
        self.layers = nn.ModuleList(layers)
        self.image_size = image_size or _image_size(layers)
        self.channels: int = layers[0].config.get("channels", 3)
        self.first_trained = next((place for place, layer in enumerate(layers) if layer.trains), len(layers))
        self.shape, self.flops = self._trace()

    def forward(self, images: Tensor) -> Tensor:
        """Float32 images B×C×S×S to logits B×classes (of a root without a head: features)."""
        hidden = self.run(images, stop=self.first_trained)
        return self.finish(self.run(hidden, start=self.first_trained))

    def run(self, x: Tensor, *, start: int = 0, stop: int | None = None) -> Tensor:
        """Run the layers `start` to `stop` on an activation; the frozen ones before the first trained take no grad."""
        frozen = max(min(self.first_trained, len(self.layers) if stop is None else stop), start)
        if frozen > start:
            with torch.no_grad():
                for layer in self.layers[start:frozen]:
                    x = layer(x)
        for layer in self.layers[frozen:stop]:
            x = layer(x)
        return x

    def finish(self, x: Tensor) -> Tensor:
        """The output of the last layer as the route's answer: a root's activation is pooled."""
        return x if self.head is not None else pool(x)

    def features(self, images: Tensor) -> Tensor:
        """Float32 images B×C×S×S to the pooled features B×F that the head reads."""
        stop = len(self.layers) - (self.head is not None)
        return pool(self.run(images, stop=stop))

    @property
    def head(self) -> Head | None:
        """The head's network, None for a root."""
        network = self.route_layers()[-1].network
        return network if isinstance(network, Head) else None

    @property
    def names(self) -> tuple[str, ...]:
        """The layers' names, in order."""
        return tuple(layer.name for layer in self.route_layers())

    def route_layers(self) -> tuple[RouteLayer, ...]:
        """The layers, typed."""
        return tuple(layer for layer in self.layers if isinstance(layer, RouteLayer))

    def seek(self, position: int) -> None:
        """Place dropout and stochastic depth at the step that begins after `position` training samples."""
        for layer in self.route_layers():
            if layer.noise is not None:
                layer.noise.seek(position)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Everything the optimiser steps: ``<layer>/<tensor>`` or ``<layer>/lora/<tensor>``, in order."""
        return dict(self._each("trained_parameters"))

    def trained_state(self) -> dict[str, Tensor]:
        """Copies of everything training changes, buffers included, by the same names; for `restore`."""
        return {name: value.detach().cpu().clone() for name, value in self._each("trained_state")}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put a `trained_state` back.

        Raises:
            IntegrityError: it is of another candidate.
        """
        own = dict(self._each("trained_state"))
        if {name: value.shape for name, value in own.items()} != {n: v.shape for n, v in state.items()}:
            raise IntegrityError("the saved state does not fit this candidate: other tensors or shapes")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])

    def num_parameters(self) -> int:
        """Parameters active in one forward pass, LoRA included."""
        return sum(layer.num_parameters() for layer in self.route_layers())

    def _each(self, method: str) -> Iterator[tuple[str, nn.Parameter]]:
        for layer in self.route_layers():
            for name, value in getattr(layer, method)().items():
                yield f"{layer.name}/{name}", value

    def _trace(self) -> tuple[Shape, int]:
        shape: Shape = (self.channels, self.image_size, self.image_size)
        total = 0
        for layer in self.route_layers():
            try:
                shape, flops = layer.trace(shape)
            except IntegrityError as error:
                raise IntegrityError(f"layer {layer.name!r}: {layer.kind}: {error}") from None
            total += flops
        return shape, total


def load_route(layers: Sequence[Layer], get: Get, *, image_size: int | None = None) -> RouteModel:
    """A committed route, frozen and in eval mode. `get` fetches a module by its (checked) id.

    `image_size` comes from the route's preprocessing; without it a ViT's follows from its position embeddings.

    Raises:
        IntegrityError: a module does not fit its layer or the layers do not fit each other.
    """
    return RouteModel([_load(layer, get) for layer in layers], image_size=image_size).eval()


def lora_network(module: Module | None, *, where: str) -> Lora | None:
    """The network of a LoRA that runs beside a layer."""
    if module is None:
        return None
    network = codec.network(module, where=where, delta=True)
    assert isinstance(network, Lora)
    return network


def _load(layer: Layer, get: Get) -> RouteLayer:
    merged = load_layer(layer, get)
    return RouteLayer(
        merged.network,
        name=layer.name,
        kind=layer.kind,
        config=merged.config,
        source=layer,
        lora=lora_network(merged.lora, where=f"layer {layer.name!r}"),
        lora_config=None if merged.lora is None else merged.lora.config,
    )


def _image_size(layers: Sequence[RouteLayer]) -> int:
    patch = next((layer.config["patchSize"] for layer in layers if layer.kind == "patch_embed"), None)
    tokens = next((layer.config["tokens"] for layer in layers if layer.kind == "position_embed"), None)
    if patch is None or tokens is None:
        return 224
    return math.isqrt(tokens - 1) * int(patch)
