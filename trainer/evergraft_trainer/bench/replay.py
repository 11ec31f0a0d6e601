"""The rehearsal baseline: one shared backbone, tuned on from task to task, a head for each task.

Half of every batch are new images, half are stored images of earlier tasks, drawn evenly from all that is stored: 256
training images a task, which take a third of the bytes that `graft` adds. The first task trains on new images alone.
Samples, batch size, optimiser, rate and schedule are those of `finetune`; the last state is kept. Earlier tasks may
be forgotten, which is why every test is measured again at the end. Called by ``harness`` in place of ``learner``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from evergraft import canonical
from evergraft.api.load import load_root
from evergraft.search.values import LayerPlan, Schedule
from evergraft_trainer import metrics, roots
from evergraft_trainer.bench.datasets import Built, arrays
from evergraft_trainer.bench.learner import Finished, Learned
from evergraft_trainer.bench.methods import BATCH, VALIDATIONS, Method
from evergraft_trainer.data.augment import NONE
from evergraft_trainer.data.batches import Batch, eval_batches, train_batches
from evergraft_trainer.data.order import permutation
from evergraft_trainer.data.preprocessing import normalise, stack
from evergraft_trainer.device import open_device
from evergraft_trainer.nn.candidate import build_candidate, fresh
from evergraft_trainer.nn.extract import layer_of
from evergraft_trainer.nn.head import Head
from evergraft_trainer.profile import current_profile
from evergraft_trainer.recipe import Recipe, make_optimizer
from evergraft_trainer.train import finish, train

STORED_PER_TASK = 256
"""Training images kept of each task."""
LEARNING_RATE = 0.001
NEVER = -1e9
"""Logit of a class that is not of the sample's task."""


@dataclass(frozen=True)
class Held:
    """Images in memory as batches want them: labels int64 N, pixels uint8 N×H×W×C."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The pixels of one."""
        image: NDArray[np.uint8] = self.pixels[index]
        return image


def held(data: Built, split: str) -> Held:
    """A split of a built dataset."""
    found = arrays(data)
    pixels = found[f"{split}_images"]
    return Held(pixels if pixels.ndim == 4 else pixels[..., None], found[f"{split}_labels"])


