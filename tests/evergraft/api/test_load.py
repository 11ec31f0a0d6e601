"""Documents come from files and folders; what is wrong is told by file, line, field and what is allowed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from evergraft.api.load import MAX_BYTES, load_documents, load_root
from evergraft.api.modulegraph import ModuleGraph
from evergraft.api.task import Task
from evergraft.errors import SpecError

Write = Callable[..., Path]

METRICS = "Accuracy, BalancedAccuracy, MacroF1, AUROC, Top5"

TASK = """\
apiVersion: evergraft.dev/v1alpha1
kind: Task
metadata: {name: a}
spec:
  dataset: {url: photos}
"""


def named(name: str) -> str:
    return TASK.replace("name: a", f"name: {name}")


def message(*paths: Path) -> str:
    with pytest.raises(SpecError) as caught:
        load_documents(paths)
    return str(caught.value)


def test_the_published_documents_load_whole(write: Write, full_task: str, full_graph: str) -> None:
    task, graph = load_documents([write(full_task + "---\n" + full_graph)])
    assert isinstance(task.value, Task)
    assert isinstance(graph.value, ModuleGraph)
    assert task.value.id == "vision/cifar10"
    assert task.value.spec.workers is not None
    assert task.value.spec.workers.resources is not None
    assert task.value.spec.workers.resources.requests == {"cpu": "4", "memory": "16Gi"}
    assert graph.value.spec.root.config["width"] == 96
    assert (task.line, graph.line) == (1, full_task.count("\n") + 2)


def test_what_is_loaded_cannot_be_changed(write: Write, full_task: str) -> None:
    task = load_documents([write(full_task)])[0].value
    with pytest.raises(ValueError, match="frozen"):
        task.spec = None  # type: ignore[assignment, misc]


def test_a_misspelt_field_is_guessed_with_its_line(write: Write) -> None:
    path = write(TASK + "  search:\n    samples: 5\n    strategi: mu2net\n")
    assert message(path) == f"{path}:8: spec.search.strategi: unknown field; did you mean strategy?"


def test_an_unknown_field_without_a_neighbour_lists_what_is_allowed(write: Write) -> None:
    path = write(TASK + "  timeouts: {xyzzy: 1h}\n")
    assert message(path) == f"{path}:6: spec.timeouts.xyzzy: unknown field; allowed: start, search"


def test_every_problem_is_told_in_one_go_in_order_of_lines(write: Write) -> None:
    first = write(TASK + "  metric: Acuracy\n  iteration: '2'\n", "a.yaml")
    second = write("kind: Task\napiVersion: evergraft.dev/v1\nmetadata: {}\nspec: []\n", "b.yaml")
    assert message(first, second).splitlines() == [
        f'{first}:6: spec.metric: "Acuracy" is not allowed; did you mean Accuracy? allowed: {METRICS}',
        f'{first}:7: spec.iteration: expected an integer, got the string "2"',
        f'{second}:2: apiVersion: "evergraft.dev/v1" is not allowed; allowed: evergraft.dev/v1alpha1',
        f"{second}:3: metadata.name: required, but missing",
        f"{second}:4: spec: expected an object, got a list",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind: Tsk\n", ':1: kind: "Tsk" is not known; did you mean Task?'),
        ("a: 1\n", ":1: kind: required, but missing; allowed: Task, ModuleGraph"),
        ("- 1\n", ":1: expected a Task or ModuleGraph object, got [1]"),
        ("a: [1\nb: 2\n", ":2:2: not readable as YAML: did not find expected ',' or ']'"),
        ("a:\n\t- 1\n", ":2:1: not readable as YAML: found character that cannot start any token"),
        ("a: 1\nb: 2\na: 3\n", ':3:1: the key "a" stands twice, first in line 1'),
        ("a: !!python/object/apply:os.system [ls]\n", ":1:4: the tag tag:yaml.org,2002:python/object/apply:os.system"),
        ("a: !!binary aGk=\n", ":1:4: the tag tag:yaml.org,2002:binary is not allowed"),
        ("a: &x [*x]\n", ":1:8: *x names no anchor above it"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", ":3:3: merge keys (<<) are not supported; write the fields out"),
        ("? [a]\n: 1\n", ":1:3: a key must be a word"),
        ("[" * 200, ":1:66: nested more than 64 levels deep"),
        ("a: 1e999\n", ":1:4: 1e999 is too large a number"),
        ("", "no documents; expected a Task or ModuleGraph"),
        ("---\n---\n# nothing\n", "no documents; expected a Task or ModuleGraph"),
    ],
)
def test_what_is_no_manifest_is_told_where(write: Write, text: str, expected: str) -> None:
    assert expected in message(write(text))


def test_aliases_cannot_grow_a_small_file_into_a_large_value(write: Write) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 20)]
    assert "too large: more than 100,000 values" in message(write("\n".join(lines)))


def test_aliases_of_ordinary_size_are_written_out(write: Write) -> None:
    text = TASK.replace("{url: photos}", "&d {url: photos}")
    tasks = load_documents([write(text + "  timeouts: {start: &t 1h, search: *t}\n")])
    assert tasks[0].value.spec.timeouts.search == "1h"  # type: ignore[union-attr]


def test_a_file_too_large_is_refused_unread(write: Write) -> None:
    assert "larger than 1 MiB" in message(write("#" * (MAX_BYTES + 1)))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    assert message(path) == f"{path}:2: not UTF-8 text; save the file as UTF-8"


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    assert message(tmp_path / "no.yaml") == f"{tmp_path / 'no.yaml'}: no such file; check the path"
    assert message(tmp_path) == f"{tmp_path}: the folder holds no .yaml, .yml, .json file"


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert message(tmp_path / "pipe") == f"{tmp_path / 'pipe'}: is no regular file"


def test_a_place_one_may_not_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    file = tmp_path / "a.yaml"
    file.write_text(TASK)
    monkeypatch.setattr(Path, "open", refuse)
    assert message(file) == f"{file}: cannot be read: Permission denied"
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert message(tmp_path) == f"{tmp_path}: cannot be read: Permission denied"


def test_a_folder_gives_its_manifests_by_name_once(write: Write, tmp_path: Path) -> None:
    later = write(named("b"), "b.yml")
    write(TASK, "a.yaml")
    write("not read", "notes.txt")
    write("not read", "deeper/c.yaml")
    found = load_documents([tmp_path, later])
    assert [document.value.metadata.name for document in found] == ["a", "b"]


def test_json_loads_with_its_lines_tabs_and_escapes(write: Write) -> None:
    value = {
        "apiVersion": "evergraft.dev/v1alpha1",
        "kind": "Task",
        "metadata": {"name": "a", "annotations": {"x": 'tab\t "quoted" ü 😀 \\ud83d\\'}},
        "spec": {"dataset": {"url": "photos"}, "metric": "Top5"},
    }
    path = write(json.dumps(value, indent="\t"), "a.json")
    (document,) = load_documents([path])
    assert document.value.metadata.annotations == value["metadata"]["annotations"]  # type: ignore[index]
    path.write_text(path.read_text().replace("Top5", "Top6"))
    assert message(path).startswith(f"{path}:14: spec.metric:")


def test_two_documents_of_one_name_are_told_with_both_places(write: Write) -> None:
    first = write(TASK, "a.yaml")
    second = write("# a remark\n" + TASK, "b.yaml")
    assert message(first, second) == (f"{second}:2: Task default/a stands already at {first}:1; rename one of them")


def test_two_tasks_of_one_id_are_told(write: Write) -> None:
    first = write(TASK, "a.yaml")
    second = write(named("b") + "  taskID: default/a\n", "b.yaml")
    assert message(first, second) == f"{second}:1: task id default/a stands already at {first}:1; rename one of them"


def test_one_name_in_two_namespaces_is_fine(write: Write) -> None:
    other = named("a, namespace: x")
    assert len(load_documents([write(TASK + "---\n" + other)])) == 2


def test_a_bare_root_loads_with_its_weights_found_beside_it(write: Write, tmp_path: Path) -> None:
    path = write(f"backbone: vit\nconfig: {{width: 96}}\nweights: {{url: w.safetensors, sha256: {'a' * 64}}}\n")
    root = load_root(path)
    assert root.to_json() == {
        "backbone": "vit",
        "config": {"width": 96},
        "weights": {"url": str(tmp_path / "w.safetensors"), "sha256": "a" * 64},
    }


def test_a_root_also_comes_from_a_graph_document(write: Write, full_graph: str) -> None:
    assert load_root(write(full_graph)).seed == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("backbone: vit\n", ":1: give seed or weights"),
        (f"backbone: vit\nseed: 0\nweights: {{url: w, sha256: {'a' * 64}}}", ":1: give only one of seed or weights"),
        ("backbone: vti\nseed: 0\n", ':1: backbone: "vti" is not allowed; did you mean vit?'),
        ("backbone: vit\nseed: 0\nwidth: 3\n", ":3: width: unknown field;"),
        ("backbone: vit\nseed: 0\nconfig:\n  width: 0.5\n", ":4: config.width: expected an integer"),
        ("backbone: vit\nweights: {url: w, sha256: abc}\n", ":2: weights.sha256: "),
        ("[]", ":1: expected an object, got a list"),
        ("", "holds 0 documents"),
    ],
)
def test_a_wrong_root_is_told(write: Write, text: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_root(write(text))
    assert expected in str(caught.value)


def test_a_file_without_a_graph_is_no_root(write: Write) -> None:
    with pytest.raises(SpecError, match="holds 0 ModuleGraph documents"):
        load_root(write(TASK))
