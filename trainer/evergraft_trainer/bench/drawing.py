"""One drawing, glyph or picture, made into many small images that differ as scans and photographs do.

Size, slant, rotation, place, stroke, blur, contrast and noise vary with a random generator that the caller seeds, so
the same call gives the same pixels with the same Pillow. Called by the builders of the tasks.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

SIDE = 28
"""Side of the images in pixels."""
BODY = 20
"""Longer side of a glyph's ink in pixels before its size varies."""
OVERSAMPLING = 3
"""Images are drawn this many times larger and then averaged down."""
FONT_SIZE = 96
"""Pixels per em at which a glyph is rasterised."""

_BICUBIC = Image.Resampling.BICUBIC


@dataclass(frozen=True)
class Variation:
    """How far images of one drawing differ. Angles in degrees, lengths in pixels; contrast and noise are shares of 255.

    `strokes` are what may be added to a glyph's strokes, `body` is the longer side before `smallest` … `largest`.
    """

    body: float = BODY
    rotation: float = 10.0
    shear: float = 0.2
    smallest: float = 0.8
    largest: float = 1.15
    aspect: float = 0.12
    shift: float = 2.0
    strokes: tuple[int, ...] = (0, 0, 1, 2)
    blur: float = 0.8
    faintest: float = 0.55
    noise: float = 0.06


GLYPH = Variation()
PICTURE = Variation(body=26, rotation=12.0, shear=0.1, aspect=0.08, strokes=(0,), blur=0.6, faintest=0.7)


def vary(drawing: Image.Image, rng: random.Random, variation: Variation) -> NDArray[np.uint8]:
    """One image of a drawing: SIDE×SIDE of a mask (mode L), on black; SIDE×SIDE×3 of RGBA, on a dark even ground."""
    side = SIDE * OVERSAMPLING
    placement = _placement(drawing.size, rng, variation)
    bent = drawing.transform((side, side), Image.Transform.AFFINE, placement, _BICUBIC)
    stroke = rng.choice(variation.strokes)
    if stroke:
        bent = bent.filter(ImageFilter.MaxFilter(2 * stroke + 1))
    if bent.mode == "RGBA":
        ground = Image.new("RGBA", bent.size, (*(rng.randrange(64) for _ in range(3)), 255))
        bent = Image.alpha_composite(ground, bent).convert("RGB")
    blurred = bent.filter(ImageFilter.GaussianBlur(OVERSAMPLING * variation.blur * rng.random()))
    return _scanned(np.asarray(blurred.reduce(OVERSAMPLING)), rng, variation)


def _scanned(pixels: NDArray[np.uint8], rng: random.Random, variation: Variation) -> NDArray[np.uint8]:
    """The pixels with less contrast and some noise."""
    contrast = rng.uniform(variation.faintest, 1.0)
    noise = np.random.Generator(np.random.PCG64(rng.getrandbits(64))).standard_normal(pixels.shape)
    noisy = pixels * contrast + noise * (255 * variation.noise * rng.random())
    rounded: NDArray[np.uint8] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return rounded


def _placement(size: tuple[int, int], rng: random.Random, variation: Variation) -> tuple[float, ...]:
    """The affine map from a pixel of the image to one of the drawing, as Pillow wants it."""
    angle = math.radians(rng.uniform(-variation.rotation, variation.rotation))
    shear = rng.uniform(-variation.shear, variation.shear)
    scale = variation.body * OVERSAMPLING / max(size) * rng.uniform(variation.smallest, variation.largest)
    aspect = math.exp(rng.uniform(-variation.aspect, variation.aspect))
    shift_x, shift_y = (OVERSAMPLING * rng.uniform(-variation.shift, variation.shift) for _ in range(2))
    forward = (
        np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        @ np.array([[1.0, shear], [0.0, 1.0]])
        @ np.diag([scale * aspect, scale / aspect])
    )
    (a, b), (d, e) = np.linalg.inv(forward).tolist()
    middle_x, middle_y = SIDE * OVERSAMPLING / 2 + shift_x, SIDE * OVERSAMPLING / 2 + shift_y
    return (a, b, size[0] / 2 - a * middle_x - b * middle_y, d, e, size[1] / 2 - d * middle_x - e * middle_y)


@cache
def ink(face: Path, character: str) -> Image.Image | None:
    """The glyph of a font file in white on black, cropped to its ink; None where the face draws nothing."""
    # The basic layout needs no optional library, so every machine sets the same glyph.
    font = ImageFont.truetype(face, FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
    canvas = Image.new("L", (4 * FONT_SIZE, 4 * FONT_SIZE))
    ImageDraw.Draw(canvas).text((FONT_SIZE, FONT_SIZE), character, fill=255, font=font)
    box = canvas.getbbox()
    return None if box is None else canvas.crop(box)


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Overlap of two glyphs' ink once both fill the same square: 1 for the same shape, 0 for no overlap."""
    first, second = (glyph.resize((SIDE, SIDE), _BICUBIC) for glyph in (one, other))
    shared = float(np.asarray(ImageChops.darker(first, second)).sum())
    return shared / max(1.0, float(np.asarray(ImageChops.lighter(first, second)).sum()))
