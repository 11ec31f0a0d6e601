"""A route: the ordered layers that solve one task, and everything worth knowing about how they came to be.

`Route` is the stored document. `RouteSummary` is what planning needs of it; it travels in commits and checkpoints,
so that planning a search reads no route documents. Both are values with a JSON form. Called by the store, the
search and the trainer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from evergraft import canonical, names
from evergraft.errors import FormatError, IntegrityError
from evergraft.graph.transfer import Transfer

HEAD = "head"
"""The kind of the layer that knows a task's labels."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A module that changes one layer: its kind (`lora`, `norm`, `bias`, `adapter`), id and parameter count."""

    kind: str
    module: str
    parameters: int

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"kind": self.kind, "module": self.module, "parameters": self.parameters}


@dataclass(frozen=True, slots=True)
class Layer:
    """One step of a route. `parameters` counts the module's own; deltas, oldest first, carry theirs."""

    name: str
    kind: str
    module: str
    parameters: int
    deltas: tuple[Delta, ...] = ()

    def modules(self) -> Iterator[tuple[str, int]]:
        """(module id, parameters) of the layer's module and of each of its deltas."""
        yield self.module, self.parameters
        for delta in self.deltas:
            yield delta.module, delta.parameters

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.name,
            "kind": self.kind,
            "module": self.module,
            "parameters": self.parameters,
            "deltas": [delta.to_json() for delta in self.deltas],
        }


@dataclass(frozen=True)
class RouteSummary:
    """What planning needs of a committed route.

    `quality` is the validation metric in 0…1, None for a root. `parameters` counts all of the route's, `flops` the
    operations of one image forward, `lineage_samples` the training samples of the route and its ancestors together.
    `depth` is the number of steps from the root: 0 for a root. `score` is what it reached when it landed, for people:
    planning computes scores anew. `transfer` is what the root alone reaches on the task, None where nobody measured.
    `basis` digests what `quality` was measured on (data, labels, metric, image size, root): it says nothing under
    another. None for a root, and for routes written before it was kept.
    """

    id: str
    task: str
    parent: str | None
    parent_task: str | None
    layers: tuple[Layer, ...]
    parameters: int
    added: int
    flops: int
    quality: float | None
    samples: int
    lineage_samples: int
    depth: int
    hyperparameters: Mapping[str, Any]
    visibility: str = "Public"
    score: float | None = None
    transfer: Transfer | None = None
    basis: str | None = None

    @property
    def over_linear_probe(self) -> float | None:
        """Quality minus that of a linear probe of the root, in -1…1; below 0 is negative transfer. None: unmeasured."""
        probe = self.transfer.linear_probe if self.transfer is not None else None
        return None if probe is None or self.quality is None else self.quality - probe.quality

    @property
    def is_root(self) -> bool:
        """Whether this is the route that the graph started from."""
        return self.task == names.ROOT_TASK

    def module_ids(self) -> tuple[str, ...]:
        """Every module the route reads, deltas included, in order."""
        return tuple(module for layer in self.layers for module, _ in layer.modules())

    def to_json(self) -> dict[str, Any]:
        """The JSON form, as it stands in commits and checkpoint shards."""
        return {
            "id": self.id,
            "task": self.task,
            "parent": self.parent,
            "parentTask": self.parent_task,
            "layers": [layer.to_json() for layer in self.layers],
            "parameters": self.parameters,
            "added": self.added,
            "flops": self.flops,
            "quality": self.quality,
            "samples": self.samples,
            "lineageSamples": self.lineage_samples,
            "depth": self.depth,
            "hyperparameters": dict(self.hyperparameters),
            "visibility": self.visibility,
            **({} if self.score is None else {"score": self.score}),
            **({} if self.transfer is None else {"transfer": self.transfer.to_json()}),
            **({} if self.basis is None else {"basis": self.basis}),
        }

    @classmethod
    def from_json(cls, value: Any) -> RouteSummary:
        """Read the JSON form; unknown fields are left alone.

        Raises:
            IntegrityError: a field is missing or of the wrong type.
        """
        with reading("route summary"):
            return cls(
                id=content_id(value["id"]),
                task=_text(value["task"]),
                parent=None if value["parent"] is None else content_id(value["parent"]),
                parent_task=None if value["parentTask"] is None else _text(value["parentTask"]),
                layers=layers_from_json(value["layers"]),
                parameters=count(value["parameters"]),
                added=count(value["added"]),
                flops=count(value["flops"]),
                quality=None if value["quality"] is None else real(value["quality"]),
                samples=count(value["samples"]),
                lineage_samples=count(value["lineageSamples"]),
                depth=count(value["depth"]),
                hyperparameters=dict(value["hyperparameters"]),
                visibility=_text(value["visibility"]),
                score=None if value.get("score") is None else real(value["score"]),
                transfer=None if value.get("transfer") is None else Transfer.from_json(value["transfer"]),
                basis=None if value.get("basis") is None else _text(value["basis"]),
            )


