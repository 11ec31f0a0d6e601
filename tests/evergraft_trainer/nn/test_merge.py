"""Merging deltas: order, bits, and the folding of old ones."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from evergraft.errors import IntegrityError
from evergraft.graph.module import Module, Tensor
from evergraft.search.values import DeltaPlan
from evergraft_trainer.nn import codec, merge
from evergraft_trainer.nn.merge import fold_oldest, load_layer, newest_lora
from evergraft_trainer.testing.routes import Shelf, images, train

DELTAS = (DeltaPlan("lora", {"rank": 2, "targets": ["fc2", "in_proj"]}), DeltaPlan("bias"), DeltaPlan("norm"))


def generations(start: Shelf, count: int, deltas: tuple[DeltaPlan, ...] = DELTAS) -> list[Shelf]:
    """Routes that each grow on the one before."""
    found = [start]
    for number in range(count):
        parent = found[-1]
        model = parent.candidate(parent.plan(deltas=deltas), seed=number)
        train(model, rate=0.5)
        found.append(parent.grow(model))
        assert torch.equal(found[-1].load()(images()), model(images()))
    return found


def block(shelf: Shelf, name: str = "block.00") -> int:
    return [layer.name for layer in shelf.layers].index(name)


def test_only_the_newest_lora_runs_beside_the_weights(vit: Shelf) -> None:
    last = generations(vit, 3)[-1]
    layer = last.layers[block(last)]
    assert [delta.kind for delta in layer.deltas] == ["lora", "lora", "lora", "bias", "norm"]
    assert newest_lora(layer.deltas) == 2
    merged = load_layer(layer, last.get)
    assert merged.lora is not None
    assert merged.lora.id == layer.deltas[2].module


def test_of_biases_and_norms_only_the_newest_are_carried(vit: Shelf) -> None:
    routes = generations(vit, 2)
    first, last = (route.layers[block(route)].deltas for route in routes[1:])
    assert [delta.kind for delta in last] == ["lora", "lora", "bias", "norm"]
    assert last[0] == first[0]
    assert {delta.module for delta in last[2:]}.isdisjoint(delta.module for delta in first)


def test_merging_adds_each_lora_oldest_first(vit: Shelf) -> None:
    last = generations(vit, 2, DELTAS[:1])[-1]
    layer = last.layers[block(last)]
    weight = codec.network(last.get(layer.module), where="").get_parameter("fc2.weight").clone()
    for delta in layer.deltas:
        lora = codec.network(last.get(delta.module), where="", delta=True)
        outer = lora.get_parameter("fc2_b") * 8.0  # the scale 16 ÷ rank 2
        for rank in range(2):
            weight = weight + outer[:, rank : rank + 1] * lora.get_parameter("fc2_a")[rank]
    merged = load_layer(layer, last.get, merge_all=True).network.get_parameter("fc2.weight")
    assert torch.equal(merged, weight)
    swapped = replace(layer, deltas=layer.deltas[::-1])
    other = load_layer(swapped, last.get, merge_all=True).network.get_parameter("fc2.weight")
    torch.testing.assert_close(other, merged)
    assert not torch.equal(other, merged)  # order decides the bits


def test_merged_bits_do_not_depend_on_threads(vit: Shelf) -> None:
    last = generations(vit, 1)[-1]
    layer = last.layers[block(last)]

    def merged() -> str:
        found = load_layer(layer, last.get, merge_all=True)
        return codec.module(layer.kind, found.config, found.network, where="").id

    one = merged()
    torch.set_num_threads(2)
    try:
        assert merged() == one
    finally:
        torch.set_num_threads(1)


def test_a_merged_lora_is_close_to_the_running_one(vit: Shelf) -> None:
    last = generations(vit, 1)[-1]
    cloned = last.candidate(last.plan("clone", head="clone"), parent="abc")
    torch.testing.assert_close(cloned(images()), last.load()(images()), rtol=1e-4, atol=1e-5)


def test_a_child_that_shares_a_layer_computes_its_parents_bits(vit: Shelf) -> None:
    parent = generations(vit, 2)[-1]
    child = parent.candidate(parent.plan())
    assert torch.equal(child.features(images()), parent.load().features(images()))


@pytest.mark.parametrize("extra", [(), (DeltaPlan("adapter", {"width": 2}),)])
def test_a_layer_over_the_limit_is_folded_into_a_module_with_the_same_bits(
    vit: Shelf, extra: tuple[DeltaPlan, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "MAX_DELTAS", 12)
    routes = generations(vit, 12 if not extra else 6, (*DELTAS, *extra))
    for before, after in itertools.pairwise(routes):
        deltas = after.layers[block(after)].deltas
        assert len(deltas) <= 12
        if after.layers[block(after)].module != before.layers[block(before)].module:
            assert [delta.kind for delta in deltas] == [delta.kind for delta in (*DELTAS, *extra)]
    assert len({route.layers[block(route)].module for route in routes}) > 1


def test_folding_keeps_what_a_route_answers(vit: Shelf) -> None:
    last = generations(vit, 3)[-1]
    place = block(last)
    layer, module = fold_oldest(last.layers[place], last.get, keep=3)
    folded = Shelf(
        layers=(*last.layers[:place], layer, *last.layers[place + 1 :]), modules={**last.modules, module.id: module}
    )
    assert layer.module == module.id
    assert len(layer.deltas) == 3
    assert torch.equal(folded.load()(images()), last.load()(images()))


def test_deltas_that_do_not_fit_their_layer_are_refused(vit: Shelf) -> None:
    last = generations(vit, 1)[-1]
    layer = last.layers[block(last)]
    lora = last.get(layer.deltas[0].module)
    wide = {**lora.config, "width": 24}
    shapes = {"qkv_a": (2, 24), "qkv_b": (72, 2), "fc2_a": (2, 48), "fc2_b": (24, 2)}
    tensors = {n: Tensor("F32", s, bytes(4 * s[0] * s[1])) for n, s in shapes.items()}
    bad = Module(kind="lora", config=wide, tensors=tensors)
    for merge_all in (False, True):
        with pytest.raises(IntegrityError, match=r"layer 'block\.00': a lora of .* does not fit encoder_block"):
            load_layer(
                replace(layer, deltas=layer.deltas[:1]),
                lambda i: bad if i == lora.id else last.get(i),
                merge_all=merge_all,
            )
    with pytest.raises(IntegrityError, match=r"the route says bias, module .* is lora"):
        load_layer(replace(layer, deltas=(replace(layer.deltas[0], kind="bias"),)), last.get)
