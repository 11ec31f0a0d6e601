"""Each field's form, the rules between fields, and what may not change, as a table of one change to a good document."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from evergraft.api.check import check
from evergraft.api.messages import model_in
from evergraft.api.modulegraph import ModuleGraph
from evergraft.api.rules import cluster_problems, ignored_locally, transition_problems
from evergraft.api.task import Task


def changed(value: dict[str, Any], path: str, new: Any) -> dict[str, Any]:
    """A copy of `value` with the field at `path` set; missing objects are made."""
    result = copy.deepcopy(value)
    *parents, last = path.split(".")
    node = result
    for step in parents:
        node = node.setdefault(step, {})
    node[last] = new
    return result


@pytest.fixture
def task(full_task: str) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load(full_task)
    return value


@pytest.fixture
def graph(full_graph: str) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load(full_graph)
    return value


WRONG_TASKS: list[tuple[str, Any, str]] = [
    ("metadata.name", "a" * 49, "metadata.name: must have at most 48 characters"),
    ("metadata.name", "Upper", 'metadata.name: "Upper" is not allowed; expected lower-case letters'),
    ("metadata.name", "a.b", "metadata.name: "),
    ("spec.taskID", "noslash", "spec.taskID: "),
    ("spec.taskID", "a/../b", "spec.taskID: "),
    ("spec.taskID", "/a", "spec.taskID: "),
    ("spec.iteration", 0, "spec.iteration: must be at least 1, got 0"),
    ("spec.iteration", True, "spec.iteration: expected an integer, got true"),
    ("spec.suspend", "yes", 'spec.suspend: expected true or false, got the string "yes"'),
    ("spec.visibility", "public", 'spec.visibility: "public" is not allowed; did you mean Public?'),
    ("spec.deletionPolicy", "Keep", "spec.deletionPolicy: "),
    ("spec.after", ["svhn"], "spec.after[0]: "),
    ("spec.after", ["vision/cifar10"], "spec.after[0]: vision/cifar10 is this task itself"),
    ("spec.dataset", {}, "spec.dataset: give url or persistentVolumeClaim"),
    ("spec.dataset.persistentVolumeClaim", {"claimName": "c"}, "spec.dataset: give only one of url or persistent"),
    ("spec.dataset", {"persistentVolumeClaim": {"claimName": "c", "path": "/abs"}}, ".path: "),
    ("spec.dataset", {"persistentVolumeClaim": {"claimName": "c", "path": "a/../b"}}, ".path: a path inside"),
    ("spec.dataset", {"persistentVolumeClaim": {"claimName": "c"}, "secretRef": {"name": "a"}}, "secretRef belong to"),
    ("spec.dataset", {"url": "gs://b/d", "endpoint": "https://e"}, "spec.dataset: endpoint needs a secretRef"),
    ("spec.dataset.url", "s3://key:secret@bucket/x", "spec.dataset.url: a URL here carries no user info"),
    ("spec.dataset.url", "gs://b/d?X-Goog-Signature=abc", "spec.dataset.url: a URL here carries no query"),
    ("spec.dataset.url", "https://host/d", "spec.dataset.url: https:// is not supported; write gs://, s3://"),
    ("spec.dataset.url", "gs:///d", "spec.dataset.url: names no bucket"),
    ("spec.dataset.url", "file://data/d", "spec.dataset.url: a file URL has three slashes"),
    ("spec.dataset.url", "~/d", "spec.dataset.url: ~ is not expanded"),
    ("spec.dataset.url", "a\nb", "spec.dataset.url: a URL holds no control characters"),
    ("spec.dataset.url", "", "spec.dataset.url: must not be empty"),
    ("spec.dataset.endpoint", "ftp://e", "spec.dataset.endpoint: "),
    ("spec.dataset.caBundle", {}, "spec.dataset.caBundle.configMapKeyRef: required, but missing"),
    ("spec.dataset.format", "imagefolder", "did you mean ImageFolder?"),
    ("spec.dataset.maxBadFraction", 0.01, 'maxBadFraction: decimals are strings: quote it, "0.01"'),
    ("spec.dataset.maxBadFraction", "1.5", 'maxBadFraction: "1.5" is out of range; must be at least 0 and at most 1'),
    ("spec.dataset.maxBadFraction", "1%", 'maxBadFraction: "1%" is not allowed; expected a quoted decimal'),
    ("spec.dataset.splits", {"train": "train"}, "spec.dataset.splits.validation: required, but missing"),
    ("spec.dataset.splits.train", "train[50%:50%]", "an empty part"),
    ("spec.dataset.splits.train", "train[50%:101%]", "an empty part"),
    ("spec.dataset.splits.train", "../train", "expected a split's name or a part"),
    ("spec.dataset.splits.train", "train[5:9]", "expected a split's name or a part"),
    ("spec.search.strategy", "mu2ent", 'spec.search.strategy: "mu2ent" is not known; did you mean mu2net? known: '),
    ("spec.search.samples", 0, "spec.search.samples: must be at least 1, got 0"),
    ("spec.search.samples", 1.5, "spec.search.samples: expected an integer, got the number 1.5"),
    ("spec.search.seed", -1, "spec.search.seed: must be at least 0, got -1"),
    ("spec.search.dropout", "1", "spec.search.dropout: "),
    ("spec.search.scoring.sizeDecay", "0", "sizeDecay: "),
    ("spec.search.scoring.sizeDecay", 1, 'sizeDecay: decimals are strings: quote it, "1"'),
    ("spec.search.hangAfter", "1d", 'spec.search.hangAfter: "1d" is not allowed; expected a duration such as 24h'),
    ("spec.search.hangAfter", "0s", "must be longer than 0s"),
    ("spec.search.hangAfter", 600, "spec.search.hangAfter: write a duration such as 24h"),
    ("spec.search.optimizer", "Adam", "did you mean AdamW?"),
    ("spec.search.parameters", {"generation": 3}, "parameters.generation: unknown field; did you mean generations?"),
    ("spec.search.parameters", {"candidates": 0}, "spec.search.parameters.candidates: must be at least 1, got 0"),
    ("spec.timeouts.search", "soon", "spec.timeouts.search: "),
    ("spec.workers.replicas", 1001, "spec.workers.replicas: must be at most 1000, got 1001"),
    ("spec.workers.accelerator", {"type": "TPU"}, "spec.workers.accelerator: type TPU needs tpu"),
    ("spec.workers.accelerator", {"type": "CPU", "resourceName": "a.b/c"}, "resourceName belongs to type GPU"),
    ("spec.workers.resources.requests", {"memory": "16GB"}, "requests.memory: "),
    ("spec.workers.resources.requests", {"cpu": 0.5}, "requests.cpu: quantities are strings or whole numbers: quote"),
    ("spec.workers.podTemplate", {"hostNetwork": True}, "podTemplate.hostNetwork: unknown field"),
    ("metadata.namspace", "x", "metadata.namspace: unknown field; did you mean namespace?"),
]


@pytest.mark.parametrize(("path", "new", "expected"), WRONG_TASKS)
def test_a_wrong_task_says_where_and_what(task: dict[str, Any], path: str, new: Any, expected: str) -> None:
    assert check(task)[1] == ()
    _, problems = check(changed(task, path, new))
    assert len(problems) == 1
    assert expected in str(problems[0])


TPU = {"accelerator": "tpu-v6e-slice", "topology": "2x2"}


@pytest.mark.parametrize(
    ("accelerator", "expected"),
    [
        ({"type": "TPU", "count": 4, "tpu": TPU}, None),
        ({"type": "TPU", "count": 8, "tpu": TPU}, "topology 2x2 is not 8 chips"),
        ({"type": "GPU", "tpu": TPU}, "tpu belongs to type TPU, not to GPU"),
        ({}, None),
    ],
)
def test_a_tpu_slice_is_one_host(task: dict[str, Any], accelerator: dict[str, Any], expected: str | None) -> None:
    _, problems = check(changed(task, "spec.workers.accelerator", accelerator))
    assert [str(problem).partition(": ")[2].partition(";")[0] for problem in problems] == (
        [expected] if expected else []
    )


WRONG_HYPERPARAMETERS: list[tuple[dict[str, Any], str]] = [
    ({"name": "learningRte", "start": "0.1"}, '[0].name: "learningRte" is no hyperparameter of mu2net; did you mean'),
    ({"name": "learningRate", "start": 0.1}, '[0].start: decimals are strings: quote it, "0.1"'),
    ({"name": "learningRate", "start": "fast"}, '[0].start: expected a quoted decimal from 1e-08 to 10, got "fast"'),
    ({"name": "learningRate", "start": "0.1", "values": ["0.1", "99"]}, "[0].values[1]: 99 is not allowed"),
    ({"name": "learningRate", "start": "0.1", "values": ["0.2"]}, "[0].start: must be one of values"),
    ({"name": "learningRate", "start": "0.1", "values": ["0.1", "0.10"]}, "[0].values: a value stands twice"),
    ({"name": "learningRate", "start": "0.1", "values": []}, "[0].values: too few items; at least 1"),
    ({"name": "crop", "start": "maybe"}, '[0].start: expected true or false, got "maybe"'),
    ({"name": "numLayers", "start": "1.5"}, "[0].start: expected an integer from 1 to 1024"),
    ({"name": "schedule", "start": "linear"}, "[0].start: expected one of cosine, constant, restarts"),
    ({"name": "crop"}, "[0].start: required, but missing"),
]


@pytest.mark.parametrize(("item", "expected"), WRONG_HYPERPARAMETERS)
def test_a_wrong_hyperparameter_is_told(task: dict[str, Any], item: dict[str, Any], expected: str) -> None:
    _, problems = check(changed(task, "spec.search.hyperparameters", [item]))
    assert [expected in str(problem) for problem in problems] == [True], problems


def test_a_hyperparameter_stands_once(task: dict[str, Any]) -> None:
    twice = [{"name": "crop", "start": True}] * 2
    _, problems = check(changed(task, "spec.search.hyperparameters", twice))
    assert "crop stands twice" in str(problems[0])


def test_mutation_belongs_to_mu2net_alone(task: dict[str, Any]) -> None:
    search = {"strategy": "lora", "hyperparameters": [{"name": "mutationRate", "start": "0.2"}]}
    _, problems = check(changed(task, "spec.search", search))
    assert '"mutationRate" is no hyperparameter of lora' in str(problems[0])


def test_no_message_repeats_a_secret(task: dict[str, Any]) -> None:
    for path in ("spec.dataset.url", "spec.dataset.endpoint"):
        for url in ("https://me:hunter2@host/x", "s3://me:hunter2@host/x", "gs://b/x?sig=hunter2"):
            _, problems = check(changed(task, path, url))
            assert problems
            assert "hunter2" not in "".join(map(str, problems))


WRONG_GRAPHS: list[tuple[str, Any, str]] = [
    ("spec.store", {"persistentVolumeClaim": {"claimName": "c"}}, "serves its own namespace only"),
    ("spec.allowedNamespaces", {"from": "All", "selector": {}}, "give selector with from: Selector"),
    ("spec.allowedNamespaces", {"from": "Selector"}, "give selector with from: Selector"),
    ("spec.maintenance.schedule", "nightly", "expected a cron schedule"),
    ("spec.taskDefaults.search", {"strategy": "x"}, "spec.taskDefaults.search.strategy: "),
    ("spec.taskDefaults.metric", "Top5", "spec.taskDefaults.metric: unknown field"),
    ("spec.root.weights", {"url": "w", "sha256": "a" * 64}, "spec.root: give only one of seed or weights"),
]


@pytest.mark.parametrize(("path", "new", "expected"), WRONG_GRAPHS)
def test_a_wrong_graph_says_where_and_what(graph: dict[str, Any], path: str, new: Any, expected: str) -> None:
    assert check(graph)[1] == ()
    _, problems = check(changed(graph, path, new))
    assert [expected in str(problem) for problem in problems] == [True], problems


def test_a_field_written_as_nothing_is_not_written(task: dict[str, Any]) -> None:
    value, problems = check(changed(changed(task, "spec.search", None), "spec.metric", None))
    assert problems == ()
    assert isinstance(value, Task)
    assert value.spec.search is None
    assert value.spec.metric == "Accuracy"


def as_task(value: dict[str, Any]) -> Task:
    result, problems = check(value)
    assert isinstance(result, Task), problems
    return result


def as_graph(value: dict[str, Any]) -> ModuleGraph:
    result, problems = check(value)
    assert isinstance(result, ModuleGraph), problems
    return result


@pytest.mark.parametrize(
    ("path", "new", "expected"),
    [
        ("spec.graphRef.name", "other", ["spec.graphRef"]),
        ("spec.taskID", "a/b", ["spec.taskID"]),
        ("spec.taskID", None, ["spec.taskID"]),
        ("spec.visibility", "Private", ["spec.visibility"]),
        ("spec.iteration", 4, ["spec.iteration"]),
        ("spec.metric", "Top5", ["spec.metric"]),
        ("spec.dataset.format", "Npz", ["spec.dataset"]),
        ("spec.search", None, ["spec.search"]),
        ("spec.search.samples", 7, ["spec.search"]),
        ("spec.workers.replicas", 9, []),
        ("spec.suspend", True, []),
        ("spec.timeouts", None, []),
    ],
)
def test_what_may_change_in_a_task(task: dict[str, Any], path: str, new: Any, expected: list[str]) -> None:
    old = changed(task, "spec.iteration", 5)
    problems = transition_problems(as_task(old), as_task(changed(old, path, new)))
    assert [str(problem).split(":", maxsplit=1)[0] for problem in problems] == expected


def test_a_higher_iteration_may_change_what_is_searched(task: dict[str, Any]) -> None:
    new = changed(changed(task, "spec.iteration", 2), "spec.metric", "Top5")
    assert transition_problems(as_task(task), as_task(new)) == ()


@pytest.mark.parametrize(
    ("path", "new", "expected"),
    [
        ("spec.store.url", "gs://b/other", "spec.store.url: immutable"),
        ("spec.root.seed", 1, "spec.root: immutable"),
        ("spec.store.secretRef", {"name": "rotated"}, None),
        ("spec.maintenance", None, None),
    ],
)
def test_what_may_change_in_a_graph(graph: dict[str, Any], path: str, new: Any, expected: str | None) -> None:
    problems = transition_problems(as_graph(graph), as_graph(changed(graph, path, new)))
    assert [str(problem).startswith(expected or "?") for problem in problems] == ([True] if expected else [])


def test_a_cluster_refuses_places_of_one_machine(task: dict[str, Any], graph: dict[str, Any]) -> None:
    assert cluster_problems(as_task(task)) == cluster_problems(as_graph(graph)) == ()
    local = changed(task, "spec.dataset", {"url": "file:///data"})
    assert [problem.path for problem in cluster_problems(as_task(local))] == [("spec", "dataset", "url")]
    root = {"backbone": "vit", "weights": {"url": "w.safetensors", "sha256": "a" * 64}}
    bare = changed(changed(graph, "spec.store", None), "spec.root", root)
    assert [problem.path[1:] for problem in cluster_problems(as_graph(bare))] == [
        ("store",),
        ("root", "weights", "url"),
    ]


def test_what_one_machine_passes_over_is_named(task: dict[str, Any]) -> None:
    assert ignored_locally(as_task(task)) == (
        "spec.suspend",
        "spec.deletionPolicy",
        "spec.workers",
        "spec.timeouts.start",
        "spec.dataset.secretRef",
    )


def models(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    if model not in seen:
        seen.add(model)
        yield model
        for field in model.model_fields.values():
            inner = model_in(field.annotation)
            if inner is not None:
                yield from models(inner, seen)


def test_every_field_says_what_it_is() -> None:
    seen: set[type[BaseModel]] = set()
    found = [*models(Task, seen), *models(ModuleGraph, seen)]
    assert len(found) > 25
    assert [(m.__name__, n) for m in found for n, f in m.model_fields.items() if not f.description] == []


def test_schema_defaults_stand_only_where_no_layer_may_differ() -> None:
    seen: set[type[BaseModel]] = set()
    defaults = {
        f"{model.__name__}.{field.alias}"
        for model in [*models(Task, seen), *models(ModuleGraph, seen)]
        for field in model.model_fields.values()
        if field.default_factory is None and field.default not in (PydanticUndefined, None, ())
    }
    assert defaults == {
        "GraphRef.name",
        "TaskSpec.iteration",
        "TaskSpec.suspend",
        "TaskSpec.visibility",
        "TaskSpec.deletionPolicy",
        "TaskSpec.metric",
        "Dataset.format",
        "Accelerator.type",
        "Accelerator.count",
        "AllowedNamespaces.from",
    }
