"""What happens to every image before a route sees it: channels, size, normalisation.

Stored in each route document and applied in training, validation and serving alike. The size is reached by a plain
bilinear antialiased resize of the whole image to S×S (no crop: nothing at the border is lost, and a label never
depends on a margin that nobody looked at). Called by ``batches``, ``augment`` and the predictor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as tv

from evergraft.errors import IntegrityError

MAX_IMAGE_SIZE: Final = 4096
_LARGEST, _SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
_LUMA: Final = np.array([19595, 38470, 7471], dtype=np.uint32)
"""ITU-R 601 weights in 1/65536, the integers Pillow's own "L" conversion uses."""


@dataclass(frozen=True)
class Preprocessing:
    """Target size S in pixels, channels (1 or 3), and the mean and std of each channel for values in 0…1."""

    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"

    def to_json(self) -> dict[str, Any]:
        """The form stored in a route document."""
        return {
            "imageSize": self.image_size,
            "channels": self.channels,
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """Read the stored form; unknown fields are ignored.

        Raises:
            IntegrityError: a field is missing or out of range.
        """
        size, channels = value.get("imageSize"), value.get("channels")
        mean, std = _floats(value.get("mean")), _floats(value.get("std"))
        if type(size) is not int or not 1 <= size <= MAX_IMAGE_SIZE:
            raise IntegrityError(f"preprocessing.imageSize: {size!r} is not 1…{MAX_IMAGE_SIZE}")
        if type(channels) is not int or channels not in (1, 3):
            raise IntegrityError(f"preprocessing.channels: {channels!r} is neither 1 nor 3")
        if len(mean) != channels or len(std) != channels or min(std) < _SMALLEST:
            raise IntegrityError(f"preprocessing: mean and std need {channels} finite float32 numbers, std above 0")
        if value.get("interpolation", "bilinear") != "bilinear":
            raise IntegrityError(f"preprocessing.interpolation: {value['interpolation']!r} is not bilinear")
        return cls(image_size=size, channels=channels, mean=mean, std=std)


def prepare(image: NDArray[np.uint8], preprocessing: Preprocessing) -> torch.Tensor:
    """One uint8 H×W×C image as the C×S×S float32 tensor a route expects."""
    return normalise(stack([image], preprocessing), preprocessing)[0]


def stack(images: Iterable[NDArray[np.uint8]], preprocessing: Preprocessing) -> torch.Tensor:
    """Images of any sizes and channels, at least one, as one contiguous uint8 B×C×S×S tensor.

    Each is resized as it comes, so that of images made one by one no more than two are held at their full size.
    Images that need no resize are copied in one go; each result has the same bytes as when it is alone.
    """
    size, channels = preprocessing.image_size, preprocessing.channels
    fitted = [_fit(image, preprocessing) for image in images]
    whole = [image for image in fitted if isinstance(image, np.ndarray) and image.shape == fitted[0].shape]
    if len(whole) == len(fitted):
        batch = to_channels(np.stack(whole), channels)
        pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).expand(-1, channels, -1, -1).contiguous()
        # One channel is contiguous in any order; only plain strides keep convolutions from choosing other kernels.
        return pixels.view(-1).view(len(fitted), channels, size, size)
    out = torch.empty((len(fitted), channels, size, size), dtype=torch.uint8)
    for row, image in zip(out, fitted, strict=True):
        row.copy_(image if isinstance(image, torch.Tensor) else to_tensor(image, channels))
    return out


def _fit(image: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8] | torch.Tensor:
    """The H×W×C image itself if it has the size S×S, else a resized tensor C×S×S."""
    if image.shape[:2] == (preprocessing.image_size, preprocessing.image_size):
        return image
    return resize(to_tensor(image, preprocessing.channels), preprocessing.image_size)


def to_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Colour reduced to gray where one channel is wanted (integer ITU-R 601); gray stays one channel.

    `image` is …×C with C 1 or 3. Gray becomes three equal channels only when it is copied into a batch.
    """
    if channels == 1 and image.shape[-1] == 3:
        gray = (image.astype(np.uint32) * _LUMA).sum(axis=-1, dtype=np.uint32)
        reduced: NDArray[np.uint8] = ((gray + 0x8000) >> 16).astype(np.uint8)[..., None]
        return reduced
    return image


def to_tensor(image: NDArray[np.uint8], channels: int) -> torch.Tensor:
    """A uint8 H×W×C array as a C×H×W tensor over the same memory, gray if one channel is wanted."""
    return torch.from_numpy(to_channels(image, channels)).permute(2, 0, 1)


def resize(image: torch.Tensor, size: int) -> torch.Tensor:
    """A uint8 C×H×W tensor resized to C×S×S, bilinear with antialiasing; itself if it has that size."""
    resized: torch.Tensor = tv.resize_image(image, [size, size], antialias=True)
    return resized


def normalise(batch: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """uint8 B×C×S×S to float32: (value / 255 − mean) / std, element by element."""
    shape = (1, preprocessing.channels, 1, 1)
    mean = torch.tensor(preprocessing.mean, dtype=torch.float32).reshape(shape)
    std = torch.tensor(preprocessing.std, dtype=torch.float32).reshape(shape)
    return batch.to(torch.float32).div_(255).sub_(mean).div_(std)


def _floats(value: object) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)):
        return ()
    numbers = tuple(float(item) for item in value if isinstance(item, (int, float)) and _fits(item))
    return numbers if len(numbers) == len(value) else ()


def _fits(number: float) -> bool:
    """Whether it stays finite as a float32."""
    return not isinstance(number, bool) and abs(number) <= _LARGEST
