"""Preprocessing: its stored form, gray and colour, and what it refuses from a store."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evergraft import canonical
from evergraft.errors import IntegrityError
from evergraft_trainer.data.preprocessing import Preprocessing, prepare, stack

_RGB = Preprocessing(image_size=4, channels=3, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))


def test_the_stored_form_reads_back() -> None:
    stored = _RGB.to_json()
    assert canonical.dumps(stored)
    assert Preprocessing.from_json(stored) == _RGB
    assert Preprocessing.from_json({**stored, "later": 1}) == _RGB


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("imageSize", 0), ("imageSize", 10**6), ("imageSize", True), ("channels", 2), ("mean", [0.1]),
        ("mean", [0.1, 0.2, float("nan")]), ("std", [0.1, 0.2, 0]), ("std", None), ("mean", [0.1, 0.2, 1e300]),
        ("mean", [0.1, 0.2, 10**400]), ("std", [0.1, 0.2, 1e-300]), ("interpolation", "bicubic"),
    ],
)  # fmt: skip
def test_refuses_a_stored_form_out_of_range(field: str, value: Any) -> None:
    with pytest.raises(IntegrityError, match="preprocessing"):
        Preprocessing.from_json({**_RGB.to_json(), field: value})


def test_gray_becomes_three_equal_channels() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    tensor = prepare(image, _RGB)
    for channel, (mean, std) in enumerate(zip(_RGB.mean, _RGB.std, strict=True)):
        torch.testing.assert_close(tensor[channel] * std + mean, torch.from_numpy(image[..., 0]) / 255)


def test_colour_becomes_the_gray_that_pillow_makes() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    gray = Preprocessing(image_size=4, channels=1, mean=(0.0,), std=(1.0,))
    expected = np.array(Image.fromarray(image).convert("L"))
    assert torch.equal(prepare(image, gray)[0], torch.from_numpy(expected).float() / 255)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "shapes",
    [[(4, 4, 1), (4, 4, 1)], [(4, 4, 3), (4, 4, 3)], [(4, 4, 1), (4, 4, 3)], [(9, 7, 3), (9, 7, 3)],
     [(4, 4, 3), (9, 7, 1), (2, 3, 3), (4, 4, 1), (4, 8, 1)]],
)  # fmt: skip
def test_an_image_has_the_same_bytes_alone_and_among_others(channels: int, shapes: list[tuple[int, ...]]) -> None:
    numbers = np.random.default_rng(0)
    images = [numbers.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    wanted = Preprocessing(image_size=4, channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)
    together = stack(iter(images), wanted)
    assert together.shape == (len(images), channels, 4, 4)
    assert together.is_contiguous()
    assert together.stride() == (16 * channels, 16, 4, 1)
    assert torch.equal(together, torch.cat([stack([image], wanted) for image in images]))


def test_the_whole_image_is_resized_without_a_crop() -> None:
    image = np.zeros((8, 16, 1), dtype=np.uint8)
    image[:, 8:] = 200
    gray = Preprocessing(image_size=4, channels=1, mean=(0.0,), std=(1.0,))
    row = (prepare(image, gray)[0, 0] * 255).round()
    assert row[0] == 0
    assert row[-1] == 200
