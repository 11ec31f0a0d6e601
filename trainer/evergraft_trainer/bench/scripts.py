"""Letters of many scripts, each from the fonts of several designers; the designs of the test are never trained on.

Families have one role in the whole stream: what is in `TEST_FAMILIES` trains nowhere, so no task's test glyphs are seen
while another task is learned. Scripts that the shipped root was trained on (Armenian, Georgian, Hebrew, Canadian
syllables) are left out, and so are the fonts it saw. Called by ``catalog``.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

from evergraft.errors import UserError
from evergraft_trainer.bench import packages
from evergraft_trainer.bench.drawing import GLYPH, ink, likeness, vary
from evergraft_trainer.bench.images import Images, Pixels

MOST_CLASSES = 40
SAME_SHAPE = 0.9
"""Letters whose ink overlaps this much once both fill the same square are one sign: the later is left out."""
TRAIN_PER_CLASS, VALIDATION_PER_CLASS, TEST_PER_CLASS = 40, 10, 20
"""Images of each class, spread evenly over the faces of the split."""


@dataclass(frozen=True)
class Script:
    """A task of letters: Debian packages, the letters, and the font files (by stem) of each split.

    `letters` are written out, or ranges of code points, of which those in every face count.
    """

    packages: tuple[str, ...]
    letters: str | tuple[tuple[int, int], ...]
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def faces(self) -> tuple[str, ...]:
        """All font files."""
        return (*self.train, *self.validation, *self.test)


def build(name: str, script: Script) -> Images:
    """Draw the task's images.

    Raises:
        UserError: a package has no such font, or too few letters are in every face.
    """
    files = font_files(script)
    letters = usable_letters(script, files)
    if len(letters) < 2:
        raise UserError(f"{name}: {len(letters)} letter(s) are in every font; remove its packages from the cache")

    def drawn(split: str, faces: Sequence[str], per_class: int) -> Mapping[str, list[Pixels]]:
        return {class_name(letter): _images(name, split, letter, faces, per_class, files) for letter in letters}

    return Images(
        train=drawn("train", script.train, TRAIN_PER_CLASS),
        validation=drawn("validation", script.validation, VALIDATION_PER_CLASS),
        test=drawn("test", script.test, TEST_PER_CLASS),
    )


def class_name(letter: str) -> str:
    """A class's name in plain letters: `devanagari-letter-ka`."""
    return unicodedata.name(letter).lower().replace(" ", "-")


def font_files(script: Script) -> Mapping[str, Path]:
    """Font stem to its file in the unpacked packages.

    Raises:
        UserError: a font is in none of them.
    """
    folders = [packages.debian(name) for name in script.packages]
    found = {
        path.stem: path
        for folder in reversed(folders)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in (".ttf", ".otf", ".ttc") and not path.is_symlink()
    }
    missing = [face for face in script.faces() if face not in found]
    if missing:
        raise UserError(f"{', '.join(script.packages)}: no font {missing[0]}; this release of Debian has others")
    return {face: found[face] for face in script.faces()}


def usable_letters(script: Script, files: Mapping[str, Path]) -> tuple[str, ...]:
    """The letters that every face draws and that differ in shape, at most MOST_CLASSES."""
    covered = frozenset.intersection(*(_coverage(path) for path in files.values()))
    kept: list[str] = []
    reference = files[script.train[0]]
    for letter in _letters(script.letters):
        if ord(letter) not in covered or any(ink(path, letter) is None for path in files.values()):
            continue
        shape = ink(reference, letter)
        others = (ink(reference, other) for other in kept)
        if shape is not None and all(likeness(shape, other) < SAME_SHAPE for other in others if other is not None):
            kept.append(letter)
    return tuple(kept[:MOST_CLASSES])


def _letters(letters: str | tuple[tuple[int, int], ...]) -> Iterable[str]:
    if isinstance(letters, str):
        return letters
    signs = (chr(point) for first, last in letters for point in range(first, last + 1))
    return (sign for sign in signs if unicodedata.category(sign).startswith("L"))


def _coverage(path: Path) -> frozenset[int]:
    with TTFont(path, lazy=True, fontNumber=0) as font:
        return frozenset(font.getBestCmap() or ())


def _images(
    name: str, split: str, letter: str, faces: Sequence[str], count: int, files: Mapping[str, Path]
) -> list[Pixels]:
    images = []
    for number in range(count):
        face = faces[number % len(faces)]
        glyph = ink(files[face], letter)
        assert glyph is not None
        images.append(vary(glyph, random.Random(f"{name}/{split}/{face}/{ord(letter):x}/{number}"), GLYPH))
    return images
