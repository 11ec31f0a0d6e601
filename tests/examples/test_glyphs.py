"""The drawn letters: the same for the same seed, classes that can be told apart, faces that training never sees."""

from __future__ import annotations

import itertools
import random
import unicodedata

import pytest
from examples import glyphs
from examples.demo import prepare as demo
from examples.roots import prepare as roots
from PIL import Image, ImageChops

ALPHABETS = {"latin": demo.LATIN, "greek": demo.GREEK, "cyrillic": demo.CYRILLIC}
DIGITS = "0123456789"


def drawn(seed: str) -> bytes:
    return glyphs.draw("DejaVuSans", "Ж", random.Random(seed), glyphs.Variation()).tobytes()


def test_a_seed_draws_the_same_image_again_and_another_seed_another() -> None:
    assert drawn("a") == drawn("a")
    assert drawn("a") != drawn("b")


@pytest.mark.parametrize("character", ["I", "Щ", "ξ"])
def test_an_image_is_grey_of_the_right_size_with_its_ink_inside(character: str) -> None:
    for number in range(20):
        image = glyphs.draw("STIXGeneral", character, random.Random(number), glyphs.Variation())
        box = image.point(lambda value: 255 if value > 128 else 0).getbbox()
        assert (image.mode, image.size) == ("L", (28, 28))
        assert box is not None
        assert min(box[:2]) >= 1
        assert max(box[2:]) <= 27


def test_without_variation_a_glyph_is_upright_centred_and_fills_its_body() -> None:
    still = glyphs.Variation(rotation=0, shear=0, smallest=1, largest=1, aspect=0, shift=0, strokes=(0,), blur=0)
    image = glyphs.draw("DejaVuSans", "O", random.Random(0), still)
    box = image.getbbox()
    assert box is not None
    assert box[1] + box[3] == pytest.approx(glyphs.SIDE, abs=1)
    assert box[3] - box[1] == pytest.approx(glyphs.BODY, abs=2)
    turned = image.transpose(Image.Transpose.ROTATE_180)
    assert glyphs.likeness(image, turned) > 0.9  # an O is its own half turn


@pytest.mark.parametrize("name", ALPHABETS)
def test_validation_and_test_faces_are_families_that_training_never_sees(name: str) -> None:
    train = set(demo.TRAIN_FACES) | set(glyphs.MODERN)
    held_out = [*demo.VALIDATION_FACES, *demo.TEST_FACES]
    assert len(set(held_out)) == len(held_out)
    assert not train & set(held_out)
    assert not any(face.startswith("DejaVuSerif") for face in (*train, *roots.TRAIN_FACES, *roots.VALIDATION_FACES))
    assert glyphs.faces_with(held_out, ALPHABETS[name]) == tuple(held_out)
    assert glyphs.faces_with(demo.TRAIN_FACES, ALPHABETS[name]) == demo.TRAIN_FACES


@pytest.mark.parametrize("name", ALPHABETS)
def test_no_two_letters_of_an_alphabet_have_one_shape(name: str) -> None:
    inks = {letter: glyphs.ink("DejaVuSerif", letter) for letter in ALPHABETS[name]}
    for (one, first), (other, second) in itertools.combinations(inks.items(), 2):
        assert glyphs.likeness(first, second) < 0.93, f"{one} {other}"


def test_class_names_are_distinct_where_file_names_ignore_case() -> None:
    assert glyphs.class_name("a") == "small-letter-a"
    assert glyphs.class_name("Ω") == "capital-letter-omega"
    assert glyphs.class_name("∑") == "n-ary-summation"
    for alphabet in (*ALPHABETS.values(), roots.SIGNS):
        names = {glyphs.class_name(character).casefold() for character in alphabet}
        assert len(names) == len(alphabet)


def test_the_root_learns_no_sign_of_the_demo_and_none_of_its_look_alikes() -> None:
    tasks = sorted(set("".join(ALPHABETS.values())) | set(DIGITS))
    scripts = {unicodedata.name(sign).split()[0] for sign in roots.SIGNS}
    assert not {"LATIN", "GREEK", "CYRILLIC", "DIGIT"} & scripts
    assert not set(tasks) & set(roots.SIGNS)
    for sign in roots.ARMENIAN + roots.GEORGIAN + roots.HEBREW:
        one = glyphs.ink("DejaVuSans", sign)
        assert all(
            ImageChops.difference(one, other).getbbox()
            for letter in tasks
            if (other := glyphs.ink("DejaVuSans", letter)).size == one.size
        ), sign


def test_a_character_without_ink_is_refused() -> None:
    with pytest.raises(ValueError, match="draws nothing"):
        glyphs.ink("DejaVuSans", " ")
