"""The numeric profile and two tiny roots, for the tests of routes as networks."""

from __future__ import annotations

import pytest

from evergraft_trainer import profile
from evergraft_trainer.testing.routes import RESNET, VIT, Shelf, shelf


@pytest.fixture(autouse=True)
def numeric_profile() -> None:
    profile.apply(threads=1)


@pytest.fixture
def vit() -> Shelf:
    return shelf("vit", VIT)


@pytest.fixture
def resnet() -> Shelf:
    return shelf("resnet", RESNET)
