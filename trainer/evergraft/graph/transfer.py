"""What a route is measured against: a linear probe and fine-tuning of the same task, both from the root.

It travels in the summary of a route, so that a list of all routes tells where transfer was negative without reading a
route document. Called by ``graph.route``, which stores it, by the search's ledger, which makes it, and by ``show``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Measured:
    """A validation quality in 0…1 by the task's metric, and the training images that it took.

    Counted are images fitted to for a linear probe, samples trained for fine-tuning.
    """

    quality: float
    samples: int

    def __post_init__(self) -> None:
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 0:
            raise ValueError(f"expected a number of samples, got {self.samples!r:.60}")
        if not 0.0 <= self.quality <= 1.0:
            raise ValueError(f"expected a quality in 0…1, got {self.quality!r:.60}")

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"quality": self.quality, "samples": self.samples}

    @classmethod
    def from_json(cls, value: Any) -> Measured:
        """Read the JSON form; unknown fields are left alone. Raises ValueError, KeyError or TypeError."""
        return cls(quality=float(value["quality"]), samples=value["samples"])


@dataclass(frozen=True, slots=True)
class Transfer:
    """What is known of a task from its root alone; None where nobody has measured it.

    `linear_probe` is a head in closed form on the frozen root, `fine_tuned` the best child of the root that was
    trained whole. `basis` digests what both depend on (root, data, metric, image size): they are worth something to
    a later route of the task only under the same one.
    """

    basis: str
    linear_probe: Measured | None = None
    fine_tuned: Measured | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return self.linear_probe is None and self.fine_tuned is None

    def to_json(self) -> dict[str, Any]:
        """The JSON form; what is not known is left out."""
        figures = {"linearProbe": self.linear_probe, "fineTuned": self.fine_tuned}
        return {
            "basis": self.basis,
            **{name: figure.to_json() for name, figure in figures.items() if figure is not None},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Transfer:
        """Read the JSON form; unknown fields are left alone. Raises ValueError, KeyError or TypeError."""
        probe, tuned = value.get("linearProbe"), value.get("fineTuned")
        return cls(
            basis=str(value["basis"]),
            linear_probe=None if probe is None else Measured.from_json(probe),
            fine_tuned=None if tuned is None else Measured.from_json(tuned),
        )
