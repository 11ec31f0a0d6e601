"""The stream: its tasks by name, how each is built, the two orders in which they are learned, the quick subset.

Names and orders are part of what results are keyed by: change them and every recorded result is another experiment.
Called by ``datasets``, ``harness`` and the command.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from evergraft_trainer.bench import classics, pictures, scripts
from evergraft_trainer.bench.alphabets import ALPHABETS
from evergraft_trainer.bench.images import Images

BUILDERS: dict[str, Callable[[], Images]] = {
    "mnist": classics.mnist,
    "digits": classics.digits,
    "fashion": classics.fashion,
    **{name: partial(scripts.build, name, script) for name, script in ALPHABETS.items()},
    **{name: partial(pictures.build_emoji, name, task) for name, task in pictures.EMOJI.items()},
    **{name: partial(pictures.build_clip_art, name, task) for name, task in pictures.CLIP_ARTS.items()},
}
"""Task name to what builds its images."""

ORDERS: dict[str, tuple[str, ...]] = {
    "a": (
        "mnist",
        "greek",
        "emoji-animals",
        "devanagari",
        "hangul",
        "fashion",
        "thai",
        "arabic",
        "clipart-nature",
        "katakana",
        "bengali",
        "emoji-food",
        "latin-small",
        "khmer",
        "han",
        "clipart-things",
        "telugu",
        "digits",
        "gujarati",
        "emoji-travel",
        "cyrillic",
        "tamil",
        "hiragana",
        "emoji-objects",
        "malayalam",
    ),
    "b": (
        "emoji-travel",
        "tamil",
        "cyrillic",
        "clipart-things",
        "hiragana",
        "malayalam",
        "digits",
        "emoji-food",
        "han",
        "khmer",
        "bengali",
        "fashion",
        "latin-small",
        "emoji-objects",
        "thai",
        "gujarati",
        "mnist",
        "hangul",
        "clipart-nature",
        "telugu",
        "katakana",
        "greek",
        "emoji-animals",
        "arabic",
        "devanagari",
    ),
}
"""Both were drawn by hand, kinds mixed, before anything was measured."""

QUICK = ("mnist", "greek", "emoji-animals", "devanagari", "hangul", "thai")
"""The quick subset, in its order."""


def order_of(name: str, *, quick: bool) -> tuple[str, ...]:
    """The tasks of an order; of the quick subset, those it has of them."""
    return tuple(task for task in ORDERS[name] if not quick or task in QUICK)
