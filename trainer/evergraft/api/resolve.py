"""From what a Task says to what a search runs by: every value settled, each with where it came from.

Order: Task, the ModuleGraph's taskDefaults, built-in. Done once, when a run starts; the result goes into
``search.json``. Called by the command line (`run`, `plan`) and later by the operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evergraft import canonical
from evergraft.api.fields import seconds
from evergraft.api.ladders import HYPERPARAMETERS
from evergraft.api.messages import Problem, validate
from evergraft.api.modulegraph import ModuleGraph
from evergraft.api.places import located
from evergraft.api.resolved import Hyperparameter, ResolvedDataset, ResolvedSearch, ResolvedTask
from evergraft.api.search import HyperparameterSpec, Scoring, Search
from evergraft.api.strategies import DEFAULT_STRATEGY, STRATEGIES, strategy_problems
from evergraft.api.task import Task
from evergraft.errors import SpecError

TASK = "Task"
GRAPH = "ModuleGraph taskDefaults"
BUILT_IN = "built-in"

_DEFAULTS: Mapping[str, Any] = {
    "samples": 20480,
    "batchSize": 32,
    "validations": 4,
    "optimizer": None,
    "precision": "Float32",
    "imageSize": None,
    "dropout": "0",
    "stochasticDepth": "0",
    "seed": 0,
    "cycles": 1,
    "failedCandidates": "Fail",
    "hangAfter": "10m",
}


@dataclass(frozen=True)
class Resolution:
    """A resolved task; `sources` says for each field path, such as ``search.samples``, which layer set it."""

    task: ResolvedTask
    sources: Mapping[str, str]


def resolve(task: Task, *, graph: ModuleGraph | None, base: Path) -> Resolution:
    """Settle every value of `task`; a dataset path without a scheme is taken from the folder `base`.

    Raises:
        SpecError: a value does not fit the strategy that will run, or the budget is too small for it.
    """
    layers = _Layers(task.spec.search or Search(), _graph_search(graph))
    timeouts = task.spec.timeouts
    resolved = ResolvedTask(
        task=task.id,
        iteration=task.spec.iteration,
        visibility=task.spec.visibility,
        metric=task.spec.metric,
        dataset=_dataset(task, base, layers.sources),
        search=_search(layers, task),
        search_timeout_s=seconds(timeouts.search) if timeouts and timeouts.search else None,
        after=task.spec.after,
    )
    return Resolution(task=resolved, sources=layers.sources)


def task_hash(task: Task) -> str:
    """The digest of metric, dataset and search as the Task itself writes them, schema defaults applied.

    Only this is compared between runs: platform defaults may change without making a run another one.
    """
    written = task.spec.model_dump(by_alias=True, exclude_none=True, include={"metric", "dataset", "search"})
    return canonical.digest(written)


def spec_hash(resolved: ResolvedTask) -> str:
    """The digest of everything that was resolved, for information."""
    return canonical.digest(resolved.to_json())


def _graph_search(graph: ModuleGraph | None) -> Search:
    defaults = graph.spec.task_defaults if graph is not None else None
    return (defaults.search if defaults is not None else None) or Search()


@dataclass(frozen=True)
class _Layers:
    """The two written layers of a search, and the record of which was used."""

    task: Search
    graph: Search
    sources: dict[str, str] = field(default_factory=dict)

    def pick(self, name: str, task: Any, graph: Any, built_in: Any) -> Any:
        """The highest value that is set, noted under ``search.<name>``."""
        for source, value in ((TASK, task), (GRAPH, graph)):
            if value is not None:
                self.sources[f"search.{name}"] = source
                return value
        self.sources[f"search.{name}"] = BUILT_IN
        return built_in

    def common(self, name: str, built_in: Any) -> Any:
        """Like `pick`, for a field of `Search` by its written name."""
        attribute = _ATTRIBUTES[name]
        return self.pick(name, getattr(self.task, attribute), getattr(self.graph, attribute), built_in)

    def scoring(self, name: str, attribute: str) -> float:
        """A decay of the scoring, 1 if none is set."""
        task, graph = self.task.scoring or Scoring(), self.graph.scoring or Scoring()
        return float(self.pick(f"scoring.{name}", getattr(task, attribute), getattr(graph, attribute), "1"))


_ATTRIBUTES = {info.alias or name: name for name, info in Search.model_fields.items()}


def _search(layers: _Layers, task: Task) -> ResolvedSearch:
    strategy = layers.common("strategy", DEFAULT_STRATEGY)
    # Another strategy's parameters in the graph's defaults say nothing about this one.
    if layers.graph.strategy not in (None, strategy):
        bare = layers.graph.model_copy(update={"parameters": None, "hyperparameters": None})
        layers = _Layers(layers.task, bare, layers.sources)
    _refuse(task, strategy_problems(layers.task, ("spec", "search"), strategy))
    _refuse(task, strategy_problems(layers.graph, ("ModuleGraph", "spec", "taskDefaults", "search"), strategy))
    common = {name: layers.common(name, value) for name, value in _DEFAULTS.items()}
    search = ResolvedSearch(
        strategy=strategy,
        samples=common["samples"],
        forward_samples=layers.common("forwardSamples", common["samples"]),
        batch_size=common["batchSize"],
        validations=common["validations"],
        optimizer=common["optimizer"],
        precision=common["precision"],
        image_size=common["imageSize"],
        dropout=float(common["dropout"]),
        stochastic_depth=float(common["stochasticDepth"]),
        seed=common["seed"],
        cycles=common["cycles"],
        size_decay=layers.scoring("sizeDecay", "size_decay"),
        compute_decay=layers.scoring("computeDecay", "compute_decay"),
        parameters=_parameters(layers, strategy),
        hyperparameters=_hyperparameters(layers),
        failed_candidates=common["failedCandidates"],
        hang_after_s=seconds(common["hangAfter"]),
    )
    _refuse(task, _budget_problems(search))
    return search


def _parameters(layers: _Layers, strategy: str) -> dict[str, Any]:
    task, graph = layers.task.parameters or {}, layers.graph.parameters or {}
    model, _ = validate(STRATEGIES[strategy].parameters, {**graph, **task})
    assert model is not None  # Both layers were checked.
    defaults = model.model_dump(by_alias=True, exclude_none=True)
    return {
        name: layers.pick(f"parameters.{name}", task.get(name), graph.get(name), value)
        for name, value in defaults.items()
    }


def _hyperparameters(layers: _Layers) -> tuple[Hyperparameter, ...]:
    written: dict[str, HyperparameterSpec] = {}
    for source, search in ((GRAPH, layers.graph), (TASK, layers.task)):
        for item in search.hyperparameters or ():
            written[item.name] = item
            layers.sources[f"search.hyperparameters.{item.name}"] = source
    return tuple(_hyperparameter(written[name]) for name in sorted(written))


def _hyperparameter(item: HyperparameterSpec) -> Hyperparameter:
    read = HYPERPARAMETERS[item.name].read
    return Hyperparameter(name=item.name, start=read(item.start), values=tuple(map(read, item.values or ())))


def _budget_problems(search: ResolvedSearch) -> tuple[Problem, ...]:
    candidates = STRATEGIES[search.strategy].candidates(search.parameters)
    least = candidates * search.validations * search.batch_size
    if search.samples >= least:
        return ()
    needs = f"{candidates} candidates × {search.validations} validations × batches of {search.batch_size}"
    return (Problem(("spec", "search", "samples"), f"{search.samples} is too few; {needs} need at least {least}"),)


def _dataset(task: Task, base: Path, sources: dict[str, str]) -> ResolvedDataset:
    dataset = task.spec.dataset
    if dataset.url is None:
        path = ("spec", "dataset", "persistentVolumeClaim")
        _refuse(task, (Problem(path, "a volume is there only in a cluster; on one machine give a url or path"),))
        raise AssertionError("unreachable")
    for name, value in (("classWeights", dataset.class_weights), ("maxBadFraction", dataset.max_bad_fraction)):
        sources[f"dataset.{name}"] = BUILT_IN if value is None else TASK
    splits = dataset.splits
    return ResolvedDataset(
        url=located(dataset.url, base=base),
        format=dataset.format,
        class_weights=dataset.class_weights or "None",
        max_bad_fraction=float(dataset.max_bad_fraction or "0.01"),
        train=splits.train if splits else None,
        validation=splits.validation if splits else None,
        test=splits.test if splits else None,
        endpoint=dataset.endpoint,
    )


def _refuse(task: Task, problems: tuple[Problem, ...]) -> None:
    if problems:
        raise SpecError("\n".join(f"Task {task.namespace}/{task.metadata.name}: {item}" for item in problems))
