"""A head in closed form on a frozen route: linear discriminant analysis of its features, times one temperature.

One forward pass over the training images gives the means of the classes and what they have in common, which is all
that the head is; validation chooses how sharp its answers are. Called for candidates whose new head is planned `lda`,
and for the probe of a transfer ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from evergraft_trainer.data.batches import Images, eval_batches
from evergraft_trainer.data.preprocessing import Preprocessing
from evergraft_trainer.device import Device
from evergraft_trainer.nn.assemble import RouteModel

SHRINK = 0.2
"""How far the common covariance is drawn to a sphere of the same trace."""
TEMPERATURES = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0)
"""What logits may be multiplied by."""


@dataclass(frozen=True)
class Spread:
    """`count` images of a split in its order: every n-th of them by class, so that all classes stay in proportion.

    By their order in the split alone, a stride could fall in with that of the labels and leave whole classes out.
    """

    split: Images
    count: int

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class index of each image."""
        return self.split.labels[self._places]

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> NDArray[np.uint8]:
        """The decoded pixels."""
        return self.split.image(int(self._places[index]))

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        by_class = np.argsort(self.split.labels, kind="stable")
        return np.sort(by_class[np.arange(self.count) * len(self.split) // self.count])


@dataclass(frozen=True)
class Looking:
    """How features are computed: batches of one size, on one device, as the search says; `pulse` between batches."""

    preprocessing: Preprocessing
    batch_size: int
    device: Device
    precision: str
    pulse: Callable[[], None]

    def features(self, model: RouteModel, images: Images) -> torch.Tensor:
        """What the head of `model` reads, float64 N×F on the computer."""
        model.eval()
        rows = []
        with self.device.inference(), self.device.autocast(self.precision):
            for batch in eval_batches(images, batch_size=self.batch_size, preprocessing=self.preprocessing):
                self.pulse()
                rows.append(model.features(self.device.put(batch.images)).float()[: batch.count].cpu())
        return torch.cat(rows).double()


@dataclass(frozen=True)
class Fitted:
    """What a head was fitted with: `images` of the training split, and the `validation` features, float64 N×F."""

    images: int
    validation: torch.Tensor

    @property
    def forward_samples(self) -> int:
        """Images that were run forward for it."""
        return self.images + len(self.validation)


def fit_head(model: RouteModel, train: Images, validation: Images, *, most: int, looking: Looking) -> Fitted:
    """Put the fitted head into `model`.

    At most `most` training images are used. Labels are class indices below the head's number of classes.
    """
    assert model.head is not None
    classes = model.head.out_features
    seen = Spread(train, min(most, len(train)))
    weight, bias = discriminant(looking.features(model, seen), torch.from_numpy(seen.labels), classes=classes)
    checked = looking.features(model, validation)
    sharpness = temperature(checked @ weight.T + bias, torch.from_numpy(validation.labels))
    with torch.no_grad():
        model.head.weight.copy_(weight * sharpness)
        model.head.bias.copy_(bias * sharpness)
    return Fitted(images=len(seen), validation=checked)


def discriminant(
    features: torch.Tensor, labels: torch.Tensor, *, classes: int, shrink: float = SHRINK
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights classes×F and biases of the discriminant of normal classes with one covariance (Fisher, 1936).

    `features` is float64 N×F, `labels` int64 N. The pooled covariance S becomes (1 - shrink) S + shrink tr(S)/F I
    (Ledoit and Wolf's form). A class without an image gets the mean of all and the prior of half an image.
    """
    counts = torch.bincount(labels, minlength=classes).double()
    sums = torch.zeros(classes, features.shape[1], dtype=torch.float64).index_add_(0, labels, features)
    means = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], features.mean(0))
    centred = features - means[labels]
    width = features.shape[1]
    covariance = centred.T @ centred / max(1, len(features))
    size = covariance.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    covariance = (1 - shrink) * covariance + shrink * size * torch.eye(width, dtype=torch.float64)
    weight = torch.linalg.solve(covariance, means.T).T
    priors = counts.clamp(min=0.5)
    bias = torch.log(priors / priors.sum()) - 0.5 * (weight * means).sum(1)
    return weight, bias


def temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The factor of TEMPERATURES with the least log loss on `labels`, ties to the smaller."""
    losses = [float(functional.cross_entropy(logits * factor, labels)) for factor in TEMPERATURES]
    return TEMPERATURES[losses.index(min(losses))]
