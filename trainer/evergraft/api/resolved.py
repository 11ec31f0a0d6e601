"""A task with every value settled: what a search runs by, and what ``search.json`` holds.

Frozen values with a JSON form: camelCase, decimals as strings, so that equal specs have equal bytes. Made by
``api.resolve``, read by strategies, the engine and the trainer. Standard library only: workers import this early.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evergraft import canonical
from evergraft.api.ladders import HYPERPARAMETERS, Scalar
from evergraft.api.reading import Fields, check_format
from evergraft.errors import SpecError

FORMATS = ("Auto", "ImageFolder", "Npz", "Parquet")
METRICS = ("Accuracy", "BalancedAccuracy", "MacroF1", "AUROC", "Top5")
CLASS_WEIGHTS = ("None", "Balanced")
VISIBILITIES = ("Public", "Private")
OPTIMIZERS = ("SGD", "AdamW")
PRECISIONS = ("Float32", "BFloat16")
FAILED_CANDIDATES = ("Fail", "Discard")


def decimal_text(value: float) -> str:
    """The shortest decimal string that reads back as `value`, an integral value without a fraction."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


@dataclass(frozen=True)
class ResolvedDataset:
    """Where the samples are and how to split them.

    `url` has a scheme or is an absolute path. `train`, `validation` and `test` read ``name`` or ``name[a%:b%]``; all
    None means 80/10/10 by hash. `max_bad_fraction` of all samples, in 0…1, may be unreadable.
    """

    url: str
    format: str = "Auto"
    class_weights: str = "None"
    max_bad_fraction: float = 0.01
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    endpoint: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "url": self.url,
            "format": self.format,
            "classWeights": self.class_weights,
            "maxBadFraction": decimal_text(self.max_bad_fraction),
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
            "endpoint": self.endpoint,
        }

    @classmethod
    def from_json(cls, value: Any, path: str = "dataset") -> ResolvedDataset:
        """Read the JSON form, found at `path`; unknown fields are left alone.

        Raises:
            SpecError: a field is missing or wrong.
        """
        fields = Fields(value, path)
        return cls(
            url=fields.text("url"),
            format=fields.text("format", allowed=FORMATS),
            class_weights=fields.text("classWeights", allowed=CLASS_WEIGHTS),
            max_bad_fraction=fields.decimal("maxBadFraction", high=1),
            train=fields.split_or_none("train"),
            validation=fields.split_or_none("validation"),
            test=fields.split_or_none("test"),
            endpoint=fields.text_or_none("endpoint"),
        )


