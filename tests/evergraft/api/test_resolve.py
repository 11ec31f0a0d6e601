"""Values come from Task, then the graph's defaults, then built-in; the resolved task has one JSON form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evergraft import canonical
from evergraft.api.check import check
from evergraft.api.ladders import HYPERPARAMETERS
from evergraft.api.modulegraph import ModuleGraph
from evergraft.api.resolve import Resolution, resolve, spec_hash, task_hash
from evergraft.api.resolved import (
    Hyperparameter,
    ResolvedDataset,
    ResolvedSearch,
    ResolvedTask,
    decimal_text,
)
from evergraft.api.task import Task
from evergraft.errors import FormatError, SpecError

BASE = Path("/tasks")


def task_of(search: dict[str, Any] | None = None, **spec: Any) -> Task:
    spec = {"dataset": {"url": "photos/birds"}, **spec}
    if search is not None:
        spec["search"] = search
    value, problems = check(
        {"apiVersion": "evergraft.dev/v1alpha1", "kind": "Task", "metadata": {"name": "birds"}, "spec": spec}
    )
    assert isinstance(value, Task), problems
    return value


def graph_of(search: dict[str, Any]) -> ModuleGraph:
    spec = {"root": {"backbone": "vit", "seed": 0}, "taskDefaults": {"search": search}}
    value, problems = check(
        {"apiVersion": "evergraft.dev/v1alpha1", "kind": "ModuleGraph", "metadata": {"name": "g"}, "spec": spec}
    )
    assert isinstance(value, ModuleGraph), problems
    return value


def resolved(search: dict[str, Any] | None = None, graph: dict[str, Any] | None = None, **spec: Any) -> Resolution:
    return resolve(task_of(search, **spec), graph=None if graph is None else graph_of(graph), base=BASE)


def test_the_shortest_task_runs_by_the_built_in_values() -> None:
    result = resolved()
    assert result.task == ResolvedTask(
        task="default/birds",
        iteration=1,
        visibility="Public",
        metric="Accuracy",
        dataset=ResolvedDataset(url="/tasks/photos/birds"),
        search=ResolvedSearch(
            strategy="graft", parameters={"rank": 16, "wide": False, "guard": 25, "parent": "newest"}
        ),
    )
    assert set(result.sources.values()) == {"built-in"}


def test_the_task_wins_over_the_graph_and_the_graph_over_built_in() -> None:
    result = resolved(
        {"strategy": "mu2net", "samples": 4096, "parameters": {"generations": 2}, "scoring": {"sizeDecay": "0.9"}},
        {
            "strategy": "mu2net",
            "samples": 1,
            "seed": 5,
            "parameters": {"generations": 9, "candidates": 2},
            "scoring": {"computeDecay": "0.8"},
        },
    )
    search = result.task.search
    assert (search.samples, search.seed, search.batch_size) == (4096, 5, 32)
    assert search.parameters == {"generations": 2, "candidates": 2}
    assert (search.size_decay, search.compute_decay) == (0.9, 0.8)
    assert {name: source for name, source in result.sources.items() if source != "built-in"} == {
        "search.strategy": "Task",
        "search.samples": "Task",
        "search.seed": "ModuleGraph taskDefaults",
        "search.parameters.generations": "Task",
        "search.parameters.candidates": "ModuleGraph taskDefaults",
        "search.scoring.sizeDecay": "Task",
        "search.scoring.computeDecay": "ModuleGraph taskDefaults",
    }


def test_forward_samples_follow_the_samples() -> None:
    assert resolved({"samples": 5000, "strategy": "linear"}).task.search.forward_samples == 5000
    assert resolved({"forwardSamples": 0}).task.search.forward_samples == 0


def test_hyperparameters_merge_by_name_and_become_numbers() -> None:
    result = resolved(
        {
            "strategy": "mu2net",
            "hyperparameters": [{"name": "momentum", "start": "0.8"}, {"name": "crop", "start": "false"}],
        },
        {
            "strategy": "mu2net",
            "hyperparameters": [
                {"name": "momentum", "start": "0.5"},
                {"name": "adapterWidth", "start": 8, "values": [8, 16]},
            ],
        },
    )
    assert result.task.search.hyperparameters == (
        Hyperparameter("adapterWidth", 8, (8, 16)),
        Hyperparameter("crop", False),
        Hyperparameter("momentum", 0.8),
    )
    assert result.sources["search.hyperparameters.adapterWidth"] == "ModuleGraph taskDefaults"
    assert result.sources["search.hyperparameters.momentum"] == "Task"


def test_another_strategys_settings_in_the_graph_do_not_count() -> None:
    graph = {
        "strategy": "mu2net",
        "samples": 4096,
        "parameters": {"generations": 2},
        "hyperparameters": [{"name": "mutationRate", "start": "0.3"}],
    }
    search = resolved({"strategy": "lora", "parameters": {"rank": 4}}, graph).task.search
    assert (search.strategy, search.samples, search.parameters, search.hyperparameters) == (
        "lora",
        4096,
        {"parent": "newest", "rank": 4},
        (),
    )


def test_settings_that_do_not_fit_the_strategy_that_will_run_are_refused() -> None:
    with pytest.raises(SpecError, match=r"Task default/birds: spec.search.parameters.candidates: unknown field"):
        resolved({"parameters": {"candidates": 4}})
    with pytest.raises(SpecError, match=r"ModuleGraph.spec.taskDefaults.search.parameters.candidates: unknown field"):
        resolved({}, {"parameters": {"candidates": 4}})


def test_a_budget_under_one_batch_a_validation_names_samples() -> None:
    with pytest.raises(
        SpecError, match=r"spec.search.samples: 4095 is too few; 32 candidates × 4 validations"
    ) as caught:
        resolved({"samples": 4095, "strategy": "mu2net"})
    assert str(caught.value).endswith("need at least 4096")
    assert resolved({"samples": 4096, "strategy": "mu2net"}).task.search.samples == 4096
    assert resolved({"samples": 128, "strategy": "finetune"}).task.search.samples == 128


def test_a_volume_has_no_place_on_one_machine() -> None:
    with pytest.raises(SpecError, match=r"spec.dataset.persistentVolumeClaim: a volume is there only in a cluster"):
        resolved(dataset={"persistentVolumeClaim": {"claimName": "c"}})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("gs://b/d", "gs://b/d"),
        ("/abs/d", "/abs/d"),
        ("file:///abs/d", "file:///abs/d"),
        ("../d/./e", "/d/e"),
        ("memory://d", "memory://d"),
    ],
)
def test_a_dataset_path_is_taken_from_the_manifests_folder(written: str, read: str) -> None:
    assert resolved(dataset={"url": written}).task.dataset.url == read


def test_a_full_task_resolves_to_what_it_says(full_task: str) -> None:
    value, _ = check(yaml.safe_load(full_task))
    assert isinstance(value, Task)
    task = resolve(value, graph=None, base=BASE).task
    assert task.after == ("vision/svhn",)
    assert task.search_timeout_s == 12 * 3600
    assert task.search.hang_after_s == 300
    assert (task.search.dropout, task.search.stochastic_depth, task.search.cycles) == (0.1, 0.05, 2)
    assert task.dataset == ResolvedDataset(
        url="gs://acme-data/cifar10/",
        max_bad_fraction=0.02,
        train="train",
        validation="train[90%:]",
        test="test",
        endpoint="https://minio.acme",
    )


def test_the_task_hash_covers_what_the_task_writes_and_no_more() -> None:
    plain = task_of({"samples": 5000})
    # The very digest is stored in every graph: it must never change for a given Task.
    assert task_hash(plain) == canonical.digest(
        {"metric": "Accuracy", "dataset": {"url": "photos/birds", "format": "Auto"}, "search": {"samples": 5000}}
    )
    same = task_of({"samples": 5000}, metric="Accuracy", iteration=3, visibility="Private", workers={"replicas": 2})
    assert task_hash(same) == task_hash(plain)
    assert task_hash(task_of()) != task_hash(task_of({}))
    assert task_hash(task_of({"samples": 5000}, metric="Top5")) != task_hash(plain)


def test_the_spec_hash_sees_the_graphs_defaults_the_task_hash_does_not() -> None:
    one, other = resolved({}), resolved({}, {"seed": 1})
    assert spec_hash(one.task) != spec_hash(other.task)


SCALARS = st.one_of(st.floats(0.001, 0.99), st.just(0.5))


@st.composite
def hyperparameters(draw: st.DrawFn) -> Hyperparameter:
    name = draw(st.sampled_from(sorted(HYPERPARAMETERS)))
    kind = HYPERPARAMETERS[name]
    values: Any = {
        "decimal": st.floats(max(kind.low, 0), kind.high),
        "integer": st.integers(1, 1024),
        "boolean": st.booleans(),
        "choice": st.sampled_from(kind.choices or ("x",)),
    }[kind.type]
    return Hyperparameter(name, draw(values), tuple(draw(st.lists(values, max_size=3))))


TASKS = st.builds(
    ResolvedTask,
    task=st.just("a/b"),
    iteration=st.integers(1, 9),
    visibility=st.sampled_from(["Public", "Private"]),
    metric=st.sampled_from(["Accuracy", "Top5"]),
    dataset=st.builds(
        ResolvedDataset,
        url=st.text(),
        max_bad_fraction=st.floats(0, 1),
        train=st.none() | st.just("train[10%:]"),
        endpoint=st.none() | st.text(),
    ),
    search=st.builds(
        ResolvedSearch,
        strategy=st.text(),
        dropout=st.floats(0, 1),
        hang_after_s=st.floats(0, 1e9),
        parameters=st.dictionaries(st.text(), st.integers()),
        hyperparameters=st.lists(hyperparameters(), unique_by=lambda item: item.name, max_size=4).map(tuple),
    ),
    search_timeout_s=st.none() | st.floats(0, 1e9),
    after=st.lists(st.text()).map(tuple),
)


@given(TASKS)
def test_the_json_form_reads_back_as_the_same_value(task: ResolvedTask) -> None:
    read = ResolvedTask.from_json(json.loads(canonical.dumps(task.to_json())))
    assert read == task
    assert spec_hash(read) == spec_hash(task)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_decimal_text_reads_back_as_the_same_number(value: float) -> None:
    assert float(decimal_text(value)) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += _paths(item, (*path, key))
    return found


FULL = ResolvedTask(
    task="a/b",
    iteration=1,
    visibility="Public",
    metric="Accuracy",
    dataset=ResolvedDataset(url="/d", train="train", validation="train[90%:]"),
    search=ResolvedSearch(strategy="mu2net", hyperparameters=(Hyperparameter("learningRate", 0.1, (0.1, 0.2)),)),
).to_json()


@given(st.sampled_from(_paths(FULL)), JSON)
def test_a_stored_task_that_is_wrong_anywhere_is_refused_with_our_own_errors(path: tuple[Any, ...], junk: Any) -> None:
    value = json.loads(json.dumps(FULL))
    if path:
        node = value
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = junk
    else:
        value = junk
    try:
        read = ResolvedTask.from_json(value)
    except (SpecError, FormatError):
        return
    # What was accepted is of the right types, since it has a JSON form of its own.
    assert ResolvedTask.from_json(read.to_json()) == read


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("search", "samples"), "many", r'^task.search.samples: expected an integer of at least 1, got "many"$'),
        (("search", "batchSize"), 0, r"task.search.batchSize: expected an integer of at least 1, got 0"),
        (("search", "dropout"), 0.1, r"task.search.dropout: expected a decimal string"),
        (("search", "dropout"), "nan", r"task.search.dropout: expected a decimal string"),
        (("dataset", "train"), "../x", r'task.dataset.train: "../x" is no split'),
        (("dataset", "format"), "Pickle", r"task.dataset.format: expected one of Auto, ImageFolder, Npz, Parquet"),
        (("search", "parameters"), {"generations": "many"}, r"task.search.parameters.generations: expected an integer"),
        (("search", "parameters"), {"rank": 1}, r"task.search.parameters.rank: unknown field"),
        (("task",), "root", r"task.task: 'root' is no task id"),
    ],
)
def test_a_wrong_stored_field_is_named(path: tuple[str, ...], value: Any, expected: str) -> None:
    stored = json.loads(json.dumps(FULL))
    node = stored
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    with pytest.raises(SpecError, match=expected):
        ResolvedTask.from_json(stored)


def test_a_missing_stored_field_is_named() -> None:
    stored = {name: item for name, item in FULL.items() if name != "metric"}
    with pytest.raises(SpecError, match=r"^task.metric: missing$"):
        ResolvedTask.from_json(stored)


def test_a_newer_format_says_what_to_install() -> None:
    with pytest.raises(FormatError, match="install a version that reads format 2"):
        ResolvedTask.from_json({**FULL, "format": 2})


def test_unknown_fields_of_a_known_format_are_left_alone() -> None:
    assert ResolvedTask.from_json({**FULL, "later": 1}) == ResolvedTask.from_json(FULL)


def test_workers_read_resolved_tasks_without_pydantic() -> None:
    code = "import sys, evergraft.api.resolved, evergraft.api.splits; sys.exit('pydantic' in sys.modules)"
    source = Path(sys.modules["evergraft"].__file__ or "").parents[1]
    run = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(source)}, check=False)
    assert run.returncode == 0
