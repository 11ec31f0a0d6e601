"""A route document from a store is untrusted: what does not fit its own network is never answered with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from evergraft.api.root import Root
from evergraft.errors import IntegrityError
from evergraft.graph.route import Route, RouteSummary
from evergraft.names import ROOT_TASK
from evergraft.store import blobs, log
from evergraft.store.memory import MemoryStore
from evergraft_trainer.roots import init
from evergraft_trainer.serving import assemble, serve

CONFIG: Mapping[str, Any] = {"imageSize": 8, "patchSize": 4, "width": 12, "depth": 1, "heads": 3, "channels": 3}


@pytest.fixture
def store(request: pytest.FixtureRequest) -> MemoryStore:
    fresh = MemoryStore(request.node.name)
    init(fresh, Root.model_validate({"backbone": "vit", "config": dict(CONFIG), "seed": 0}))
    return fresh


def planted(store: MemoryStore, **changes: Any) -> RouteSummary:
    """The root's summary, pointing at a document of its own digest that says something else."""
    state, _ = log.read_task(store, ROOT_TASK)
    assert state is not None
    assert state.route is not None
    route: Route = replace(blobs.get_route(store, state.route.id), **changes)
    return replace(state.route, id=blobs.put_route(store, route))


def test_the_root_as_it_is_can_be_served(store: MemoryStore) -> None:
    assert serve(store, ROOT_TASK).model.head is None


def test_labels_that_the_head_does_not_have_are_refused(store: MemoryStore) -> None:
    with pytest.raises(IntegrityError, match="names 2 labels, its head has 0"):
        assemble(store, planted(store, labels=("cat", "dog")), version=0)


def test_channels_that_the_network_does_not_read_are_refused(store: MemoryStore) -> None:
    gray = {"imageSize": 8, "channels": 1, "mean": [0.5], "std": [0.5], "interpolation": "bilinear"}
    with pytest.raises(IntegrityError, match="gives 1 channels, its network reads 3"):
        assemble(store, planted(store, preprocessing=gray), version=0)
