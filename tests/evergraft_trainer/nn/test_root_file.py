"""Root files and roots: round trip, wrong digests and shapes, import of torchvision's files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import models
from torchvision.models.resnet import BasicBlock, ResNet

from evergraft import canonical
from evergraft.errors import IntegrityError, SpecError, UserError
from evergraft.graph.module import encode_tensors
from evergraft_trainer.nn.backbones import root_modules, root_plan, root_preprocessing
from evergraft_trainer.nn.root_file import import_torchvision, read_root_file, write_root_file
from evergraft_trainer.testing.routes import RESNET, VIT


@pytest.mark.parametrize(("backbone", "config"), [("vit", VIT), ("resnet", RESNET)])
def test_a_root_survives_its_file(backbone: str, config: dict[str, Any]) -> None:
    layers, preprocessing = root_modules(backbone, config, seed=2), root_preprocessing(backbone, config)
    data = write_root_file(layers, preprocessing)
    read, again = read_root_file(data, sha256=canonical.sha256(data), where="root.safetensors")
    assert [(name, module.id) for name, module in read] == [(name, module.id) for name, module in layers]
    assert again == preprocessing
    assert write_root_file(read, again) == data


def test_the_wrong_digest_is_refused_before_anything_is_read() -> None:
    with pytest.raises(IntegrityError, match=r"weights with the wrong digest: x\.safetensors .*expected 0000"):
        read_root_file(b"anything", sha256="0" * 64, where="x.safetensors")


def refuse(data: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        read_root_file(data, sha256=canonical.sha256(data), where="x.safetensors")


def test_what_is_no_root_file_is_refused() -> None:
    refuse(b"", "not a whole safetensors file")
    refuse(encode_tensors({}, metadata={}), "no root file")
    refuse(encode_tensors({}, metadata={"evergraftRoot": "[" * 100_000}), "no root file")


def test_wrong_shapes_are_refused_by_layer() -> None:
    layers = root_modules("vit", VIT, seed=0)
    name, norm = layers[-1]
    wide = [*layers[:-1], (name, type(norm)(kind="norm", config={"width": 13}, tensors=norm.tensors))]
    refuse(
        write_root_file(wide, root_preprocessing("vit", VIT)),
        r"layer 'norm': norm: tensor 'weight' should be F32 \[13\], got F32 \[12\]",
    )
    refuse(write_root_file(layers * 2, root_preprocessing("vit", VIT)), "stands twice")
    refuse(write_root_file([("a/b", norm), ("a", norm)], root_preprocessing("vit", VIT)), "unexpected tensors")


def test_a_torchvision_file_is_imported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.resnet18(weights=None)
    torch.save(model.state_dict(), tmp_path / "resnet18.pth")
    layers, preprocessing = import_torchvision(tmp_path / "resnet18.pth", backbone="resnet18")
    assert [name for name, _ in layers][:2] == ["stem", "block.00"]
    assert len(layers) == 9
    assert preprocessing["imageSize"] == 224
    assert preprocessing["mean"] == [0.485, 0.456, 0.406]
    weight = dict(layers)["block.07"].tensors["conv2.weight"]
    assert weight.data == model.layer4[1].conv2.weight.detach().numpy().tobytes()
    with pytest.raises(UserError, match="are they of another backbone"):
        import_torchvision(tmp_path / "resnet18.pth", backbone="vit_b_16")


def test_a_file_of_another_backbone_is_refused(tmp_path: Path) -> None:
    torch.save(ResNet(BasicBlock, [1, 1, 1, 1]).state_dict(), tmp_path / "small.pth")
    with pytest.raises(UserError, match=r"layer 'block\.01'.*got F32 \[128, 64, 3, 3\]; are the weights of another"):
        import_torchvision(tmp_path / "small.pth", backbone="resnet18")
    torch.save({}, tmp_path / "empty.pth")
    with pytest.raises(UserError, match=r"layer 'stem': the weights have no tensor 'conv1\.weight'"):
        import_torchvision(tmp_path / "empty.pth", backbone="resnet18")


class Bomb:
    """Would make a file when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"x": Bomb(tmp_path / "ran")}))
    torch.save({"x": Bomb(tmp_path / "ran")}, tmp_path / "zip.pth")
    (tmp_path / "text.pth").write_text("hello")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    for name in ("bomb.pth", "zip.pth", "text.pth", "list.pth", "absent.pth"):
        with pytest.raises(UserError, match=name):
            import_torchvision(tmp_path / name, backbone="resnet18")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("backbone", "config", "message"),
    [
        ("vitt", {}, "root.backbone: 'vitt' is unknown; allowed: vit, resnet, vit_b_16"),
        ("vit", {"imageSize": 8}, "root.config: config field 'width' is None"),
        ("vit", {**VIT, "size": 3}, "root.config.size: unknown field"),
        ("vit", {**VIT, "imageSize": 9}, "'imageSize' is 9, which is no multiple of patchSize 4"),
        ("vit", {**VIT, "depth": 10**9}, "'depth' is 1000000000"),
        ("vit", {**VIT, "heads": 5}, "'heads' is 5, which does not divide width 12"),
        ("resnet", {"imageSize": 8, "depths": [1], "widths": []}, "'depths' and 'widths' are lists of the same length"),
        ("resnet", {**RESNET, "stem": "huge"}, "'stem' is 'huge'; allowed: small, large"),
    ],
)
def test_a_wrong_root_names_its_field(backbone: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        root_modules(backbone, config, seed=0)


def test_a_stage_of_equal_width_still_begins_with_a_stride() -> None:
    plan = root_plan("resnet", {"imageSize": 8, "depths": [2, 2], "widths": [4, 4]})
    assert [config["stride"] for _, kind, config in plan if kind == "residual_block"] == [1, 1, 2, 1]
