"""Augmentation: parameters are pure and in range, pixels are what torchvision says they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from evergraft_trainer.data.augment import NONE, Augmentation, Params, apply, draw, transform
from evergraft_trainer.data.preprocessing import Preprocessing, prepare

_FULL = Augmentation(crop=True, flip=True, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)
_GRAY = Preprocessing(image_size=12, channels=1, mean=(0.5,), std=(0.25,))
_RGB = Preprocessing(image_size=12, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def test_the_draw_is_the_same_on_every_machine_for_ever() -> None:
    assert draw(_FULL, 1, 2, 3, 28, 32) == Params(
        top=11,
        left=4,
        height=15,
        width=13,
        flip=True,
        brightness=0.853250449616462,
        contrast=0.8083924380131066,
        saturation=1.1013522722758353,
        hue=-0.05587244392372668,
    )


@given(
    st.integers(0, 2**63), st.integers(0, 99), st.integers(0, 10**6), st.integers(1, 64), st.integers(1, 64),
    st.floats(0.01, 1), st.floats(0.25, 1),
)  # fmt: skip
def test_boxes_lie_inside_and_keep_their_bounds(
    seed: int, epoch: int, sample: int, height: int, width: int, area: float, aspect: float
) -> None:
    augmentation = Augmentation(crop=True, crop_min_area=area, crop_min_aspect=aspect)
    params = draw(augmentation, seed, epoch, sample, height, width)
    assert params == draw(augmentation, seed, epoch, sample, height, width)
    assert 0 <= params.top < params.top + params.height <= height
    assert 0 <= params.left < params.left + params.width <= width
    # Sides are rounded to whole pixels, so each may be half a pixel short.
    assert (params.height + 0.5) * (params.width + 0.5) >= area * height * width * 0.999
    if (params.height, params.width) != (height, width):
        assert (params.height - 0.5) / (params.width + 0.5) <= 1 / aspect * 1.001
        assert (params.width - 0.5) / (params.height + 0.5) <= 1 / aspect * 1.001


def test_draws_spread_over_their_ranges() -> None:
    drawn = [draw(_FULL, 0, 0, sample, 40, 40) for sample in range(2000)]
    flips = np.mean([params.flip for params in drawn])
    brightness = np.array([params.brightness for params in drawn])
    hue = np.array([params.hue for params in drawn])
    areas = np.array([params.height * params.width / 1600 for params in drawn])
    assert 0.45 < flips < 0.55
    assert 0.8 <= brightness.min() < 0.81
    assert 1.19 < brightness.max() <= 1.2
    assert -0.1 <= hue.min() < -0.09
    assert areas.min() < 0.1
    assert areas.max() > 0.9
    assert abs(np.corrcoef(brightness, hue)[0, 1]) < 0.1


def test_every_key_of_the_draw_counts() -> None:
    draws = {draw(_FULL, s, e, i, 30, 30) for s in range(3) for e in range(3) for i in range(3)}
    assert len(draws) == 27


def test_pixels_are_those_of_torchvision() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    params = draw(_FULL, 5, 0, 1, 30, 20)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    box = [params.top, params.left, params.height, params.width]
    expected = tv.resized_crop(tensor, *box, [12, 12], antialias=True)
    expected = tv.horizontal_flip(expected) if params.flip else expected
    expected = tv.adjust_contrast(tv.adjust_brightness(expected, params.brightness), params.contrast)
    expected = tv.adjust_hue(tv.adjust_saturation(expected, params.saturation), params.hue)
    assert torch.equal(transform(image, params, _RGB), expected)
    mean, std = torch.tensor(_RGB.mean)[:, None, None], torch.tensor(_RGB.std)[:, None, None]
    torch.testing.assert_close(apply(image, params, _RGB), (expected / 255 - mean) / std)


@pytest.mark.parametrize("preprocessing", [_GRAY, _RGB])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [12, 17])
def test_without_augmentation_a_training_image_is_an_evaluation_image(
    preprocessing: Preprocessing, channels: int, size: int
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (size, size, channels), dtype=np.uint8)
    plain = apply(image, draw(NONE, 0, 0, 0, size, size), preprocessing)
    assert plain.shape == (preprocessing.channels, 12, 12)
    assert plain.dtype == torch.float32
    assert torch.equal(plain, prepare(image, preprocessing))


@pytest.mark.parametrize("wrong", [{"crop_min_area": 0.0}, {"crop_min_aspect": 1.5}, {"hue": 0.6}, {"contrast": -0.1}])
def test_refuses_impossible_ranges(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Augmentation(**wrong)  # type: ignore[arg-type]