@dataclass(frozen=True)
class Hyperparameter:
    """A hyperparameter as the spec sets it. Empty `values`: the strategy's own ladder."""

    name: str
    start: Scalar
    values: tuple[Scalar, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON form; floats are decimal strings."""
        return {"name": self.name, "start": _written(self.start), "values": [_written(v) for v in self.values]}

    @classmethod
    def from_json(cls, value: Any, path: str = "hyperparameter") -> Hyperparameter:
        """Read the JSON form; the name tells the type.

        Raises:
            SpecError: an unknown name, or a value of the wrong type or out of range.
        """
        fields = Fields(value, path)
        name = fields.text("name", allowed=tuple(HYPERPARAMETERS))
        read = HYPERPARAMETERS[name].read
        try:
            return cls(name=name, start=read(fields.raw("start")), values=tuple(map(read, fields.items("values"))))
        except ValueError as error:
            raise SpecError(f"{path} {name}: {error}") from None


def _check_parameters(strategy: str, parameters: Mapping[str, Any], *, at: str) -> None:
    if parameters:
        # Only here: the typed parameters are pydantic's, and most readers of this module need none of it.
        from evergraft.api.strategies import check_parameters

        check_parameters(strategy, parameters, at=at)


def _written(value: Scalar) -> Any:
    return decimal_text(value) if isinstance(value, float) else value


@dataclass(frozen=True)
class ResolvedSearch:
    """How to search: budget in samples, batch shape, strategy and its settings.

    `samples` are trained in all, `forward_samples` only evaluated. `optimizer` None is the strategy's own choice
    (mu2net SGD, others AdamW); `image_size` None the parent's. `dropout` and `stochastic_depth` are probabilities,
    `size_decay` and `compute_decay` factors in 0…1. `hyperparameters` are those that the spec sets; the strategy's
    own ladders hold for all others.
    """

    strategy: str
    samples: int = 20480
    forward_samples: int = 20480
    batch_size: int = 32
    validations: int = 4
    optimizer: str | None = None
    precision: str = "Float32"
    image_size: int | None = None
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    seed: int = 0
    cycles: int = 1
    size_decay: float = 1.0
    compute_decay: float = 1.0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    hyperparameters: tuple[Hyperparameter, ...] = ()
    failed_candidates: str = "Fail"
    hang_after_s: float = 600.0

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "strategy": self.strategy,
            "samples": self.samples,
            "forwardSamples": self.forward_samples,
            "batchSize": self.batch_size,
            "validations": self.validations,
            "optimizer": self.optimizer,
            "precision": self.precision,
            "imageSize": self.image_size,
            "dropout": decimal_text(self.dropout),
            "stochasticDepth": decimal_text(self.stochastic_depth),
            "seed": self.seed,
            "cycles": self.cycles,
            "sizeDecay": decimal_text(self.size_decay),
            "computeDecay": decimal_text(self.compute_decay),
            "parameters": dict(self.parameters),
            "hyperparameters": [item.to_json() for item in self.hyperparameters],
            "failedCandidates": self.failed_candidates,
            "hangAfterSeconds": decimal_text(self.hang_after_s),
        }

    @classmethod
    def from_json(cls, value: Any, path: str = "search") -> ResolvedSearch:
        """Read the JSON form, found at `path`; unknown fields are left alone.

        Raises:
            SpecError: a field is missing or wrong.
        """
        fields = Fields(value, path)
        hyperparameters = tuple(
            Hyperparameter.from_json(item, f"{path}.hyperparameters[{index}]")
            for index, item in enumerate(fields.items("hyperparameters"))
        )
        if len({item.name for item in hyperparameters}) != len(hyperparameters):
            raise SpecError(f"{path}.hyperparameters: a name stands twice")
        strategy, parameters = fields.text("strategy"), fields.mapping("parameters")
        _check_parameters(strategy, parameters, at=f"{path}.parameters")
        return cls(
            strategy=strategy,
            samples=fields.integer("samples", low=1),
            forward_samples=fields.integer("forwardSamples", low=0),
            batch_size=fields.integer("batchSize", low=1),
            validations=fields.integer("validations", low=1),
            optimizer=fields.text_or_none("optimizer", allowed=OPTIMIZERS),
            precision=fields.text("precision", allowed=PRECISIONS),
            image_size=fields.integer_or_none("imageSize", low=1),
            dropout=fields.decimal("dropout", high=1),
            stochastic_depth=fields.decimal("stochasticDepth", high=1),
            seed=fields.integer("seed", low=0),
            cycles=fields.integer("cycles", low=1),
            size_decay=fields.decimal("sizeDecay", high=1),
            compute_decay=fields.decimal("computeDecay", high=1),
            parameters=parameters,
            hyperparameters=hyperparameters,
            failed_candidates=fields.text("failedCandidates", allowed=FAILED_CANDIDATES),
            hang_after_s=fields.decimal("hangAfterSeconds"),
        )


@dataclass(frozen=True)
class ResolvedTask:
    """One task, every value settled. `task` is its id in the graph; `after` are ids that must have committed."""

    task: str
    iteration: int
    visibility: str
    metric: str
    dataset: ResolvedDataset
    search: ResolvedSearch
    search_timeout_s: float | None = None
    after: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document as it stands in ``search.json``."""
        return {
            "format": canonical.FORMAT,
            "task": self.task,
            "iteration": self.iteration,
            "visibility": self.visibility,
            "metric": self.metric,
            "dataset": self.dataset.to_json(),
            "search": self.search.to_json(),
            "searchTimeoutSeconds": None if self.search_timeout_s is None else decimal_text(self.search_timeout_s),
            "after": list(self.after),
        }

    @classmethod
    def from_json(cls, value: Any, path: str = "task") -> ResolvedTask:
        """Read a stored document, named `path` in messages; unknown fields are left alone.

        Raises:
            SpecError: a field is missing or wrong.
            FormatError: written by a newer format.
        """
        fields = Fields(check_format(value, what=path), path)
        task = fields.text("task")
        if "/" not in task:
            raise SpecError(f"{path}.task: {task!r} is no task id; one has a slash")
        return cls(
            task=task,
            iteration=fields.integer("iteration", low=1),
            visibility=fields.text("visibility", allowed=VISIBILITIES),
            metric=fields.text("metric", allowed=METRICS),
            dataset=ResolvedDataset.from_json(fields.raw("dataset"), f"{path}.dataset"),
            search=ResolvedSearch.from_json(fields.raw("search"), f"{path}.search"),
            search_timeout_s=fields.decimal_or_none("searchTimeoutSeconds"),
            after=fields.texts("after"),
        )
