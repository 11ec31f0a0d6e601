"""Predictions from Python: every form of a batch, what is refused, and how many images are held at full size."""

from __future__ import annotations

import re
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evergraft.api.root import Root
from evergraft.errors import DataError, UserError
from evergraft_trainer import predict
from evergraft_trainer.data.decode import decode_image
from evergraft_trainer.data.preprocessing import Preprocessing
from evergraft_trainer.predict import Image, Predictor
from evergraft_trainer.serving import Served
from evergraft_trainer.testing.datasets import DatasetMaker
from evergraft_trainer.testing.routes import VIT, shelf


@pytest.fixture
def predictor() -> Predictor:
    """A route of three labels over gray images of 8×8 pixels, untrained but for its seed."""
    root = shelf("vit", VIT)
    model = root.candidate(root.plan(), labels="abc").eval()
    route: Any = SimpleNamespace(task="default/pets", labels=("a", "b", "c"))
    served = Served(
        summary=route,
        route=route,
        version=1,
        modules=root.modules,
        model=model,
        preprocessing=Preprocessing(image_size=8, channels=1, mean=(0.5,), std=(0.5,)),
    )
    return Predictor(served)


@pytest.fixture
def make(tmp_path: Path) -> DatasetMaker:
    return DatasetMaker(tmp_path)


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
@pytest.mark.parametrize("size", [8, 11])
def test_an_array_is_a_batch(predictor: Predictor, shape: tuple[int, ...], size: int) -> None:
    batch = np.random.default_rng(0).integers(0, 256, (35, size, size, *shape), dtype=np.uint8)
    labels, rows = predictor.predict(batch)
    assert labels == [predictor.labels[index] for index in rows.argmax(axis=1)]
    assert rows.tobytes() == predictor.predict(list(batch))[1].tobytes()
    assert all(rows[at].tobytes() == predictor.predict([batch[at]])[1].tobytes() for at in (0, 31, 34))


@pytest.mark.parametrize("batch", [[], np.zeros((0, 8, 8), np.uint8), np.zeros((0, 8, 8, 3), np.uint8), np.array([])])
def test_no_images_have_no_labels(predictor: Predictor, batch: Any) -> None:
    labels, rows = predictor.predict(batch)
    assert labels == []
    assert rows.shape == (0, 3)


def test_paths_bytes_and_pixels_of_any_sizes_answer_as_each_alone(
    predictor: Predictor, make: DatasetMaker, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(make.png(1, size=20))
    colour = make.picture(2, size=9, channels=3)
    batch: list[Image] = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        make.png(3),
        colour,
        colour[:, :, ::-1],
        colour[:, ::-1, 0],
    ]
    _, rows = predictor.predict(batch)
    assert rows.tobytes() == np.concatenate([predictor.predict([image])[1] for image in batch]).tobytes()
    assert rows[0].tobytes() == rows[1].tobytes()


@pytest.mark.parametrize(
    "image",
    ["a.png", Path("a.png"), b"\x89PNG", np.zeros((8, 9), np.uint8), np.zeros((8, 8, 1), np.uint8),
     np.zeros((8, 8, 3), np.uint8)],
)  # fmt: skip
def test_one_image_without_a_list_says_what_to_write(predictor: Predictor, image: Any) -> None:
    with pytest.raises(UserError, match=re.escape("write predict([image])")):
        predictor.predict(image)


@pytest.mark.parametrize("shape", [(0, 28), (28, 0), (0, 28, 3)])
def test_an_image_without_pixels_is_refused_by_its_size(predictor: Predictor, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=f"an image of {shape[0]}×{shape[1]} pixels"):
        predictor.predict([np.zeros(shape, np.uint8)])


def test_pixels_over_the_limit_are_refused(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergraft_trainer.data.decode.MAX_PIXELS", 11)
    with pytest.raises(DataError, match="3×4: more than"):
        predictor.predict([np.zeros((3, 4), np.uint8)])


def test_a_route_without_labels_is_not_predicted_with(tmp_path: Path) -> None:
    from evergraft.store.open import open_store
    from evergraft_trainer.roots import init

    init(open_store(str(tmp_path)), Root.model_validate({"backbone": "vit", "config": dict(VIT), "seed": 0}))
    with pytest.raises(UserError, match="root: its route has no labels to predict"):
        predict.load(url=str(tmp_path), task="root")


def test_no_more_than_two_images_are_held_at_full_size(
    predictor: Predictor, make: DatasetMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive, most = 0, 0

    def add(change: int) -> None:
        nonlocal alive, most
        alive += change
        most = max(most, alive)

    def decode(data: bytes, *, where: str) -> NDArray[np.uint8]:
        pixels = decode_image(data, where=where)
        weakref.finalize(pixels, add, -1)
        add(1)
        return pixels

    monkeypatch.setattr(predict, "decode_image", decode)
    predictor.predict([make.png(number, size=20 + number % 3) for number in range(40)])
    assert 1 <= most <= 2
    assert alive == 0
