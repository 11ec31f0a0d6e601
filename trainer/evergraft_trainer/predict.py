"""Predictions with a committed route: ``evergraft.load(url, task).predict(images)``.

The stored preprocessing is applied, in batches of one full shape, so an image's answer does not depend on what it is
asked together with. Called by users and by ``evergraft predict``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from evergraft.errors import DataError
from evergraft.store.open import open_store
from evergraft_trainer import profile
from evergraft_trainer.data.decode import decode_image
from evergraft_trainer.data.preprocessing import normalise, stack
from evergraft_trainer.serving import Served, serve

BATCH = 32
"""Images of one forward pass; short ones are padded to it."""

Image = NDArray[np.uint8] | bytes | str | Path


class Predictor:
    """One task's route, ready to predict. `labels` in the order of the probabilities' columns."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.task = served.route.task
        self.version = served.version
        self.labels = served.route.labels

    def predict(self, images: Sequence[Image]) -> tuple[list[str], NDArray[np.float64]]:
        """Labels of the images, and their probabilities N×C.

        An image is a path, the bytes of a file, or uint8 H×W or H×W×C (C 1 or 3) pixels.

        Raises:
            DataError: an image cannot be read; the message names it.
        """
        if not images:
            return [], np.zeros((0, len(self.labels)))
        rows = np.concatenate(list(self._batches(images)))
        return [self.labels[index] for index in rows.argmax(axis=1)], rows

    def _batches(self, images: Sequence[Image]) -> Iterator[NDArray[np.float64]]:
        preprocessing, model = self._served.preprocessing, self._served.model
        size, channels = preprocessing.image_size, preprocessing.channels
        for start in range(0, len(images), BATCH):
            pixels = [_pixels(image) for image in images[start : start + BATCH]]
            batch = torch.zeros((BATCH, channels, size, size), dtype=torch.float32)
            batch[: len(pixels)] = normalise(stack(pixels, preprocessing), preprocessing)
            with torch.inference_mode():
                yield torch.softmax(model(batch)[: len(pixels)].double(), dim=1).numpy()


def load(*, url: str, task: str, version: int | None = None) -> Predictor:
    """The predictor of a task's route; see ``evergraft.load``. Keeps torch's thread count as it is."""
    profile.apply(threads=None)
    return Predictor(serve(open_store(url), task, version=version))


def _pixels(image: Image) -> NDArray[np.uint8]:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
            raise DataError(f"an image of {image.dtype} {image.shape}; expected uint8 H×W, H×W×1 or H×W×3")
        return image if image.ndim == 3 else image[:, :, None]
    if isinstance(image, bytes):
        return decode_image(image, where="image bytes")
    try:
        data = Path(image).read_bytes()
    except OSError as error:
        raise DataError(f"{image}: cannot be read: {error.strerror}") from None
    return decode_image(data, where=str(image))
