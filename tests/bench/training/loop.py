"""The training loop beside a hand-written plain PyTorch loop: same model, data, batches, settings; paired, alternating.

Prints one JSON line a figure. Run by ``make bench-training``.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from evergraft.search.values import LayerPlan, Schedule
from evergraft_trainer import profile
from evergraft_trainer.data.augment import Augmentation
from evergraft_trainer.data.batches import train_batches
from evergraft_trainer.data.preprocessing import Preprocessing
from evergraft_trainer.device import open_device
from evergraft_trainer.nn.assemble import RouteModel
from evergraft_trainer.nn.backbones import root_modules
from evergraft_trainer.nn.candidate import build_candidate
from evergraft_trainer.nn.extract import layer_of
from evergraft_trainer.recipe import Recipe, make_optimizer
from evergraft_trainer.train import finish, train

BATCH, BATCHES, PAIRS = 32, 40, 7
CONFIG = {"imageSize": 28, "patchSize": 4, "width": 96, "depth": 6, "heads": 3}
RATE, DECAY, WARMUP = 1e-3, 0.05, 0.05
BAR = 1.05


class Images:
    """Random images in memory, as a split."""

    def __init__(self, count: int) -> None:
        numbers = np.random.default_rng(0)
        self.pixels = numbers.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
        self.labels: NDArray[np.int64] = numbers.integers(0, 10, count, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> NDArray[np.uint8]:
        """One image, uint8 28×28×1."""
        image: NDArray[np.uint8] = self.pixels[index]
        return image


def make_model() -> RouteModel:
    """A 680 k ViT, all layers trained."""
    modules = root_modules("vit", CONFIG, seed=0)
    layers = tuple(layer_of(name, module) for name, module in modules)
    by_id = {module.id: module for _, module in modules}
    plan = [LayerPlan(name=name, action="clone") for name, _ in modules] + [LayerPlan(name="head", action="new")]
    return build_candidate(layers, by_id.__getitem__, plan, labels=tuple("0123456789"), seed=0, image_size=28)


def ours(images: Images) -> float:
    """Seconds of our loop, data pipeline included."""
    model = make_model()
    samples = BATCH * BATCHES
    recipe = Recipe(
        optimizer="AdamW",
        learning_rate=RATE,
        momentum=0.9,
        nesterov=False,
        weight_decay=DECAY,
        warmup_ratio=WARMUP,
        schedule=Schedule(span=samples),
        batch_size=BATCH,
        samples=samples,
        validations=1,
        precision="Float32",
    )
    optimizer = make_optimizer(recipe, model.trained_parameters().values(), fused=True)
    began = time.perf_counter()
    batches = train_batches(
        images,
        seed=0,
        batch_size=BATCH,
        start=0,
        stop=samples,
        augmentation=Augmentation(
            crop=False,
            crop_min_area=0.05,
            crop_min_aspect=0.75,
            flip=False,
            brightness=0.0,
            contrast=0.0,
            saturation=0.0,
            hue=0.0,
        ),
        preprocessing=Preprocessing(28, 1, (0.5,), (0.5,)),
    )
    loop = train(
        model,
        optimizer,
        batches,
        recipe=recipe,
        device=open_device("cpu"),
        class_weights=None,
        start=0,
        validate=lambda _: True,
    )
    finish(loop)
    return time.perf_counter() - began


def plain(images: Images) -> float:
    """Seconds of a loop as one would write it by hand: tensors in memory, a permutation, AdamW, clip, cosine."""
    model = make_model()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY, fused=True)
    began = time.perf_counter()
    pixels = torch.from_numpy(images.pixels).permute(0, 3, 1, 2)
    labels = torch.from_numpy(images.labels)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    model.train()
    for step in range(BATCHES):
        rows = order[step * BATCH : (step + 1) * BATCH]
        batch = (pixels[rows].float() / 255 - 0.5) / 0.5
        position = step / BATCHES
        warm = 0.01 + 0.99 * position / WARMUP
        cosine = 0.5 * (1 + math.cos(math.pi * (position - WARMUP) / (1 - WARMUP)))
        for group in optimizer.param_groups:
            group["lr"] = RATE * (warm if position < WARMUP else cosine)
        loss = functional.cross_entropy(model(batch), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return time.perf_counter() - began


def paired(first: Callable[[], float], second: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Run both in turn, after one warm-up of each."""
    first(), second()
    pairs = [(first(), second()) for _ in range(PAIRS)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def main() -> None:
    """Measure and print."""
    profile.apply(threads=1)
    images = Images(BATCH * BATCHES * 2)
    a, b = paired(lambda: ours(images), lambda: plain(images))
    ratios = sorted(x / y for x, y in zip(a, b, strict=True))
    ratio = statistics.median(ratios)
    figure = {
        "figure": "training loop over a hand-written plain PyTorch loop, 680 k ViT, batch 32, 1 thread",
        "value": round(statistics.median(a) / BATCHES * 1000, 2),
        "unit": "ms/batch",
        "peer": f"plain torch {torch.__version__}",
        "peer_value": round(statistics.median(b) / BATCHES * 1000, 2),
        "ratio": round(ratio, 4),
        "bar": f"ratio <= {BAR}",
        "holds": ratio <= BAR,
        "runs": PAIRS,
        "spread": [round(ratios[0], 4), round(ratios[-1], 4)],
    }
    print(json.dumps(figure))


if __name__ == "__main__":
    main()
