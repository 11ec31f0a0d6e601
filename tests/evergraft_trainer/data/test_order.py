"""The order: a permutation for every (seed, epoch), the same from wherever one begins, pinned by a literal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergraft_trainer.data.order import epoch_samples, permutation, slices

_SEEDS = st.integers(0, 2**63 - 1)


@given(_SEEDS, st.integers(0, 1000), st.integers(0, 300))
def test_each_epoch_is_a_permutation(seed: int, epoch: int, count: int) -> None:
    assert sorted(permutation(seed, epoch, count)) == list(range(count))


def test_the_order_is_the_same_on_every_machine_for_ever() -> None:
    assert permutation(0, 0, 10).tolist() == [6, 2, 5, 9, 4, 1, 3, 8, 7, 0]
    assert permutation(1, 0, 10).tolist() == [4, 2, 8, 5, 3, 0, 6, 7, 9, 1]
    assert permutation(0, 1, 10).tolist() == [9, 8, 6, 0, 5, 2, 3, 7, 4, 1]


@given(_SEEDS, st.integers(1, 60), st.integers(1, 20), st.integers(0, 12), st.integers(0, 12))
def test_resuming_anywhere_gives_the_same_stream(seed: int, count: int, batch: int, first: int, more: int) -> None:
    stop = (first + more) * batch
    whole = list(slices(seed=seed, count=count, batch_size=batch, start=0, stop=stop))
    rest = list(slices(seed=seed, count=count, batch_size=batch, start=first * batch, stop=stop))
    assert len(whole) == first + more
    assert [(s.indices.tolist(), s.epochs.tolist()) for s in whole[first:]] == [
        (s.indices.tolist(), s.epochs.tolist()) for s in rest
    ]


@given(_SEEDS, st.integers(1, 60), st.integers(1, 20))
def test_an_epoch_shows_no_sample_twice_and_drops_only_the_last_partial_batch(
    seed: int, count: int, batch: int
) -> None:
    length = epoch_samples(count, batch)
    assert length == (count - count % batch if count >= batch else count)
    stop = 2 * length + batch
    cuts = list(slices(seed=seed, count=count, batch_size=batch, start=0, stop=stop - stop % batch))
    pairs = [p for s in cuts for p in zip(s.epochs.tolist(), s.indices.tolist(), strict=True)]
    assert len(set(pairs)) == len(pairs)
    assert sum(epoch == 0 for epoch, _ in pairs) == length


def test_a_split_smaller_than_the_batch_wraps_around() -> None:
    (cut,) = slices(seed=3, count=3, batch_size=8, start=0, stop=8)
    assert cut.epochs.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert sorted(cut.indices[:3]) == sorted(cut.indices[3:6]) == [0, 1, 2]


def test_epochs_and_seeds_differ() -> None:
    orders = {permutation(seed, epoch, 50).tobytes() for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_places_are_uniform() -> None:
    first = np.bincount([int(permutation(0, epoch, 4)[0]) for epoch in range(2000)])
    assert first.min() > 400


@pytest.mark.parametrize(("count", "start"), [(0, 0), (5, 3), (5, -4)])
def test_refuses_an_empty_split_and_a_start_within_a_batch(count: int, start: int) -> None:
    with pytest.raises(ValueError, match="cannot cut batches of 4"):
        slices(seed=0, count=count, batch_size=4, start=start, stop=8)
