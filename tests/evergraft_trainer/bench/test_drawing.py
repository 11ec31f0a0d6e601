"""Drawings made into images: repeatable, varied, of the right shape."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw

from evergraft_trainer.bench.drawing import GLYPH, PICTURE, SIDE, likeness, vary


def ring(mode: str) -> Image.Image:
    """A thick ring."""
    drawing = Image.new(mode, (60, 60))
    ImageDraw.Draw(drawing).ellipse((5, 5, 55, 55), outline=(255 if mode == "L" else (200, 80, 20, 255)), width=8)
    return drawing


def test_the_same_seed_draws_the_same_pixels_and_another_others() -> None:
    first, again, other = (vary(ring("L"), random.Random(seed), GLYPH) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_glyph_is_grey_and_lies_inside() -> None:
    for seed in range(20):
        pixels = vary(ring("L"), random.Random(seed), GLYPH)
        assert pixels.shape == (SIDE, SIDE)
        assert pixels.dtype == np.uint8
        assert pixels.max() > 100
        # Noise alone stays far below ink.
        assert pixels[0].max() < 90


def test_a_picture_keeps_its_colour() -> None:
    pixels = vary(ring("RGBA"), random.Random(0), PICTURE).astype(int)
    assert pixels.shape == (SIDE, SIDE, 3)
    red, _, blue = pixels.reshape(-1, 3)[pixels[..., 0].argmax()]
    assert red > blue + 60


def test_likeness_tells_shapes_apart_whatever_their_size() -> None:
    small, large = ring("L"), ring("L").resize((120, 120))
    assert likeness(small, large) > 0.9
    assert likeness(small, Image.new("L", (60, 60), 255)) < 0.7
