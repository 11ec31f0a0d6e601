"""Kinds: limits on untrusted configs, parameters and FLOPs against sums worked by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evergraft.errors import IntegrityError
from evergraft_trainer.nn.kinds import DELTAS, LAYERS, kind_of
from evergraft_trainer.testing.routes import RESNET, VIT, shelf

GOOD: dict[str, dict[str, Any]] = {
    "patch_embed": {"channels": 3, "patchSize": 4, "width": 8},
    "class_token": {"width": 8},
    "position_embed": {"tokens": 5, "width": 8},
    "encoder_block": {"width": 8, "heads": 2, "mlp": 16, "adapters": [3]},
    "norm": {"width": 8},
    "stem": {"channels": 3, "width": 8, "kernel": 7, "stride": 2, "pool": True},
    "residual_block": {"block": "bottleneck", "input": 8, "width": 4, "stride": 2},
    "head": {"features": 8, "classes": 3},
}
GOOD_DELTAS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 2, "targets": ["qkv", "fc2"], "width": 8, "mlp": 16},
    "adapter": {"width": 3, "features": 8},
    "norm": {"kind": "norm", "config": {"width": 8}},
    "bias": {"kind": "head", "config": {"features": 8, "classes": 3}},
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def test_every_kind_has_a_config_here() -> None:
    assert set(GOOD) == set(LAYERS)
    assert set(GOOD_DELTAS) == set(DELTAS)


@pytest.mark.parametrize("name", sorted(LAYERS))
@given(data=st.data())
def test_a_hostile_config_is_refused_or_small(name: str, data: st.DataObject) -> None:
    fields = st.sampled_from([*GOOD[name], "extra"])
    changes = data.draw(st.dictionaries(fields, json_values | st.integers(-(2**70), 2**70), max_size=3))
    try:
        shapes = LAYERS[name].shapes({**GOOD[name], **changes})
    except IntegrityError:
        return
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) <= 1 << 30


@pytest.mark.parametrize("name", sorted(DELTAS))
@given(data=st.data())
def test_a_hostile_delta_config_is_refused_or_small(name: str, data: st.DataObject) -> None:
    fields = st.sampled_from([*GOOD_DELTAS[name], "extra"])
    changes = data.draw(st.dictionaries(fields, json_values | st.integers(-(2**70), 2**70), max_size=3))
    try:
        shapes = DELTAS[name].shapes({**GOOD_DELTAS[name], **changes})
    except IntegrityError:
        return
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) <= 1 << 30


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("class_token", {}, "'width' is None"),
        ("class_token", {"width": True}, "'width' is True"),
        ("class_token", {"width": 8, "code": "x"}, "unknown config field 'code'; known: width"),
        ("encoder_block", {"width": 8, "heads": 3, "mlp": 4}, "'heads' is 3, which does not divide width 8"),
        ("encoder_block", {"width": 8, "heads": 2, "mlp": 1 << 40}, "'mlp' is 1099511627776; expected"),
        ("encoder_block", {"width": 1 << 14, "heads": 2, "mlp": 1 << 16}, "more than 1073741824 elements"),
        ("residual_block", {"block": "wide", "input": 4, "width": 4, "stride": 1}, "'block' is 'wide'"),
        ("stem", {"channels": 1, "width": 4, "kernel": 3, "stride": 1, "pool": 1}, "'pool' is 1; allowed: True, False"),
    ],
)
def test_a_wrong_config_says_what_is_allowed(kind: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(IntegrityError, match=f"layer 'x': {kind}: .*{message}"):
        LAYERS[kind].skeleton(config, where="layer 'x'")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(IntegrityError, match=r"unknown kind of layer 'lora'; this version knows class_token"):
        kind_of("lora", where="layer 'x'")


@pytest.mark.parametrize(
    ("kind", "shape", "after", "flops"),
    [
        # 2 × 2 patches of 3·4·4 values to 8
        ("patch_embed", (3, 8, 8), (4, 8), 2 * 4 * 48 * 8),
        ("class_token", (4, 8), (5, 8), 0),
        # 5 tokens: qkv 8→24, out 8→8, mlp 8→16→8, adapter 8→3→8; scores and their use 5·5·8 each
        (
            "encoder_block",
            (5, 8),
            (5, 8),
            2 * 5 * (8 * 24 + 8 * 8 + 8 * 16 + 16 * 8 + 8 * 3 + 3 * 8) + 2 * 2 * 5 * 5 * 8,
        ),
        # 7×7 of stride 2 over 9 px: 5×5 places, then a maximum of stride 2: 3×3
        ("stem", (3, 9, 9), (8, 3, 3), 2 * 25 * 8 * 3 * 49),
        # 1×1 on 6×6, 3×3 of stride 2, 1×1 to 16, shortcut 1×1 of stride 2
        ("residual_block", (8, 6, 6), (16, 3, 3), 2 * (36 * 8 * 4 + 9 * 4 * 4 * 9 + 9 * 4 * 16 + 9 * 8 * 16)),
        ("head", (5, 8), (3,), 2 * 8 * 3),
        ("head", (8, 2, 2), (3,), 2 * 8 * 3),
    ],
)
def test_flops_by_hand(kind: str, shape: tuple[int, ...], after: tuple[int, ...], flops: int) -> None:
    assert LAYERS[kind].trace(GOOD[kind], shape) == (after, flops)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_the_traced_shape_is_the_real_one(name: str) -> None:
    before = {"patch_embed": (3, 8, 8), "stem": (3, 9, 9), "residual_block": (8, 5, 5), "class_token": (4, 8)}
    shape = before.get(name, (5, 8))
    network = LAYERS[name].build(GOOD[name])
    after, _ = LAYERS[name].trace(GOOD[name], shape)
    assert tuple(network(torch.zeros(2, *shape)).shape[1:]) == after


@pytest.mark.parametrize("config", [("vit", VIT), ("resnet", RESNET)])
def test_layers_that_do_not_fit_each_other_are_refused(config: tuple[str, dict[str, Any]]) -> None:
    from evergraft_trainer.nn.assemble import load_route

    root = shelf(*config)
    with pytest.raises(IntegrityError, match=r"layer '\w+.*expects an input of"):
        load_route(root.layers[1:], root.get, image_size=8)


def test_parameters_do_not_count_statistics() -> None:
    block = LAYERS["residual_block"].parameters({"block": "basic", "input": 4, "width": 4, "stride": 1})
    assert block == 2 * 4 * 4 * 9 + 2 * 2 * 4
    assert DELTAS["lora"].parameters(GOOD_DELTAS["lora"]) == 2 * (8 + 24) + 2 * (16 + 8)
    assert DELTAS["norm"].parameters(GOOD_DELTAS["norm"]) == 16
    assert DELTAS["bias"].parameters(GOOD_DELTAS["bias"]) == 3
