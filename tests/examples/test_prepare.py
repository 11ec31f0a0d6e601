"""Preparation: what is written reads back as the pixels drawn, once, whole or not at all, and tells other pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from examples import datasets
from examples.datasets import Dataset, Images, digest, prepare, write_folder, write_npz
from examples.demo import prepare as demo
from examples.roots import prepare as roots
from PIL import Image

from evergraft.api.load import load_documents
from evergraft.api.modulegraph import ModuleGraph
from evergraft.api.task import Task

EXAMPLES = Path(datasets.__file__).parent


def spots(offset: int = 0) -> Images:
    """Two classes, two images each in training and one in test, every pixel its own."""

    def image(number: int) -> Image.Image:
        return Image.fromarray((np.arange(16, dtype=np.uint8) * 3 + number + offset).reshape(4, 4))

    return {"train": {"b": [image(1), image(2)], "a": [image(3), image(4)]}, "test": {"a": [image(5)], "b": [image(6)]}}


def read_folder(path: Path) -> Images:
    found: dict[str, dict[str, list[Image.Image]]] = {}
    for file in sorted(path.glob("*/*/*.png")):
        found.setdefault(file.parts[-3], {}).setdefault(file.parts[-2], []).append(Image.open(file))
    return found


def read_npz(path: Path) -> Images:
    found: dict[str, dict[str, list[Image.Image]]] = {}
    with np.load(path / "data.npz") as arrays:
        for split in {name.removesuffix("_images") for name in arrays if name.endswith("_images")}:
            for pixels, label in zip(arrays[f"{split}_images"], arrays[f"{split}_labels"], strict=True):
                name = str(arrays["labels"][label])
                found.setdefault(split, {}).setdefault(name, []).append(Image.fromarray(pixels))
    return found


def run(folder: Path, made: list[str], *, expected: Mapping[str, str], offset: int = 0, source: str = "x") -> None:
    def make() -> Images:
        made.append(source)
        return spots(offset)

    script, digests = folder.parent / "script.py", folder.parent / "digests.txt"
    script.write_text(source)
    digests.write_text("# a remark\n" + "".join(f"{value}  {name}\n" for name, value in expected.items()))
    prepare([Dataset("spots", make, write_folder)], folder, sources=[script], expected=digests)


def test_both_forms_read_back_as_the_same_pixels(tmp_path: Path) -> None:
    write_folder(spots(), tmp_path / "folder")
    write_npz(spots(), tmp_path / "npz")
    assert digest(read_folder(tmp_path / "folder")) == digest(spots()) == digest(read_npz(tmp_path / "npz"))
    assert digest(spots(offset=1)) != digest(spots())


def test_a_second_run_makes_nothing_and_a_changed_source_or_lost_folder_everything(tmp_path: Path) -> None:
    made: list[str] = []
    known = {"spots": digest(spots())}
    run(tmp_path / "data", made, expected=known)
    run(tmp_path / "data", made, expected=known)
    assert made == ["x"]
    run(tmp_path / "data", made, expected=known, source="y")
    (tmp_path / "data" / "spots").rename(tmp_path / "away")
    run(tmp_path / "data", made, expected=known, source="y")
    assert made == ["x", "y", "y"]
    assert digest(read_folder(tmp_path / "data" / "spots")) == digest(spots())


def test_other_pixels_than_recorded_are_a_warning_that_names_versions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "one", [], expected={"spots": digest(spots())})
    assert "warning" not in capsys.readouterr().out
    run(tmp_path / "two", [], expected={"spots": digest(spots())}, offset=1)
    out = capsys.readouterr().out
    assert "warning: spots: other pixels than digests.txt records" in out
    assert "pillow " in out
    assert (tmp_path / "two" / "spots").is_dir()


def test_an_interrupted_write_leaves_no_dataset_and_is_made_up_for(tmp_path: Path) -> None:
    def fail(images: Images, path: Path) -> None:
        path.mkdir()
        raise OSError("disk full")

    data, none = tmp_path / "data", tmp_path / "none"
    with pytest.raises(OSError, match="disk full"):
        prepare([Dataset("spots", spots, fail)], data, sources=[], expected=none)
    assert not (data / "spots").exists()
    prepare([Dataset("spots", spots, write_folder)], data, sources=[], expected=none)
    assert digest(read_folder(data / "spots")) == digest(spots())
    assert sorted(entry.name for entry in data.iterdir()) == [datasets.MARKER, "spots"]


def test_the_order_of_a_class_decides_its_split() -> None:
    images = [Image.new("L", (2, 2), value) for value in range(40)]
    parts = demo.split_in_order(images, [value % 2 for value in range(40)])
    seen = {split: [item.getpixel((0, 0)) for item in classes["1"]] for split, classes in parts.items()}
    assert seen == {"train": list(range(1, 31, 2)), "validation": [31, 33], "test": [35, 37, 39]}


@pytest.mark.parametrize(
    "dataset", [item for item in demo.DATASETS if item.name in ("digits", "cyrillic")], ids=lambda item: item.name
)
def test_a_demo_dataset_has_ten_classes_or_more_in_every_split_and_no_image_twice(dataset: Dataset) -> None:
    images = dataset.make()
    assert list(images) == ["train", "validation", "test"]
    assert len({frozenset(classes) for classes in images.values()}) == 1
    assert len(images["train"]) >= 10
    every = [item.tobytes() for classes in images.values() for items in classes.values() for item in items]
    assert len(set(every)) == len(every)
    assert {item.size for classes in images.values() for items in classes.values() for item in items} == {(28, 28)}


def test_the_documents_are_valid_and_name_the_prepared_datasets() -> None:
    documents = [document.value for document in load_documents([EXAMPLES / "demo"])]
    urls = [value.spec.dataset.url for value in documents if isinstance(value, Task)]
    assert urls == [f"../../demo/data/{dataset.name}" for dataset in demo.DATASETS]
    assert sum(isinstance(value, ModuleGraph) for value in documents) == 1
    (url,) = [
        value.spec.dataset.url
        for document in load_documents([EXAMPLES / "roots" / "glyphs.yaml"])
        if isinstance(value := document.value, Task)
    ]
    assert url == f"../../demo/roots/{roots.DATASETS[0].name}"


def test_every_dataset_has_its_digest_recorded() -> None:
    for folder, prepared in (("demo", demo.DATASETS), ("roots", roots.DATASETS)):
        recorded = datasets.read_digests(EXAMPLES / folder / "digests.txt")
        assert set(recorded) == {dataset.name for dataset in prepared}
        assert all(len(value) == 64 for value in recorded.values())
