"""Where a candidate stands: what is saved at each validation, and how a saved state is found again.

Three names of weights take turns, so that a state never points at bytes that a newer write has replaced: the new
weights go to a name that neither the best nor the last state uses, then the state is overwritten in one put.
Called by the trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from evergraft import canonical, names
from evergraft.graph.bundle import decode_bundle, encode_bundle
from evergraft.graph.module import Module
from evergraft.graph.route import Layer, count, layers_from_json, reading, real
from evergraft.search.folder import Folder
from evergraft.search.values import SlotRef, share


@dataclass(frozen=True)
class Saved:
    """One state's weights: the slot's object that holds them, its SHA-256, the route's layers, the metrics."""

    object: str
    sha256: str
    validation: int
    layers: tuple[Layer, ...]
    metrics: Mapping[str, Any]

    @property
    def quality(self) -> float:
        """The validation metric, in 0…1."""
        with reading("saved weights"):
            return float(self.metrics["quality"])

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "object": self.object,
            "sha256": self.sha256,
            "validation": self.validation,
            "layers": [layer.to_json() for layer in self.layers],
            "metrics": dict(self.metrics),
        }

    @classmethod
    def from_json(cls, value: Any) -> Saved:
        """Read the JSON form; raises IntegrityError where a field is missing or wrong."""
        with reading("saved weights"):
            return cls(
                object=str(value["object"]),
                sha256=str(value["sha256"]),
                validation=count(value["validation"]),
                layers=layers_from_json(value["layers"]),
                metrics=dict(value["metrics"]),
            )


@dataclass(frozen=True)
class Progress:
    """A candidate's progress: samples trained and evaluated, the qualities so far, the best and the last weights.

    `profile` is the digest of the numeric profile: under another one a slot starts from its beginning.
    """

    profile: str
    samples: int = 0
    forward_samples: int = 0
    seconds: float = 0.0
    qualities: tuple[float, ...] = ()
    best: Saved | None = None
    last: Saved | None = None

    def free_name(self, claim: int) -> str:
        """A name for weights that neither the best nor the last state uses."""
        used = {saved.object for saved in (self.best, self.last) if saved}
        turns = (f"weights-{claim}-{turn}.safetensors" for turn in "abc")
        return next(name for name in turns if name not in used)

    def after(self, saved: Saved, *, samples: int, forward_samples: int, seconds: float) -> Progress:
        """The progress after a validation; of equal qualities the later state is the best."""
        best = saved if self.best is None or saved.quality >= self.best.quality else self.best
        return replace(
            self,
            samples=samples,
            forward_samples=self.forward_samples + forward_samples,
            seconds=seconds,
            qualities=(*self.qualities, saved.quality),
            best=best,
            last=saved,
        )

    def paused(self, saved: Saved, *, samples: int, seconds: float) -> Progress:
        """The progress at a stop between validations."""
        return replace(self, samples=samples, seconds=seconds, last=saved)

    def to_json(self) -> dict[str, Any]:
        """The document as stored in ``state-<claim>.json``."""
        return {
            "format": canonical.FORMAT,
            "profile": self.profile,
            "samples": self.samples,
            "forwardSamples": self.forward_samples,
            "seconds": self.seconds,
            "qualities": list(self.qualities),
            "best": self.best.to_json() if self.best else None,
            "last": self.last.to_json() if self.last else None,
        }

    @classmethod
    def from_json(cls, value: Any) -> Progress:
        """Read a stored state; raises IntegrityError where a field is missing or wrong."""
        with reading("saved state"):
            return cls(
                profile=str(value["profile"]),
                samples=count(value["samples"]),
                forward_samples=count(value["forwardSamples"]),
                seconds=real(value["seconds"]),
                qualities=tuple(map(share, value["qualities"])),
                best=_validated(value["best"]) if value["best"] is not None else None,
                last=Saved.from_json(value["last"]),  # whoever saves a state has written its weights
            )


def _validated(value: Any) -> Saved:
    """Weights that a validation found the best, so their quality is known."""
    saved = Saved.from_json(value)
    share(saved.metrics["quality"])
    return saved


@dataclass(frozen=True)
class SlotStates:
    """Saves and finds the states of one claim on one slot."""

    folder: Folder
    ref: SlotRef
    claim: int = 1

    def load(self, profile: str) -> Progress:
        """The furthest progress of any claim so far under this numeric profile, or a fresh one.

        Raises:
            IntegrityError, FormatError: a saved state is damaged, or a newer version's.
        """
        place = names.slot_place(self.ref.generation, self.ref.slot)
        claims = self.folder.listed(place, "state") if self.claim > 1 else [1]
        stored = (self._read(claim) for claim in reversed(claims) if claim <= self.claim)
        found = [progress for progress in stored if progress is not None]
        usable = [progress for progress in found if progress.profile == profile]
        return max(usable, key=lambda progress: progress.samples, default=Progress(profile=profile))

    def _read(self, claim: int) -> Progress | None:
        value = self.folder.state(self.ref, claim)
        with reading(names.slot_key(self.folder.search, self.ref.generation, self.ref.slot, f"state-{claim}.json")):
            return None if value is None else Progress.from_json(value)

    def write(self, progress: Progress, modules: Mapping[str, Module], *, name: str) -> str:
        """Write weights under `name`, which `progress` leaves free; returns their SHA-256."""
        assert name == progress.free_name(self.claim)
        data = encode_bundle(modules.values())
        self.folder.put_object(self.ref, name, data)
        return canonical.sha256(data)

    def save(self, progress: Progress) -> None:
        """Overwrite the saved progress; the weights it names are written already."""
        self.folder.put_state(self.ref, self.claim, canonical.dumps(progress.to_json()))

    def modules(self, saved: Saved) -> dict[str, Module]:
        """The modules of saved weights, optimiser state included, by id; raises IntegrityError if they are damaged."""
        return read_weights(self.folder, self.ref, saved)


def read_weights(folder: Folder, ref: SlotRef, saved: Saved) -> dict[str, Module]:
    """The modules that a slot's saved weights hold, by id; raises IntegrityError if they are damaged."""
    return decode_bundle(
        folder.object(ref, saved.object), sha256=saved.sha256, where=f"searches/{folder.search}/{saved.object}"
    )
