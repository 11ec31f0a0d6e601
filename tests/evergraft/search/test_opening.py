"""Before a search is opened: what HEAD forbids costs nothing, can be taken back, and is told the same each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from evergraft.errors import ConflictError, SpecDiffersError, SpecError
from evergraft.names import RunKey
from evergraft.search import opening
from evergraft.search.claims import Crew, Timing
from evergraft.search.engine import Request, run_search
from evergraft.search.events import silent
from evergraft.search.folder import Folder
from evergraft.search.values import CandidatePlan
from evergraft.store import log
from evergraft.store.memory import MemoryStore
from evergraft.testing.arithmetic import ArithmeticTrainer, init_graph, make_request


@pytest.fixture
def store(request: pytest.FixtureRequest) -> MemoryStore:
    fresh = MemoryStore(request.node.name)
    init_graph(fresh)
    return fresh


def search(store: MemoryStore, request: Request, make: Any = ArithmeticTrainer) -> str:
    crew = Crew(timing=Timing(dead_s=0.0, first_poll_s=0.001))
    return run_search(store, log.read_graph(store), request=request, make_trainer=make, emit=silent, crew=crew)[0].kind


def written(store: MemoryStore) -> set[str]:
    return {entry.key for entry in store.list("")}


class Unbuildable(ArithmeticTrainer):
    """Finds that no candidate can be built."""

    def rehearse(self, plans: Sequence[CandidatePlan]) -> None:
        assert plans
        raise SpecError("search.imageSize: 15 is no multiple of the patch size 7")


def test_a_candidate_that_cannot_be_built_opens_nothing_so_the_spec_may_be_corrected(store: MemoryStore) -> None:
    before = written(store)
    with pytest.raises(SpecError, match="imageSize"):
        search(store, make_request("a/one", image_size=15), Unbuildable)
    assert written(store) == before
    assert search(store, make_request("a/one", image_size=21)) == "committed"


def test_another_visibility_than_head_has_opens_nothing_and_can_be_set_back(store: MemoryStore) -> None:
    search(store, make_request("a/one"))
    before = written(store)
    with pytest.raises(ConflictError, match=r"immutable, and version 1 closed a run as Public; set it back"):
        search(store, make_request("a/one", iteration=2, visibility="Private"))
    assert written(store) == before
    assert search(store, make_request("a/one", iteration=2, seed=1)) in ("committed", "kept")


def test_an_open_search_that_head_would_refuse_names_the_way_out(store: MemoryStore) -> None:
    """As one that was opened before this was looked at first."""
    search(store, make_request("a/one"))
    private = make_request("a/one", iteration=2, visibility="Private")
    opening.open_search(Folder(store, private.search), log.read_graph(store), private)
    public = make_request("a/one", iteration=2)
    public = replace(public, task_hash=private.task_hash)
    with pytest.raises(
        ConflictError, match=r"started as Private and can never be committed; raise spec.iteration to 3"
    ):
        search(store, public)
    assert search(store, make_request("a/one", iteration=3)) in ("committed", "kept")


def cycle(request: Request, number: int) -> Request:
    return replace(request, run=RunKey(request.run.iteration, number))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_another_spec_in_an_iteration_that_head_holds_is_refused_whatever_the_cycle(
    store: MemoryStore, number: int
) -> None:
    asked = make_request("a/one")
    search(store, asked)
    search(store, cycle(asked, 2))
    assert search(store, asked) == "already"
    before = written(store)
    changed = cycle(make_request("a/one", seed=5), number)
    with pytest.raises(SpecDiffersError, match=r"run i1-c2 is committed with another .* raise spec.iteration to 2"):
        search(store, changed)
    assert written(store) == before
    assert search(store, cycle(asked, 3)) in ("committed", "kept")
