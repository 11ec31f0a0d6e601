"""Predictions with a committed route: ``evergraft.load(url, task).predict(images)``.

The stored preprocessing is applied, in batches of one full shape, so an image's answer does not depend on what it is
asked together with; each image is resized as it is decoded, so that memory does not grow with their size times their
number. Called by users and by ``evergraft predict``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from evergraft.errors import DataError, UserError
from evergraft.store.open import open_store
from evergraft_trainer import profile
from evergraft_trainer.data.decode import UnreadableImageError, check_size, decode_image
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

    def predict(self, images: Sequence[Image] | NDArray[np.uint8]) -> tuple[list[str], NDArray[np.float64]]:
        """Labels of the images, and their probabilities N×C.

        An image is a path, the bytes of a file, or uint8 H×W or H×W×C (C 1 or 3) pixels. An array is a batch of
        pixels: N×H×W or N×H×W×C.

        Raises:
            UserError: one image that is not in a list.
            DataError: an image cannot be read; the message names it.
        """
        if _is_one(images):
            raise UserError("predict: one image where a list of them is expected; write predict([image])")
        if len(images) == 0:
            return [], np.zeros((0, len(self.labels)))
        rows = np.concatenate(list(self._batches(images)))
        return [self.labels[index] for index in rows.argmax(axis=1)], rows

    def _batches(self, images: Sequence[Image] | NDArray[np.uint8]) -> Iterator[NDArray[np.float64]]:
        preprocessing, model = self._served.preprocessing, self._served.model
        size, channels = preprocessing.image_size, preprocessing.channels
        for start in range(0, len(images), BATCH):
            pixels = stack(map(_pixels, images[start : start + BATCH]), preprocessing)
            batch = torch.zeros((BATCH, channels, size, size), dtype=torch.float32)
            batch[: len(pixels)] = normalise(pixels, preprocessing)
            with torch.inference_mode():
                yield torch.softmax(model(batch)[: len(pixels)].double(), dim=1).numpy()


def load(*, url: str, task: str, version: int | None = None) -> Predictor:
    """The predictor of a task's route; see ``evergraft.load``. Keeps torch's thread count as it is."""
    profile.apply(threads=None)
    served = serve(open_store(url), task, version=version)
    if not served.route.labels:
        raise UserError(f"{task}: its route has no labels to predict; name a task that was trained")
    return Predictor(served)


def _is_one(images: object) -> bool:
    """Whether this is one image instead of a list. Pixels 1 or 3 wide are taken for the channels of one."""
    if isinstance(images, np.ndarray) and images.size:
        return images.ndim == 2 or (images.ndim == 3 and images.shape[2] in (1, 3))
    return isinstance(images, (str, bytes, Path))


def _pixels(image: Image) -> NDArray[np.uint8]:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
            raise DataError(f"an image of {image.dtype} {image.shape}; expected uint8 H×W, H×W×1 or H×W×3")
        try:
            check_size(image.shape[0], image.shape[1], where="an image")
        except UnreadableImageError as error:
            raise DataError(f"an image of {error}; leave it out") from None
        # Torch takes no view that runs backwards, as BGR turned into RGB does.
        return np.ascontiguousarray(image if image.ndim == 3 else image[:, :, None])
    if isinstance(image, bytes):
        return decode_image(image, where="image bytes")
    try:
        data = Path(image).read_bytes()
    except OSError as error:
        raise DataError(f"{image}: cannot be read: {error.strerror}") from None
    return decode_image(data, where=str(image))