class ReplayLearner:
    """The baseline's state: backbone, heads, stored images and figures by task. Kept in `folder` after each task."""

    def __init__(self, method: Method, *, seed: int, root: Path, folder: Path) -> None:
        self._method, self._seed = method, seed
        self._file = folder / "replay.npz"
        folder.mkdir(parents=True, exist_ok=True)
        self._device = open_device("cpu")
        modules, self._preprocessing = roots.make_root(load_root(root))
        layers = [layer_of(name, module) for name, module in modules]
        known = {module.id: module for _, module in modules}
        plan = [LayerPlan(name=layer.name, action="clone") for layer in layers]
        self._backbone = build_candidate(layers, known.__getitem__, plan, labels=(), seed=seed)
        self._width = self._backbone.shape[-1]
        self._heads = torch.nn.ModuleDict()
        self._stored: dict[str, Held] = {}
        self._learned: dict[str, Learned] = {}
        self._restore()

    @property
    def tasks(self) -> tuple[str, ...]:
        """What has been learned, in order."""
        return tuple(self._heads)

    def learn(self, data: Built, *, turn: int) -> Learned:
        """Train backbone and heads on a task and on what is stored of the earlier ones, or say again what came of it.

        Learned tasks are not measured again: since then the backbone has gone on.
        """
        if data.task not in self._learned:
            self._train(data, turn)
            self._learned[data.task] = self._measured(data)
            self._save()
        return self._learned[data.task]

    def _measured(self, data: Built) -> Learned:
        """The figures of the task that was learned last."""
        num_validation = data.counts["validation"]
        total = sum(parameter.numel() for parameter in self._backbone.parameters())
        head = sum(parameter.numel() for parameter in self._heads[data.task].parameters())
        return Learned(
            quality=self._quality(data, "validation"),
            test_quality=self._quality(data, "test"),
            parameters_added=head,
            parameters_total=total + head,
            samples=self._method.samples,
            forward_samples=num_validation,
            flops=self._backbone.flops * (3 * self._method.samples + num_validation),
            parent=self.tasks[-2] if len(self.tasks) > 1 else "root",
            why=f"half of each batch from {STORED_PER_TASK} stored images of each of {len(self.tasks) - 1} task(s)",
            profile=str(current_profile(self._device, dtype="Float32", batch_size=BATCH)["digest"]),
        )

    def finish(self, tasks: Mapping[str, Built]) -> Finished:
        """Measure every task's test with the backbone as it is now."""
        return Finished({task: self._quality(data, "test") for task, data in tasks.items()})

    def _train(self, data: Built, turn: int) -> None:
        new = held(data, "train")
        self._heads[data.task] = self._new_head(data.task, data.classes)
        trained = [*self._backbone.parameters(), *self._heads.parameters()]
        recipe = _recipe(self._method.samples)
        loop = train(
            self._backbone,
            make_optimizer(recipe, trained, fused=True),
            self._batches(new, _seed_of(self._seed, data.task, turn)),
            recipe=recipe,
            device=self._device,
            class_weights=None,
            start=0,
            validate=lambda _: True,
            forward=self._forward,
        )
        if finish(loop) is not None:
            raise FloatingPointError(f"{data.task}: the loss of replay is not finite")
        order = permutation(self._seed, 0, len(new))[:STORED_PER_TASK]
        self._stored[data.task] = Held(new.pixels[order], new.labels[order])

    def _batches(self, new: Held, seed: int) -> Iterator[Batch]:
        """Batches whose `indices` are the number of each sample's task."""
        num_new = BATCH // 2 if self._stored else BATCH
        names = list(self._stored)
        places = [(number, index) for number, name in enumerate(names) for index in range(len(self._stored[name]))]
        draws = np.random.Generator(np.random.PCG64(seed))
        here = len(self._heads) - 1
        total = self._method.samples // BATCH * num_new
        for fresh_batch in train_batches(
            new,
            seed=seed,
            batch_size=num_new,
            start=0,
            stop=total,
            augmentation=NONE,
            preprocessing=self._preprocessing,
        ):
            if not names:
                yield Batch(fresh_batch.images, fresh_batch.labels, torch.full_like(fresh_batch.labels, here))
                continue
            drawn = [places[int(place)] for place in draws.integers(len(places), size=BATCH - num_new)]
            old = self._old([(names[number], index) for number, index in drawn])
            numbers = torch.tensor([self.tasks.index(names[number]) for number, _ in drawn])
            yield Batch(
                torch.cat([fresh_batch.images, old.images]),
                torch.cat([fresh_batch.labels, old.labels]),
                torch.cat([torch.full_like(fresh_batch.labels, here), numbers]),
            )

    def _old(self, chosen: list[tuple[str, int]]) -> Batch:
        images = [self._stored[task].image(index) for task, index in chosen]
        labels = torch.tensor([int(self._stored[task].labels[index]) for task, index in chosen])
        # One image at a time: tasks differ in their channels, and a batch has one shape.
        rows = [normalise(stack([image], self._preprocessing), self._preprocessing) for image in images]
        return Batch(torch.cat(rows), labels, labels)

    def _forward(self, batch: Batch) -> torch.Tensor:
        """Logits B×(most classes): each sample's own task's head, and what is never chosen beside it."""
        features = self._backbone.features(self._device.put(batch.images))
        heads = list(self._heads.values())
        most = max(len(head.bias) for head in heads if isinstance(head, Head))
        logits = features.new_full((len(features), most), NEVER)
        for number in batch.indices.unique().tolist():
            rows = torch.nonzero(batch.indices == number).flatten()
            answers = heads[number](features[rows][:, None])
            logits[rows, : answers.shape[1]] = answers
        return logits

    def _quality(self, data: Built, split: str) -> float:
        images = held(data, split)
        self._backbone.eval()
        rows = []
        with self._device.inference():
            for batch in eval_batches(images, batch_size=BATCH, preprocessing=self._preprocessing):
                features = self._backbone.features(self._device.put(batch.images))[: batch.count]
                rows.append(self._heads[data.task](features[:, None]).float().cpu())
        return metrics.quality("Accuracy", torch.cat(rows).double().numpy(), images.labels)

    def _new_head(self, task: str, classes: int) -> torch.nn.Module:
        config = {"features": self._width, "classes": classes}
        return fresh("head", config, seed=self._seed, name=f"head/{task}")

    def _save(self) -> None:
        held_arrays: dict[str, np.ndarray] = {"tasks": np.array(self.tasks)}
        for name, value in self._backbone.state_dict().items():
            held_arrays[f"backbone/{name}"] = value.numpy()
        for task, head in self._heads.items():
            held_arrays |= {f"head/{task}/{name}": value.numpy() for name, value in head.state_dict().items()}
            held_arrays[f"pixels/{task}"] = self._stored[task].pixels
            held_arrays[f"labels/{task}"] = self._stored[task].labels
            held_arrays[f"learned/{task}"] = np.array(json.dumps(asdict(self._learned[task])))
        partial = self._file.with_suffix(".partial.npz")
        np.savez(partial, allow_pickle=False, **held_arrays)
        os.replace(partial, self._file)  # noqa: PTH105 - one step, also over an older file

    def _restore(self) -> None:
        if not self._file.exists():
            return
        with np.load(self._file) as found:
            kept = {name: found[name] for name in found.files}
        state = {name.removeprefix("backbone/"): value for name, value in kept.items() if name.startswith("backbone/")}
        self._backbone.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
        for task in kept["tasks"].tolist():
            head = self._new_head(task, len(kept[f"head/{task}/bias"]))
            head.load_state_dict({part: torch.from_numpy(kept[f"head/{task}/{part}"]) for part in ("weight", "bias")})
            self._heads[task] = head
            self._stored[task] = Held(kept[f"pixels/{task}"], kept[f"labels/{task}"])
            self._learned[task] = Learned(**json.loads(str(kept[f"learned/{task}"])))


def _seed_of(seed: int, task: str, turn: int) -> int:
    return int(canonical.digest(["replay", seed, task, turn])[:15], 16)


def _recipe(samples: int) -> Recipe:
    return Recipe(
        optimizer="AdamW",
        learning_rate=LEARNING_RATE,
        momentum=0.9,
        nesterov=False,
        weight_decay=0.05,
        warmup_ratio=0.05,
        schedule=Schedule(span=samples),
        batch_size=BATCH,
        samples=samples,
        validations=VALIDATIONS,
        precision="Float32",
    )
