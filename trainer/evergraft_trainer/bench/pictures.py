"""Tasks of coloured pictures: emoji in two drawing styles, and clip art whose drawings are held out.

An emoji task trains on one designer's drawings; validation and test are the other designer's, of different emoji, and
no emoji is in two tasks. A clip art task names a branch; drawings whose file names begin with the same word stay in one
split. Pictures are kept in colour; a root of one channel reads them as grey. Called by ``catalog``.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from evergraft.errors import UserError
from evergraft_trainer.bench import packages
from evergraft_trainer.bench.drawing import PICTURE, vary
from evergraft_trainer.bench.images import Images, Pixels

STYLES = {"google": "emoji-datasource-google@16.0.0", "twitter": "emoji-datasource-twitter@16.0.0"}
"""Drawing style to its npm package."""
CLIP_ART = "openclipart-png"
MOST_EMOJI = 40
MOST_PIXELS = 1 << 24
"""Larger drawings are left out: a few posters would take longer than all others together."""


@dataclass(frozen=True)
class Emoji:
    """Emoji of some subcategories, each a class. Trained as `drawn`, tested as `redrawn` (styles)."""

    subcategories: tuple[str, ...]
    drawn: str
    redrawn: str


@dataclass(frozen=True)
class ClipArt:
    """Branches (folders below png/) of clip art, each a class."""

    branches: tuple[str, ...]


EMOJI: dict[str, Emoji] = {
    "emoji-animals": Emoji(
        ("animal-mammal", "animal-bird", "animal-marine", "animal-bug", "animal-reptile"), "google", "twitter"
    ),
    "emoji-food": Emoji(
        ("food-fruit", "food-vegetable", "food-prepared", "food-asian", "food-sweet", "drink"), "twitter", "google"
    ),
    "emoji-travel": Emoji(
        ("transport-ground", "transport-air", "transport-water", "place-building", "place-other"), "google", "twitter"
    ),
    "emoji-objects": Emoji(
        ("clothing", "musical-instrument", "light & video", "tool", "sport", "game", "household"), "twitter", "google"
    ),
}
CLIP_ARTS: dict[str, ClipArt] = {
    "clipart-nature": ClipArt(
        (
            "animals/mammals",
            "animals/birds",
            "animals/bugs",
            "plants/flowers",
            "food/fruit",
            "food/desserts",
            "food/beverages",
            "food/meats_and_eggs",
        )
    ),
    "clipart-things": ClipArt(
        (
            "transportation/vehicles",
            "transportation/roadsigns",
            "transportation/boating",
            "recreation/music",
            "recreation/sports",
            "people/clothing",
            "people/smilies",
            "buildings/homes",
            "computer/hardware",
        )
    ),
}


def build_emoji(name: str, task: Emoji) -> Images:
    """Draw the task's images: 40 of each class in one style, 20 in the other of those that are not validated on.

    Raises:
        UserError: a package cannot be had.
    """
    entries = _listed(task)
    drawn, redrawn = (_drawings(style, entries) for style in (task.drawn, task.redrawn))
    train = {label: _varied(f"{name}/train/{label}", [image], 40) for label, image in drawn.items()}
    validation: dict[str, list[Pixels]] = {}
    test: dict[str, list[Pixels]] = {}
    for number, (label, image) in enumerate(redrawn.items()):
        where, split = (validation, "validation") if number % 3 == 0 else (test, "test")
        where[label] = _varied(f"{name}/{split}/{label}", [image], 20)
    return Images(train=train, validation=validation, test=test)


def build_clip_art(name: str, task: ClipArt) -> Images:
    """Draw the task's images from the drawings of each branch: 12 of each in training, 6 of each elsewhere.

    Raises:
        UserError: the package cannot be had, or lacks a branch.
    """
    folder = packages.debian(CLIP_ART) / "usr" / "share" / "openclipart" / "png"
    splits: dict[str, dict[str, list[Pixels]]] = {"train": {}, "validation": {}, "test": {}}
    for branch in task.branches:
        files = [path for path in sorted((folder / branch).rglob("*.png")) if _pixels(path) <= MOST_PIXELS]
        if not files:
            raise UserError(f"{CLIP_ART}: no branch {branch}; this release of Debian has another clip art")
        label = branch.replace("/", "-")
        for path in files:
            split = split_of(path.name)
            seed = f"{name}/{split}/{label}/{path.name}"
            images = _varied(seed, [_opened(path)], 12 if split == "train" else 6)
            splits[split].setdefault(label, []).extend(images)
    return Images(**splits)


def split_of(file: str) -> str:
    """The split of a drawing, by its file name's first word without digits: 50 % train, 15 % validate, 35 % test."""
    word = "".join(sign for sign in file.lower().split(".")[0].split("_")[0] if sign.isalpha())
    place = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") % 100
    return "train" if place < 50 else "validation" if place < 65 else "test"


def _listed(task: Emoji) -> Mapping[str, str]:
    """Class name to the image file of the task's emoji, those that both styles draw, spread over its subcategories."""
    archive = packages.npm(STYLES["google"])
    ((_, text),) = packages.members(archive, ["package/emoji.json"])
    found: dict[str, str] = {}
    for entry in sorted(json.loads(text), key=lambda item: int(item["sort_order"])):
        if entry["subcategory"] in task.subcategories and entry["has_img_google"] and entry["has_img_twitter"]:
            found[str(entry["short_name"])] = str(entry["image"])
    chosen = sorted(found, key=lambda label: hashlib.sha256(label.encode()).digest())[:MOST_EMOJI]
    return {label: found[label] for label in sorted(chosen)}


def _drawings(style: str, entries: Mapping[str, str]) -> Mapping[str, Image.Image]:
    names = {label: f"package/img/{style}/64/{file}" for label, file in entries.items()}
    contents = dict(packages.members(packages.npm(STYLES[style]), list(names.values())))
    return {label: Image.open(io.BytesIO(contents[path])).convert("RGBA") for label, path in names.items()}


def _opened(path: Path) -> Image.Image:
    """A clip art drawing, cropped to what is not transparent and reduced to about a hundred pixels."""
    with Image.open(path) as image:
        picture = image.convert("RGBA")
    box = picture.getchannel("A").getbbox()
    picture = picture.crop(box) if box else picture
    picture.thumbnail((112, 112), Image.Resampling.BOX)
    return picture


def _pixels(path: Path) -> int:
    """Width times height, from the PNG's header."""
    with path.open("rb") as file:
        header = file.read(24)
    return int.from_bytes(header[16:20], "big") * int.from_bytes(header[20:24], "big")


def _varied(seed: str, drawings: Sequence[Image.Image], count: int) -> list[Pixels]:
    return [
        vary(drawing, random.Random(f"{seed}/{number}"), PICTURE) for number in range(count) for drawing in drawings
    ]
