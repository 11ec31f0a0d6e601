"""A head in closed form: against the formula, on classes it can and cannot know, and in a real search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evergraft_trainer.closed_form import TEMPERATURES, Spread, discriminant, temperature


class Numbers:
    """Images that are just numbered, three classes one after another."""

    def __init__(self, count: int) -> None:
        self.labels: NDArray[np.int64] = np.arange(count, dtype=np.int64) * 3 // count

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> NDArray[np.uint8]:
        return np.full((1, 1, 1), index, dtype=np.uint8)


def clouds(spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 3
    centres = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 3.0, 0.0]], dtype=torch.float64)
    stretch = torch.tensor([1.0, 0.5, 5.0], dtype=torch.float64)
    noise = torch.randn(600, 3, generator=generator, dtype=torch.float64) * stretch * spread
    return centres[labels] + noise, labels


def test_it_is_the_rule_of_bayes_for_normal_classes_of_one_covariance() -> None:
    features, labels = clouds()
    weight, bias = discriminant(features, labels, classes=3, shrink=0.0)
    means = torch.stack([features[labels == label].mean(0) for label in range(3)])
    centred = features - means[labels]
    inverse = torch.linalg.inv(centred.T @ centred / len(features))
    gaps = features[:, None, :] - means
    density = -0.5 * torch.einsum("ncf,fg,ncg->nc", gaps, inverse, gaps) + np.log(1 / 3)
    ours = features @ weight.T + bias
    # The two differ by what is the same for every class.
    torch.testing.assert_close(ours - ours[:, :1], density - density[:, :1])
    assert (ours.argmax(1) == labels).double().mean() > 0.9


def test_it_sees_past_a_direction_of_mere_noise() -> None:
    features, labels = clouds()
    weight, bias = discriminant(features, labels, classes=3)
    assert ((features @ weight.T + bias).argmax(1) == labels).double().mean() > 0.9
    assert weight[:, 2].abs().max() < 0.1 * weight[:, :2].abs().max()


def test_features_that_never_vary_and_classes_never_seen_give_finite_answers() -> None:
    flat, labels = torch.ones(30, 4, dtype=torch.float64), torch.zeros(30, dtype=torch.int64)
    weight, bias = discriminant(flat, labels, classes=5)
    assert torch.isfinite(weight).all()
    assert torch.isfinite(bias).all()
    assert int((flat @ weight.T + bias)[0].argmax()) == 0


def test_the_temperature_is_as_sharp_as_the_answers_are_right() -> None:
    labels = torch.arange(300) % 3
    right = torch.nn.functional.one_hot(labels, 3).double() * 10
    assert temperature(right, labels) == max(TEMPERATURES)
    wrong = right[torch.randperm(300, generator=torch.Generator().manual_seed(1))]
    assert temperature(wrong, labels) == min(TEMPERATURES)


class Striped(Numbers):
    """Three classes that take turns."""

    def __init__(self, count: int) -> None:
        self.labels = np.arange(count, dtype=np.int64) % 3


@pytest.mark.parametrize("count", [9, 30, 33])
def test_a_spread_keeps_classes_in_proportion_whatever_their_order(count: int) -> None:
    spread = Spread(Striped(90), count)
    places = [int(spread.image(index)[0, 0, 0]) for index in range(len(spread))]
    assert places == sorted(set(places))
    assert [int(label) for label in spread.labels] == [place % 3 for place in places]
    assert np.bincount(spread.labels).tolist() == [count // 3] * 3


@pytest.mark.parametrize("count", [1, 3, 7, 9, 90])
def test_a_spread_keeps_classes_in_proportion(count: int) -> None:
    spread = Spread(Numbers(90), count)
    places = [int(spread.image(index)[0, 0, 0]) for index in range(len(spread))]
    assert len(set(places)) == count
    assert [int(label) for label in spread.labels] == [place // 30 for place in places]
    if count % 3 == 0:
        assert np.bincount(spread.labels).tolist() == [count // 3] * 3
