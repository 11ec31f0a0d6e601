"""The frozen layers before each candidate's first trained one, computed once for all candidates that share them.

Candidates trained side by side form a tree: a node is an activation, a child what one more frozen layer makes of it.
For each batch a node is computed at most once. Where training images never vary, the ends of the prefixes are kept
for every image, and those of the validation split are kept always, within a cap on memory. Called by ``side_by_side``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evergraft_trainer.activations import Rows, may_be_kept, same_bits, size_of
from evergraft_trainer.data.batches import Batch, Images, eval_batches
from evergraft_trainer.data.preprocessing import Preprocessing
from evergraft_trainer.device import Device
from evergraft_trainer.nn import codec
from evergraft_trainer.nn.assemble import RouteModel
from evergraft_trainer.nn.head import pool
from evergraft_trainer.nn.route_layer import RouteLayer


@dataclass(eq=False)
class Node:
    """What `layer` makes of the parent's activation; the root is the images. `ends` counts prefixes that end here."""

    parent: Node | None = None
    layer: Callable[[Tensor], Tensor] | None = None
    depth: int = 0
    ends: int = 0
    children: dict[Hashable, Node] = field(default_factory=dict)

    def child(self, key: Hashable, layer: Callable[[Tensor], Tensor]) -> Node:
        """The child that `key` names, made if there is none."""
        if key not in self.children:
            self.children[key] = Node(parent=self, layer=layer, depth=self.depth + 1)
        return self.children[key]

    @property
    def is_shared(self) -> bool:
        """Whether more than one thing is made of this activation."""
        return self.ends > 0 or len(self.children) > 1


def key_of(layer: RouteLayer) -> Hashable:
    """What makes frozen layers of several candidates the same: the stored layer, or the weights where there is none."""
    if layer.source is not None:
        return layer.source
    return layer.name, codec.module(layer.kind, layer.config, layer.network, where=f"layer {layer.name!r}").id


def share_frozen(model: RouteModel, shared: MutableMapping[Hashable, RouteLayer]) -> None:
    """Let a candidate use the frozen layers of `shared` in place of equal ones of its own; its others join them."""
    for place, layer in enumerate(model.route_layers()):
        if not layer.trains:
            model.layers[place] = shared.setdefault(key_of(layer), layer)


