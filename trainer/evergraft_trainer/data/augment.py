"""Augmentation with explicit parameters, drawn by counter from (seed, epoch, sample).

The drawing knows no state: any process may draw any sample of any epoch in any order and gets the same parameters,
so resuming and loading in parallel change no byte. The pixels are torchvision's own transforms (v2 functional) on
uint8. Called by ``batches``.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as tv

from evergraft_trainer.data.preprocessing import Preprocessing, normalise, resize, to_tensor

_ATTEMPTS: Final = 10
"""Tries for a crop that fits, as in torchvision's RandomResizedCrop; then the whole image is taken."""

_WORDS: Final = struct.Struct(f"<{4 * _ATTEMPTS + 5}I")
"""32-bit words of one draw: flip, four colour factors, then area, aspect, top and left of each attempt."""


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image.

    `crop_min_area`: least share of the image's area a crop keeps, in (0, 1]. `crop_min_aspect`: a crop's
    height:width lies between this and its inverse, in (0, 1]. `brightness`, `contrast`, `saturation`: the factor lies
    within 1 ± this; `hue`: the shift lies within ± this, in turns, at most 0.5.
    """

    crop: bool = False
    crop_min_area: float = 0.05
    crop_min_aspect: float = 0.75
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.crop_min_area <= 1 and 0 < self.crop_min_aspect <= 1):
            raise ValueError(f"crop_min_area and crop_min_aspect must lie in (0, 1]: {self}")
        if not (0 <= self.hue <= 0.5 and min(self.brightness, self.contrast, self.saturation) >= 0):
            raise ValueError(f"colour deltas must not be negative, hue at most 0.5: {self}")

    @property
    def moves_pixels(self) -> bool:
        """Whether more than a mirror may happen, so that images must be worked on one by one."""
        return self.crop or max(self.brightness, self.contrast, self.saturation, self.hue) > 0


NONE: Final = Augmentation()
"""No augmentation at all."""


@dataclass(frozen=True)
class Params:
    """What does happen to one image in one epoch: a box in pixels, a mirror, colour factors (1 or 0: unchanged)."""

    top: int
    left: int
    height: int
    width: int
    flip: bool
    brightness: float
    contrast: float
    saturation: float
    hue: float


def draw(augmentation: Augmentation, seed: int, epoch: int, sample_index: int, height: int, width: int) -> Params:
    """The parameters of one sample in one epoch. Pure: equal arguments give equal parameters."""
    message = f"evergraft/augment/{seed}/{epoch}/{sample_index}".encode()
    words = _WORDS.unpack(hashlib.shake_256(message).digest(_WORDS.size))
    top, left, box_height, box_width = 0, 0, height, width
    if augmentation.crop:
        top, left, box_height, box_width = _box(augmentation, words[5:], height, width)
    return Params(
        top=top,
        left=left,
        height=box_height,
        width=box_width,
        flip=augmentation.flip and words[0] >= 1 << 31,
        brightness=1 + augmentation.brightness * _signed(words[1]),
        contrast=1 + augmentation.contrast * _signed(words[2]),
        saturation=1 + augmentation.saturation * _signed(words[3]),
        hue=augmentation.hue * _signed(words[4]),
    )


def apply(image: NDArray[np.uint8], params: Params, preprocessing: Preprocessing) -> torch.Tensor:
    """One uint8 H×W×C image, augmented, as a normalised float32 C×S×S tensor."""
    size, channels = preprocessing.image_size, preprocessing.channels
    batch = transform(image, params, preprocessing).expand(channels, size, size)[None]
    return normalise(batch.contiguous(), preprocessing)[0]


def transform(image: NDArray[np.uint8], params: Params, preprocessing: Preprocessing) -> torch.Tensor:
    """Crop, resize, mirror, then brightness, contrast, saturation, hue, in this order, on uint8.

    Returns a c×S×S tensor, c = 1 for gray images (to be broadcast), else the preprocessing's channels.
    """
    pixels = to_tensor(image, preprocessing.channels)
    box = pixels[:, params.top : params.top + params.height, params.left : params.left + params.width]
    pixels = resize(box, preprocessing.image_size)
    if params.flip:
        pixels = pixels.flip(-1)
    return _recolour(pixels, params)


def _recolour(pixels: torch.Tensor, params: Params) -> torch.Tensor:
    if params.brightness != 1:
        pixels = tv.adjust_brightness_image(pixels, params.brightness)
    if params.contrast != 1:
        pixels = tv.adjust_contrast_image(pixels, params.contrast)
    if params.saturation != 1:
        pixels = tv.adjust_saturation_image(pixels, params.saturation)
    if params.hue != 0:
        pixels = tv.adjust_hue_image(pixels, params.hue)
    return pixels


def _box(augmentation: Augmentation, words: tuple[int, ...], height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height, width of the first box that fits: uniform area, log-uniform aspect, uniform place."""
    log_aspect = math.log(augmentation.crop_min_aspect)
    for at in range(0, 4 * _ATTEMPTS, 4):
        area = height * width * (1 - (1 - augmentation.crop_min_area) * _unit(words[at]))
        stretch = math.sqrt(math.exp(log_aspect * _signed(words[at + 1])))
        box_height = round(math.sqrt(area) * stretch)
        box_width = round(math.sqrt(area) / stretch)
        if 0 < box_height <= height and 0 < box_width <= width:
            top = int((height - box_height + 1) * _unit(words[at + 2]))
            left = int((width - box_width + 1) * _unit(words[at + 3]))
            return top, left, box_height, box_width
    return 0, 0, height, width


def _unit(word: int) -> float:
    return word / (1 << 32)


def _signed(word: int) -> float:
    return word / (1 << 31) - 1
