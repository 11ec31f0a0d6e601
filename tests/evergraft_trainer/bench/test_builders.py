"""What builds the tasks, on fonts and pictures that are at hand: matplotlib's own fonts, emoji made here."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from evergraft.errors import UserError
from evergraft_trainer.bench import packages, pictures, scripts
from evergraft_trainer.bench.classics import digits, mnist
from evergraft_trainer.bench.images import SPLITS, digest
from evergraft_trainer.bench.scripts import Script

SCRIPT = Script(
    packages=("fonts-here",),
    letters=((0x41, 0x5A), (0x410, 0x415)),
    train=("DejaVuSans", "DejaVuSansMono"),
    validation=("STIXGeneral",),
    test=("DejaVuSerif",),
)


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Debian package holds matplotlib's fonts."""
    monkeypatch.setattr(packages, "debian", lambda name: Path(mpl.get_data_path()) / "fonts" / "ttf")


def test_letters_of_one_shape_are_one_class(fonts: None) -> None:
    letters = scripts.usable_letters(SCRIPT, scripts.font_files(SCRIPT))
    # Cyrillic А, В and Е look like Latin A, B and E; Б, Г and Д like no Latin letter.
    assert {"A", "B", "E", "Б", "Г", "Д"} <= set(letters)
    assert {"А", "В", "Е"}.isdisjoint(letters)


def test_a_script_is_drawn_the_same_every_time(fonts: None) -> None:
    script = Script(SCRIPT.packages, "ABC", SCRIPT.train, SCRIPT.validation, SCRIPT.test)
    made = scripts.build("letters", script)
    assert {split: made.count(split) for split in SPLITS} == {"train": 120, "validation": 30, "test": 60}
    assert digest(made) == digest(scripts.build("letters", script))
    assert digest(made) != digest(scripts.build("others", script))


def test_a_font_that_is_missing_is_named(fonts: None) -> None:
    with pytest.raises(UserError, match="no font Comic"):
        scripts.build("letters", Script(("fonts-here",), "AB", ("Comic",), ("STIXGeneral",), ("DejaVuSerif",)))


def test_letters_that_no_font_has_are_an_error(fonts: None) -> None:
    with pytest.raises(UserError, match=r"0 letter\(s\)"):
        scripts.build("letters", Script(SCRIPT.packages, "ⴰⴱ", SCRIPT.train, SCRIPT.validation, SCRIPT.test))


@pytest.fixture
def emoji(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed emoji of two styles: nine squares, whose brightness says which style they are of."""
    entries = [
        {
            "short_name": f"e{number}",
            "image": f"{number}.png",
            "sort_order": number,
            "subcategory": "animal-bird" if number < 8 else "flag",
            "has_img_google": True,
            "has_img_twitter": number != 7,
        }
        for number in range(9)
    ]
    for style, level in (("google", 90), ("twitter", 240)):
        with tarfile.open(tmp_path / f"{style}.tgz", "w:gz") as packed:
            _add(packed, "package/emoji.json", json.dumps(entries).encode())
            for number in range(9):
                stream = io.BytesIO()
                Image.new("RGBA", (64, 64), (level, level, level, 255)).save(stream, format="PNG")
                _add(packed, f"package/img/{style}/64/{number}.png", stream.getvalue())
    monkeypatch.setattr(packages, "npm", lambda name: tmp_path / f"{name.split('-')[-1].split('@')[0]}.tgz")


def _add(packed: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    packed.addfile(info, io.BytesIO(data))


def test_emoji_train_in_one_style_and_test_in_the_other(emoji: None) -> None:
    made = pictures.build_emoji("birds", pictures.Emoji(("animal-bird",), "google", "twitter"))
    assert sorted(made.train) == [f"e{number}" for number in range(7)]
    assert set(made.validation).isdisjoint(made.test)
    assert set(made.validation) | set(made.test) == set(made.train)
    # Noise and contrast leave the two styles far apart.
    assert max(np.percentile(image, 90) for images in made.train.values() for image in images) < 130
    assert min(np.percentile(image, 90) for images in made.test.values() for image in images) > 130


def test_clip_art_keeps_a_drawing_in_one_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "usr" / "share" / "openclipart" / "png" / "birds"
    folder.mkdir(parents=True)
    for number in range(30):
        word = f"{chr(97 + number % 26)}{chr(97 + number // 26)}wing"
        Image.new("RGBA", (9, 9), (number * 8, 255, 0, 255)).save(folder / f"{word}_1.png")
    monkeypatch.setattr(packages, "debian", lambda name: tmp_path)
    made = pictures.build_clip_art("birds", pictures.ClipArt(("birds",)))
    drawings = {split: made.count(split) // (12 if split == "train" else 6) for split in SPLITS}
    assert sum(drawings.values()) == 30
    assert min(drawings.values()) > 0
    monkeypatch.setattr(pictures, "MOST_PIXELS", 80)
    with pytest.raises(UserError, match="no branch birds"):
        pictures.build_clip_art("birds", pictures.ClipArt(("birds",)))


@pytest.mark.parametrize(("made", "count"), [(mnist, 5000), (digits, 1797)])
def test_digits_are_split_in_order_and_whole(made: object, count: int) -> None:
    images = made()  # type: ignore[operator]
    assert sum(images.count(split) for split in SPLITS) == count
    assert set(images.train) == set(images.validation) == set(images.test) == {str(number) for number in range(10)}
