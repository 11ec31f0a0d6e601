"""Candidates: share, clone, new, drop and deltas; what is frozen stays, what trains gets new ids."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from evergraft.errors import SpecError
from evergraft.search.values import DeltaPlan, LayerAction, LayerPlan
from evergraft_trainer.nn.assemble import RouteModel, load_route
from evergraft_trainer.nn.candidate import build_candidate
from evergraft_trainer.nn.extract import extract
from evergraft_trainer.testing.routes import Shelf, images, shelf, train

ALL = (DeltaPlan("lora", {"rank": 2}), DeltaPlan("bias"), DeltaPlan("norm"), DeltaPlan("adapter", {"width": 3}))


def bits(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: torch.nn.Module) -> set[str]:
    return {name for name, value in after.state_dict().items() if not torch.equal(value, before[name])}


def trained_modules(model: RouteModel) -> dict[str, tuple[str, ...]]:
    """For each layer in training, the parts that train: ``module`` and the kinds of its new deltas."""
    return {
        layer.name: (("module",) if layer.whole else ()) + tuple(delta.kind for delta in layer.new)
        for layer in model.route_layers()
        if layer.trains
    }


def test_a_candidate_that_shares_all_answers_as_its_parent_until_its_head(vit: Shelf) -> None:
    model = vit.candidate(vit.plan())
    assert torch.equal(model.features(images()), vit.load().features(images()))
    assert set(trained_modules(model)) == {"head"}


def test_sharing_keeps_ids_and_training_gives_new_ones(vit: Shelf) -> None:
    model = vit.candidate(vit.plan()[:4] + [replace(item, action="clone") for item in vit.plan()[4:7]] + vit.plan()[7:])
    train(model)
    layers, made = extract(model)
    for before, after in zip(vit.layers, layers, strict=False):
        assert (before == after) == (after.name not in trained_modules(model))
    assert set(made) == {layer.module for layer in layers if layer.name in trained_modules(model)}


@pytest.mark.parametrize("backbone", ["vit", "resnet"])
def test_frozen_layers_and_their_statistics_never_change(backbone: str, request: pytest.FixtureRequest) -> None:
    parent: Shelf = request.getfixturevalue(backbone)
    plan = parent.plan()
    plan[3] = replace(plan[3], action="clone")
    model = parent.candidate(plan)
    before = bits(model)
    train(model)
    assert {name.split(".")[1] for name in changed(before, model)} == {"3", str(len(plan) - 1)}


def test_a_clones_batch_norm_moves_only_its_own_statistics(resnet: Shelf) -> None:
    plan = resnet.plan()
    plan[1] = replace(plan[1], action="clone")
    model = resnet.candidate(plan)
    before = bits(model)
    train(model)
    moved = {name for name in changed(before, model) if "running_mean" in name}
    assert moved == {"layers.1.network.bn1.running_mean", "layers.1.network.bn2.running_mean"}
    parent = resnet.load()
    assert all(torch.equal(value, bits(resnet.load())[name]) for name, value in parent.state_dict().items())


@pytest.mark.parametrize("kind", ["lora", "bias", "norm", "adapter"])
def test_a_delta_trains_its_own_tensors_and_starts_as_nothing(vit: Shelf, kind: str) -> None:
    delta = next(delta for delta in ALL if delta.kind == kind)
    model = vit.candidate(vit.plan(deltas=[delta]))
    torch.testing.assert_close(model.features(images()), vit.load().features(images()), rtol=0, atol=0)
    before = bits(model)
    train(model)
    parts = {"lora": "lora.", "bias": ".bias", "norm": "norm", "adapter": "adapters."}
    names = {name for name in changed(before, model) if not name.startswith("layers.7.")}
    assert names
    assert all(parts[kind] in name for name in names)
    assert trained_modules(model)["block.01"] == (kind,)


def test_a_norm_delta_on_a_resnet_moves_statistics_and_affine_alone(resnet: Shelf) -> None:
    model = resnet.candidate(resnet.plan(deltas=[DeltaPlan("norm")]))
    before = bits(model)
    train(model)
    names = {name for name in changed(before, model) if ".network." in name and not name.startswith("layers.4.")}
    assert any("running_var" in name for name in names)
    assert not any("conv" in name or name.startswith("layers.0.") for name in names)
    grown = resnet.grow(model)
    assert torch.equal(grown.load()(images()), model(images()))


@pytest.mark.parametrize("action", ["share", "clone"])
def test_a_committed_route_gives_the_bits_of_its_candidate(vit: Shelf, action: LayerAction) -> None:
    model = vit.candidate(vit.plan(action, deltas=ALL if action == "share" else ()))
    train(model)
    assert torch.equal(vit.grow(model).load()(images()), model(images()))


def test_extracting_twice_gives_the_same_ids(vit: Shelf) -> None:
    model = vit.candidate(vit.plan(deltas=ALL))
    train(model)
    grown = vit.grow(model)
    assert extract(model)[0] == grown.layers
    assert extract(grown.load())[0] == grown.layers


def test_a_candidate_is_a_pure_function_of_its_arguments_and_leaves_torchs_generator_alone(vit: Shelf) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    one, two = (extract(vit.candidate(vit.plan("new", head="new"), seed=4))[0] for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert one == two
    assert one != extract(vit.candidate(vit.plan("new", head="new"), seed=5))[0]
    assert len({layer.module for layer in one if layer.name.startswith("block.")}) == 3  # a stream for each layer


def test_a_cloned_head_keeps_rows_by_label(vit: Shelf) -> None:
    first = vit.candidate(vit.plan(), labels="abc")
    train(first)
    grown = vit.grow(first)
    second = grown.candidate(grown.plan(head="clone"), labels="cxa", parent="abc")
    assert first.head is not None
    assert second.head is not None
    assert torch.equal(second.head.weight[[0, 2]], first.head.weight[[2, 0]])
    assert torch.equal(second.head.bias[[0, 2]], first.head.bias[[2, 0]])
    other = grown.candidate(grown.plan(head="clone"), labels="bx", parent="abc")
    assert other.head is not None
    assert torch.equal(other.head.weight[1], second.head.weight[1])  # a new label's row is drawn by its name


def test_another_image_size_resizes_the_positions(vit: Shelf) -> None:
    model = build_candidate(vit.layers, vit.get, vit.plan(), labels=("a", "b"), seed=0, image_size=16)
    assert model(images(size=16)).shape == (4, 2)
    layers, made = extract(model)
    positions = next(layer for layer in layers if layer.kind == "position_embed")
    assert made[positions.module].config == {"tokens": 17, "width": 12}
    assert {layer.name for layer in layers if layer.module in made} == {"position_embed", "head"}


def test_dropping_and_inserting_blocks(vit: Shelf) -> None:
    plan = vit.plan()
    plan[4] = replace(plan[4], action="drop")
    plan.insert(6, LayerPlan("block.03", "new", kind="encoder_block", config={"width": 12, "heads": 3, "mlp": 24}))
    model = vit.candidate(plan)
    assert [name for name in model.names if name.startswith("block.")] == ["block.00", "block.02", "block.03"]
    train(model)
    assert torch.equal(vit.grow(model).load()(images()), model(images()))


def test_a_delta_can_be_trained_further_in_place(vit: Shelf) -> None:
    straight = vit.candidate(vit.plan(deltas=ALL))
    train(straight, steps=4)
    halfway = vit.candidate(vit.plan(deltas=ALL))
    train(halfway, steps=2)
    grown = vit.grow(halfway)
    further = [replace(delta, config={"continue": True}) for delta in ALL]
    head = LayerPlan("head", "clone")
    resumed = grown.candidate([*grown.plan(deltas=further)[:-1], head], labels="abc", parent="abc")
    train(resumed, steps=2, start=2)
    assert extract(resumed)[0] == extract(straight)[0]


def test_state_goes_back_bit_for_bit(resnet: Shelf) -> None:
    model = resnet.candidate(resnet.plan("clone"))
    train(model, steps=2)
    state, answers = model.trained_state(), model(images())
    train(model, steps=2)
    assert not torch.equal(model(images()), answers)
    model.restore(state)
    assert torch.equal(model(images()), answers)


def test_a_prefix_computed_once_gives_the_same_bits(vit: Shelf) -> None:
    plan = vit.plan()
    plan[5] = replace(plan[5], action="clone")
    model = vit.candidate(plan)
    kept = model.run(images(), stop=model.first_trained)
    assert model.first_trained == 5
    assert not kept.requires_grad
    assert torch.equal(model.run(kept.contiguous().clone(), start=model.first_trained), model(images()))
    one_by_one = torch.cat([model.run(images()[[row]], stop=5) for row in range(4)])
    assert one_by_one.shape == kept.shape


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (lambda p: p[1:], "nothing about the parent's layers patch_embed"),
        (lambda p: [*p, p[0]], "twice"),
        (lambda p: [*p, LayerPlan("extra", "clone")], "'extra', which the parent does not have"),
        (lambda p: [replace(p[0], action="clone", deltas=(ALL[1],)), *p[1:]], "deltas go on shared layers"),
        (lambda p: [replace(p[0], deltas=(ALL[0],)), *p[1:]], "fits only an encoder_block"),
        (lambda p: [p[0], replace(p[1], deltas=(ALL[1],)), *p[2:]], "nothing that it would change"),
        (lambda p: [*p, LayerPlan("extra", "new", kind="norm")], "gives no config"),
        (lambda p: [*p[:3], replace(p[3], deltas=(DeltaPlan("lora", {"rank": 0}),)), *p[4:]], "'rank' is 0"),
        (lambda p: [*p[:3], replace(p[3], deltas=(DeltaPlan("lora", {"rank": 1, "targets": ["q"]}),)), *p[4:]], "'q'"),
        (lambda p: [*p[:3], replace(p[3], deltas=(DeltaPlan("prefix"),)), *p[4:]], "allowed: adapter, bias"),
        (lambda p: [*p[:3], replace(p[3], deltas=(DeltaPlan("bias", {"continue": True}),)), *p[4:]], "to continue"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(vit: Shelf, plan: object, message: str) -> None:
    assert callable(plan)
    with pytest.raises(SpecError, match=message):
        vit.candidate(plan(vit.plan()))


def test_a_shared_head_needs_the_same_labels(vit: Shelf) -> None:
    grown = vit.grow(vit.candidate(vit.plan(), labels="abc"))
    same = grown.candidate(grown.plan(head="share"), labels="abc", parent="abc")
    assert trained_modules(same) == {}
    with pytest.raises(SpecError, match="labels differ"):
        grown.candidate(grown.plan(head="share"), labels="abd", parent="abc")


def test_flops_and_parameters_count_deltas(vit: Shelf) -> None:
    plain = vit.candidate(vit.plan())
    lora = vit.candidate(vit.plan(deltas=ALL[:1]))
    # rank × (in + out) of 12→36, 12→12, 12→48, 48→12, over 3 blocks of 5 tokens
    per_block = 2 * ((12 + 36) + (12 + 12) + (12 + 48) + (48 + 12))
    assert lora.num_parameters() - plain.num_parameters() == 3 * per_block
    assert lora.flops - plain.flops == 3 * 5 * 2 * per_block
    assert load_route(vit.layers, vit.get).image_size == 8


def test_seeds_of_roots_matter() -> None:
    config = {"imageSize": 8, "patchSize": 4, "width": 12, "depth": 1, "heads": 3}
    assert shelf("vit", config, seed=0).layers == shelf("vit", config, seed=0).layers
    assert shelf("vit", config, seed=0).layers != shelf("vit", config, seed=1).layers


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize(
    ("backbone", "config"),
    [
        ("vit", {"imageSize": 28, "patchSize": 4, "width": 96, "depth": 1, "heads": 3}),
        ("vit", {"imageSize": 12, "patchSize": 4, "width": 36, "depth": 1, "heads": 3}),
        ("resnet", {"imageSize": 28, "depths": [1, 1], "widths": [16, 24]}),
    ],
)
def test_a_layer_answers_alike_frozen_and_trained(backbone: str, config: dict[str, object], count: int) -> None:
    root = shelf(backbone, config)
    size = int(str(config["imageSize"]))
    batch = images(count, size=size)
    model = build_candidate(root.layers, root.get, root.plan("clone"), labels=("a", "b"), seed=0, image_size=size)
    layers, made = extract(model)
    frozen = load_route(layers, made.__getitem__, image_size=size)
    answers = model.eval()(batch)
    assert answers.requires_grad
    assert torch.equal(frozen(batch), answers)
    with torch.inference_mode():
        assert torch.equal(model(batch), answers)
