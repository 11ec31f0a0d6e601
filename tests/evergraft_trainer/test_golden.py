"""Golden answers and the numeric profile."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evergraft.errors import IntegrityError
from evergraft_trainer import profile
from evergraft_trainer.data.preprocessing import Preprocessing
from evergraft_trainer.device import open_device
from evergraft_trainer.golden import compare, compare_logits, golden_answers, golden_inputs
from evergraft_trainer.testing.routes import VIT, Shelf, shelf

GRAY = Preprocessing(image_size=8, channels=1, mean=(0.5,), std=(0.5,))
CPU = open_device("cpu")


@pytest.fixture
def route() -> Shelf:
    profile.apply(threads=1)
    root = shelf("vit", VIT)
    return root.grow(root.candidate(root.plan()))


def test_inputs_come_from_the_layers_alone(route: Shelf) -> None:
    inputs = golden_inputs(route.layers, GRAY)
    assert inputs.shape == (8, 1, 8, 8)
    assert torch.equal(inputs, golden_inputs(route.layers, GRAY))
    assert inputs.flatten()[:3].tolist() != golden_inputs(route.layers[:-1], GRAY).flatten()[:3].tolist()
    assert -1 <= inputs.min().item() < -0.9
    assert 0.9 < inputs.max().item() <= 1


def test_a_route_gives_its_golden_answers_again(route: Shelf) -> None:
    golden = golden_answers(route.load(), route.layers, GRAY, device=CPU)
    assert golden["shape"] == [8, 3]
    found = compare(golden, route.load(), route.layers, GRAY, device=CPU)
    assert found.bit_identical
    assert found.within_tolerance
    assert found.max_difference == 0


def test_a_changed_weight_is_noticed(route: Shelf) -> None:
    golden = golden_answers(route.load(), route.layers, GRAY, device=CPU)
    model = route.load()
    with torch.no_grad():
        assert model.head is not None
        model.head.bias[1] += 1e-6
    slight = compare(golden, model, route.layers, GRAY, device=CPU)
    assert not slight.bit_identical
    assert not slight.holds(same_profile=True)
    assert slight.holds(same_profile=False)
    with torch.no_grad():
        model.head.bias[1] += 1
    assert not compare(golden, model, route.layers, GRAY, device=CPU).holds(same_profile=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "F64"}, "no dtype F32"),
        ({"shape": [8]}, "no dtype F32, shape"),
        ({"shape": [8, -3]}, "no dtype F32, shape"),
        ({"shape": [1 << 40, 1 << 40]}, "do not fill"),
        ({"data": "%%%"}, "no base64"),
        ({"data": base64.b64encode(b"1234").decode()}, "4 bytes do not fill"),
        ({"inputs": "0" * 64}, "other inputs"),
        ({"shape": [8, 1], "data": base64.b64encode(bytes(32)).decode()}, "the route gives"),
    ],
)
def test_damaged_golden_answers_are_refused(route: Shelf, change: dict[str, object], message: str) -> None:
    golden = golden_answers(route.load(), route.layers, GRAY, device=CPU)
    with pytest.raises(IntegrityError, match=message):
        compare({**golden, **change}, route.load(), route.layers, GRAY, device=CPU)


def test_the_same_top_class_unless_the_gap_is_within_the_tolerance() -> None:
    golden = np.array([[1.0, 1.0005, 0.0]], dtype=np.float32)  # tolerance 1e-4 + 1e-3 · 1.0005
    assert compare_logits(golden, np.array([[1.0006, 1.0, 0.0]], dtype=np.float32)).within_tolerance
    far = np.array([[1.0, 1.005, 0.0]], dtype=np.float32)
    swapped = np.array([[1.0051, 1.005, 0.0]], dtype=np.float32)
    assert not compare_logits(far, swapped).same_top


def test_nan_is_the_same_bits_and_never_within_tolerance() -> None:
    nan = np.array([[np.nan, 1.0]], dtype=np.float32)
    assert compare_logits(nan, nan.copy()).bit_identical
    assert not compare_logits(nan, np.zeros_like(nan)).within_tolerance


@given(st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=6), st.floats(-0.9, 0.9))
def test_less_than_the_tolerance_always_holds(row: list[float], part: float) -> None:
    golden = np.array([row], dtype=np.float32)
    shift = part * (1e-4 + 1e-3 * float(np.abs(golden).max())) / 2
    moved = (golden.astype(np.float64) + np.resize([shift, -shift], len(row))).astype(np.float32)
    assert compare_logits(golden, moved).within_tolerance


def test_a_profile_has_a_digest_of_all_it_says() -> None:
    profile.apply(threads=1)
    one = profile.current_profile(CPU, dtype="Float32", batch_size=8)
    assert one == profile.current_profile(CPU, dtype="Float32", batch_size=8)
    assert one["digest"] != profile.current_profile(CPU, dtype="Float32", batch_size=16)["digest"]
    assert one["versions"]["torch"] == torch.__version__.split("+")[0] or one["versions"]["torch"] == torch.__version__
    assert profile.same_numerics(one, CPU)
    assert profile.same_numerics({**one, "batchSize": 32, "dtype": "BFloat16", "digest": ""}, CPU)
    assert not profile.same_numerics({**one, "threads": 2}, CPU)
    assert not profile.same_numerics({}, CPU)
    assert not profile.same_numerics(one, replace(CPU, name="AVX9"))


def test_applying_the_profile_sets_what_it_records() -> None:
    profile.apply(threads=1)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1
    assert not torch.backends.mha.get_fastpath_enabled()
    assert not torch.backends.cudnn.benchmark
    profile.apply(threads=None)
    assert torch.get_num_threads() == 1