@dataclass(frozen=True)
class Route:
    """The stored route document.

    `preprocessing` and `golden` are the trainer's JSON; `metrics` holds quality, score, testQuality, logLoss and
    confusion (a table of counts; above 100 labels the [row, column, count] of its cells); `parameters` holds
    total, added and accounted. `transfer` says what was measured about parents, why this one was chosen, and in its
    `ledger` what the root alone reaches.
    """

    task: str
    search: str
    parent: str | None
    generation: int
    slot: int
    layers: tuple[Layer, ...]
    labels: tuple[str, ...]
    preprocessing: Mapping[str, Any]
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    mutations: tuple[Any, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    flops: int = 0
    samples_seen: int = 0
    seconds: float = 0.0
    profile: Mapping[str, Any] = field(default_factory=dict)
    golden: Mapping[str, Any] = field(default_factory=dict)
    transfer: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The document as stored."""
        return {
            "format": canonical.FORMAT,
            "task": self.task,
            "search": self.search,
            "parent": self.parent,
            "generation": self.generation,
            "slot": self.slot,
            "layers": [layer.to_json() for layer in self.layers],
            "labels": list(self.labels),
            "preprocessing": dict(self.preprocessing),
            "hyperparameters": dict(self.hyperparameters),
            "mutations": list(self.mutations),
            "metrics": dict(self.metrics),
            "parameters": dict(self.parameters),
            "flops": self.flops,
            "samplesSeen": self.samples_seen,
            "seconds": self.seconds,
            "profile": dict(self.profile),
            "golden": dict(self.golden),
            "transfer": dict(self.transfer),
        }

    @classmethod
    def from_json(cls, value: Any) -> Route:
        """Read a stored document; unknown fields are left alone.

        Raises:
            FormatError: written by a newer format.
            IntegrityError: a field is missing or of the wrong type.
        """
        check_format(value, what="route")
        with reading("route"):
            return cls(
                task=_text(value["task"]),
                search=_text(value["search"]),
                parent=None if value["parent"] is None else content_id(value["parent"]),
                generation=count(value["generation"]),
                slot=count(value["slot"]),
                layers=layers_from_json(value["layers"]),
                labels=tuple(_text(label) for label in value["labels"]),
                preprocessing=dict(value["preprocessing"]),
                hyperparameters=dict(value["hyperparameters"]),
                mutations=tuple(value["mutations"]),
                metrics=dict(value["metrics"]),
                parameters=dict(value["parameters"]),
                flops=count(value["flops"]),
                samples_seen=count(value["samplesSeen"]),
                seconds=real(value["seconds"]),
                profile=dict(value["profile"]),
                golden=dict(value["golden"]),
                transfer=dict(value["transfer"]),
            )

    def encode(self) -> bytes:
        """The canonical bytes; their SHA-256 is the route's id."""
        return canonical.dumps(self.to_json())


def layers_digest(layers: tuple[Layer, ...]) -> str:
    """The digest that names what a route computes; golden inputs are made from it."""
    return canonical.digest([layer.to_json() for layer in layers])


def layers_from_json(value: Any) -> tuple[Layer, ...]:
    """Read layers; names must differ.

    Raises:
        IntegrityError: no list of layers, or a name stands twice.
    """
    with reading("layers"):
        layers = tuple(
            Layer(
                name=_text(item["name"]),
                kind=_text(item["kind"]),
                module=content_id(item["module"]),
                parameters=count(item["parameters"]),
                deltas=tuple(
                    Delta(kind=_text(d["kind"]), module=content_id(d["module"]), parameters=count(d["parameters"]))
                    for d in item["deltas"]
                ),
            )
            for item in value
        )
    if len({layer.name for layer in layers}) != len(layers):
        raise IntegrityError("layers: a name stands twice in one route")
    return layers


def check_format(value: Any, *, what: str) -> None:
    """Refuse what is no JSON object of a format this version reads.

    Raises:
        IntegrityError: no object, or no format number.
        FormatError: a newer format.
    """
    if not isinstance(value, dict) or not isinstance(value.get("format"), int):
        raise IntegrityError(f"{what}: not a document of this project (no format number)")
    if value["format"] > canonical.FORMAT:
        raise FormatError(canonical.newer(value["format"], what=what))


MISSHAPEN = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""What taking apart JSON of another shape than expected may raise."""


class reading:  # noqa: N801 - reads as a statement: with reading("route"): …
    """Turn the KeyError, TypeError, … of untrusted JSON into an IntegrityError that names the document.

    What is read inside names its own part, so `what` is put before that: the outermost names the document's key.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MISSHAPEN):
            raise IntegrityError(f"{self._what}: missing or wrong field: {error!r}") from None
        if isinstance(error, (IntegrityError, FormatError)) and not str(error).startswith(self._what):
            raise type(error)(f"{self._what}: {error}") from error.__cause__


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r:.60}")
    return value


def content_id(value: Any) -> str:
    """The value itself, once it is known to be a content id.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not names.is_id(value):
        raise ValueError(f"expected a content id, got {value!r:.80}")
    return value


def count(value: Any) -> int:
    """The value itself, once it is known to count something; sums of counts stay far from what floats cannot hold.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError(f"expected a number of something, got {value!r:.60}")
    return value


def real(value: Any) -> float:
    """The value as a finite float; JSON has no others, but the text of one would pass for it.

    Raises:
        ValueError, TypeError, OverflowError: it is none.
    """
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, got {value!r:.60}")
    return number