class Prefixes:
    """The prefixes of some candidates on one stream of batches of one shape."""

    def __init__(self, models: Sequence[RouteModel], *, device: Device, precision: str, cap_bytes: int) -> None:
        self._device, self._precision, self._left_bytes = device, precision, cap_bytes
        self._root = Node()
        self._ends = {model: self._add(model) for model in models}
        self._training: dict[Node, Rows] = {}
        self._validation: dict[Node, Rows] = {}
        self._batch: Batch | None = None
        self._memo: dict[Node, Tensor] = {}

    @property
    def needs_pixels(self) -> bool:
        """Whether training needs images at all, rather than kept activations alone."""
        return any(end not in self._training for end in self._ends.values())

    def forward(self, model: RouteModel, batch: Batch) -> Tensor:
        """Logits B×classes of one candidate on a training batch, to be called under the loop's autocast."""
        if batch is not self._batch:
            self._batch, self._memo = batch, {}
        end = self._ends[model]
        if end in self._training and end not in self._memo:
            self._memo[end] = self._training[end].get(batch.indices)
        return _rest(model, self._activation(end, batch.images, self._memo))

    def keep_training(
        self, split: Images, *, batch_size: int, preprocessing: Preprocessing, workers: int, pulse: Callable[[], None]
    ) -> None:
        """Compute the ends of the prefixes for every image of `split` once, as far as the cap allows.

        Only for training on images that never vary. What is kept must not depend on an image's company in a batch,
        nor on its place there: that is tried first, and where it does not hold nothing is kept. `pulse` is called
        between batches.
        """
        batches = eval_batches(split, batch_size=batch_size, preprocessing=preprocessing, workers=workers)
        with torch.no_grad(), self._device.autocast(self._precision):
            for number, batch in enumerate(batches):
                pulse()
                memo: dict[Node, Tensor] = {}
                if number == 0:
                    self._choose(batch.images, len(split), memo)
                for end, rows in self._training.items():
                    rows.put(number * batch_size, self._activation(end, batch.images, memo))
                if not self._training:
                    return

    def logits(
        self,
        models: Sequence[RouteModel],
        split: Images,
        *,
        batch_size: int,
        preprocessing: Preprocessing,
        workers: int,
        keep: bool,
        pulse: Callable[[], None],
    ) -> list[NDArray[np.float64]]:
        """Logits of every sample of `split` by each of the `models`, float64 N×classes; `keep` what serves again."""
        ends = list(dict.fromkeys(self._ends[model] for model in models))
        padded = -(-len(split) // batch_size) * batch_size
        images: Iterable[Tensor | None]
        if all(end in self._validation for end in ends):
            images = (None for _ in range(0, padded, batch_size))
        else:
            found = eval_batches(split, batch_size=batch_size, preprocessing=preprocessing, workers=workers)
            images = (batch.images for batch in found)
        outputs: list[list[Tensor]] = [[] for _ in models]
        fresh: dict[Node, Rows] = {}
        for model in models:
            model.eval()
        with self._device.inference(), self._device.autocast(self._precision):
            for number, batch in enumerate(images):
                pulse()
                start = number * batch_size
                places = torch.arange(start, start + batch_size)
                memo = {end: self._validation[end].get(places) for end in ends if end in self._validation}
                for end in ends:
                    if end in self._validation:
                        continue
                    memo[end] = self._activation(end, batch, memo)
                    size = size_of(padded, memo[end])
                    if number == 0 and keep and self._may_take(size, memo[end], end):
                        self._left_bytes -= size
                        fresh[end] = Rows(padded, memo[end])
                    if end in fresh:
                        fresh[end].put(start, memo[end])
                for model, rows in zip(models, outputs, strict=True):
                    logits = _rest(model, memo[self._ends[model]]).float()
                    rows.append(logits[: len(split) - start].cpu())
        self._validation |= fresh
        return [torch.cat(rows).double().numpy() for rows in outputs]

    def _add(self, model: RouteModel) -> Node:
        node = self._root
        for layer in model.route_layers()[: model.first_trained]:
            node = node.child(key_of(layer), layer)
        if _trains_head_alone(model):
            node = node.child("pool", pool)
        node.ends += 1
        return node

    def _activation(self, node: Node, images: Tensor | None, memo: dict[Node, Tensor]) -> Tensor:
        """The activation of a node for a batch, from the nearest one known."""
        path: list[Node] = []
        while node not in memo and node.parent is not None:
            path.append(node)
            node = node.parent
        if node not in memo:
            assert images is not None
            memo[node] = self._device.put(images)
        x = memo[node]
        with torch.no_grad():
            for step in reversed(path):
                assert step.layer is not None
                x = step.layer(x)
                if step.is_shared:
                    memo[step] = x
        return x

    def _choose(self, images: Tensor, count: int, memo: dict[Node, Tensor]) -> None:
        """Decide which ends to keep: those that spare most layers first, if rows do not depend on their batch."""
        ends = sorted(set(self._ends.values()), key=lambda end: -end.ends * end.depth)
        for end in ends:
            like = self._activation(end, images, memo)
            size = size_of(count, like)
            if self._may_take(size, like, end) and self._rows_stand_alone(end, images, like):
                self._left_bytes -= size
                self._training[end] = Rows(count, like)

    def _may_take(self, size: int, like: Tensor, end: Node) -> bool:
        return end.depth > 0 and size <= self._left_bytes and may_be_kept(like)

    def _rows_stand_alone(self, end: Node, images: Tensor, known: Tensor) -> bool:
        """Whether a row is the same bits in another place, in other company, and in every place of a batch."""
        reversed_rows = self._activation(end, images.flip(0), {})
        copies = self._activation(end, images[:1].expand_as(images).contiguous(), {})
        return same_bits(reversed_rows.flip(0), known) and same_bits(copies, known[:1].expand_as(known))


def _trains_head_alone(model: RouteModel) -> bool:
    return model.head is not None and model.first_trained == len(model.layers) - 1


def _rest(model: RouteModel, hidden: Tensor) -> Tensor:
    """What follows on the prefix: the layers from the first trained one on."""
    if _trains_head_alone(model):
        assert model.head is not None
        return model.head.logits(hidden)
    return model.finish(model.run(hidden, start=model.first_trained))
