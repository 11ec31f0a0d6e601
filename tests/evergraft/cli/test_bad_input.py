"""Whatever a user gets wrong: one message that names it and the fix, the right exit code, nothing half-written."""

from __future__ import annotations

import errno
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evergraft import canonical, names
from evergraft.api.load import load_documents
from evergraft.api.resolve import task_hash
from evergraft.api.task import Task
from evergraft.cli import worker
from evergraft.graph.commit import CloseSearch
from evergraft.names import RunKey
from evergraft.store import files, log
from evergraft.store.open import open_store
from evergraft_trainer.testing.commands import Answer, Run, contents, task_file
from evergraft_trainer.testing.datasets import DatasetMaker


def refused(answer: Answer, code: int, *words: str) -> None:
    assert answer.code == code, answer.err
    assert "Traceback" not in answer.err + answer.out
    for word in words:
        assert word in answer.err, answer.err


Refuse = Callable[..., None]


@pytest.fixture
def refuse(run: Run, graph: Path) -> Refuse:
    """Run a task and expect a refusal that leaves the graph's folder as it was: not even a search is open."""

    def expect(task: Path, code: int, *words: str) -> None:
        before = contents(graph)
        refused(run("run", task, "--graph", graph), code, *words)
        assert contents(graph) == before
        assert run("graph", "verify", graph).code == 0

    return expect


def test_unreadable_yaml(refuse: Refuse, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("spec: [1, 2\nkind: }")
    refuse(path, 64, "bad.yaml:2")


def test_unknown_field_with_the_nearest_name(refuse: Refuse, images: Path, tmp_path: Path) -> None:
    path = task_file(tmp_path, images)
    path.write_text(path.read_text().replace("strategy:", "strategi:"))
    refuse(path, 64, "pets.yaml:6", "spec.search.strategi: unknown field", "did you mean strategy?")


def test_unknown_strategy_with_those_allowed(refuse: Refuse, images: Path, tmp_path: Path) -> None:
    path = task_file(tmp_path, images)
    path.write_text(path.read_text().replace("finetune", "finetun"))
    refuse(path, 64, "spec.search.strategy", "finetune", "mu2net", "linear")


def test_wrong_type(refuse: Refuse, images: Path, tmp_path: Path) -> None:
    refuse(task_file(tmp_path, images, search=", seed: many"), 64, "pets.yaml:6", "spec.search.seed")


def test_too_few_samples_names_the_field_and_the_least(refuse: Refuse, images: Path, tmp_path: Path) -> None:
    path = task_file(tmp_path, images)
    path.write_text(path.read_text().replace("samples: 64", "samples: 8"))
    refuse(path, 64, "spec.search.samples", "16")


def test_missing_folder(refuse: Refuse, tmp_path: Path) -> None:
    refuse(task_file(tmp_path, "nowhere"), 65, "nowhere")


def test_a_wrong_path_is_corrected_without_a_new_iteration(run: Run, graph: Path, images: Path, tmp_path: Path) -> None:
    refused(run("run", task_file(tmp_path, tmp_path / "nowhere"), "--graph", graph), 65, "nowhere")
    assert run("run", task_file(tmp_path, images), "--graph", graph).code == 0


def test_one_class(refuse: Refuse, make: DatasetMaker, tmp_path: Path) -> None:
    refuse(task_file(tmp_path, make.folder({"cat": 20})), 65, "class", "cat")


def test_class_missing_from_training(refuse: Refuse, make: DatasetMaker, tmp_path: Path) -> None:
    counts = {"train/cat": 9, "train/dog": 9, "validation/cat": 3, "validation/dog": 3, "validation/owl": 3}
    refuse(task_file(tmp_path, make.folder(counts)), 65, "owl", "train")


def test_corrupt_image_is_named(refuse: Refuse, images: Path, tmp_path: Path) -> None:
    (images / "cat" / "0003.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    refuse(task_file(tmp_path, images), 65, "cat/0003.png", "maxBadFraction")


def test_pickled_npz(refuse: Refuse, tmp_path: Path) -> None:
    objects = np.array([{"a": 1}, {"b": 2}], dtype=object)
    np.savez(tmp_path / "evil.npz", train_images=objects, train_labels=np.array([0, 1]))
    refuse(task_file(tmp_path, tmp_path / "evil.npz"), 65, "evil.npz", "train_images")


def test_damaged_compressed_npz(refuse: Refuse, run: Run, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    path = tmp_path / "damaged.npz"
    np.savez_compressed(path, train_images=pixels, train_labels=np.arange(20) % 2)
    data = bytearray(path.read_bytes())
    data[60:70] = bytes(10)
    path.write_bytes(data)
    refused(run("data", "check", path), 65, "damaged.npz", "numpy.savez")
    refuse(task_file(tmp_path, path), 65, "damaged.npz", "numpy.savez")


@pytest.mark.parametrize(("given", "missing"), [(("a", "b"), "c"), (("train/a", "train/b"), "test")])
def test_class_or_split_folder_that_is_a_link(
    refuse: Refuse, run: Run, make: DatasetMaker, tmp_path: Path, given: tuple[str, ...], missing: str
) -> None:
    folder = make.folder(dict.fromkeys(given, 12))
    (folder / missing).symlink_to(make.folder({"c": 12}, name="elsewhere") / "c")
    refused(run("data", "check", folder), 65, f"images/{missing}: a link to a folder; move the folder there instead")
    refuse(task_file(tmp_path, folder), 65, f"images/{missing}: a link to a folder")


def test_archive_member_that_leaves_the_root(refuse: Refuse, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.npz", "w") as archive:
        archive.writestr("../../train_images.npy", b"")
    refuse(task_file(tmp_path, tmp_path / "evil.npz"), 65, "evil.npz", "..")


def test_path_traversal_in_parquet(refuse: Refuse, make: DatasetMaker, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(make.png(1))
    (tmp_path / "data").mkdir()
    table = pa.table({"image": ["../secret.png"] * 20, "label": list(range(2)) * 10})
    pq.write_table(table, tmp_path / "data" / "rows.parquet")
    refuse(task_file(tmp_path, tmp_path / "data" / "rows.parquet"), 65, "../secret.png")


def test_too_many_duplicates_across_splits(refuse: Refuse, make: DatasetMaker, tmp_path: Path) -> None:
    folder = make.folder({"train/cat": 10, "train/dog": 10, "validation/cat": 4, "validation/dog": 4})
    for number in range(4):
        (folder / f"validation/cat/{number:04d}.png").write_bytes((folder / f"train/cat/{number:04d}.png").read_bytes())
    refuse(task_file(tmp_path, folder), 65, "cat/0000.png", "maxBadFraction")


def test_one_image_with_two_labels_across_splits(refuse: Refuse, make: DatasetMaker, tmp_path: Path) -> None:
    folder = make.folder({"train/cat": 10, "train/dog": 10, "validation/cat": 4, "validation/dog": 4})
    (folder / "validation/dog/0000.png").write_bytes((folder / "train/cat/0000.png").read_bytes())
    refuse(task_file(tmp_path, folder), 65, "train/cat/0000.png", "validation/dog/0000.png")


def test_weights_with_the_wrong_digest(run: Run, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    root = tmp_path / "root.yaml"
    root.write_text(f"{{backbone: vit, weights: {{url: w.safetensors, sha256: '{'0' * 64}'}}}}")
    answer = run("graph", "init", tmp_path / "graph", "--root", root)
    refused(answer, 65, "root.weights", "w.safetensors", "0" * 64)
    assert not (tmp_path / "graph" / "graph.json").exists()


def test_weights_of_the_wrong_shapes(run: Run, graph: Path, images: Path, tmp_path: Path) -> None:
    assert run("run", task_file(tmp_path, images), "--graph", graph).code == 0
    exported = run("export", graph, "pets", "--as-root", tmp_path / "w.safetensors", "--json")
    digest = json.loads(exported.out)["sha256"]
    config = "{imageSize: 8, patchSize: 4, width: 24, depth: 1, heads: 3}"
    root = tmp_path / "other.yaml"
    root.write_text(f"{{backbone: vit, config: {config}, weights: {{url: w.safetensors, sha256: {digest}}}}}")
    refused(run("graph", "init", tmp_path / "other", "--root", root), 64, "root.weights", "root.config")
    assert not (tmp_path / "other" / "graph.json").exists()


def test_a_store_that_is_no_graph(run: Run, images: Path, tmp_path: Path) -> None:
    answer = run("run", task_file(tmp_path, images), "--graph", tmp_path / "empty")
    refused(answer, 64, "no module graph", "evergraft graph init")
    assert not (tmp_path / "empty").exists()
    refused(run("graph", "show", images), 64, "no module graph")


def test_a_graph_of_a_newer_format(run: Run, graph: Path, images: Path, tmp_path: Path) -> None:
    document = json.loads((graph / "graph.json").read_text())
    (graph / "graph.json").write_text(json.dumps({**document, "format": 2}))
    before = contents(graph)
    refused(run("run", task_file(tmp_path, images), "--graph", graph), 64, "format 2", "install")
    refused(run("graph", "show", graph), 64, "format 2")
    assert contents(graph) == before


def test_no_permission(run: Run, graph: Path, images: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:  # root may do anything, so become nobody for the length of the command
        graph.chmod(0o700)
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == 0 and folder.stat().st_mode & 0o777 == 0o700:
                folder.chmod(0o755)
        os.seteuid(65534)
        try:
            answer = run("run", task_file_as_root(tmp_path, images), "--graph", graph)
        finally:
            os.seteuid(0)
    else:
        graph.chmod(0o000)
        answer = run("run", task_file(tmp_path, images), "--graph", graph)
        graph.chmod(0o700)
    refused(answer, 64, str(graph), "ermission")


def task_file_as_root(folder: Path, images: Path) -> Path:
    os.seteuid(0)
    path = task_file(folder, images)
    path.chmod(0o644)
    os.seteuid(65534)
    return path


@pytest.mark.parametrize("writes", [0, 1, 2, 5, 9])
def test_disk_full_then_run_again(
    run: Run, graph: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    left = iter(range(writes))
    real = files._write

    def write(path: Path, data: bytes, **how: bool) -> None:
        if next(left, None) is None:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, data, **how)

    with monkeypatch.context() as patched:
        patched.setattr(files, "_write", write)
        refused(run("run", task_file(tmp_path, images), "--graph", graph), 75, "space")
    assert run("graph", "verify", graph).code == 0
    assert not any(path.name.startswith(".") for path in graph.rglob("*") if path.is_file())
    assert run("run", task_file(tmp_path, images), "--graph", graph).code == 0
    assert run("graph", "verify", graph, "--answers").code == 0


def test_a_file_that_is_no_image(run: Run, graph: Path, images: Path, tmp_path: Path) -> None:
    assert run("run", task_file(tmp_path, images), "--graph", graph).code == 0
    (tmp_path / "note.txt").write_text("hello")
    refused(run("predict", graph, "pets", tmp_path / "note.txt"), 65, "note.txt")
    refused(run("predict", graph, "pets", tmp_path / "gone.png"), 65, "gone.png")
    refused(run("predict", graph, "cats", tmp_path / "note.txt"), 64, "default/cats", "default/pets")


def test_a_damaged_module_is_found_and_never_served(run: Run, graph: Path, images: Path, tmp_path: Path) -> None:
    assert run("run", task_file(tmp_path, images), "--graph", graph).code == 0
    blob = max(graph.glob("modules/*/*.safetensors"), key=lambda path: path.stat().st_mtime)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(bytes(data))
    answer = run("graph", "verify", graph)
    assert answer.code == 65
    assert blob.stem[:12] in answer.out
    assert "default/pets" in answer.out
    stream = io.BytesIO((images / "cat" / "0000.png").read_bytes())
    (tmp_path / "one.png").write_bytes(stream.getvalue())
    refused(run("predict", graph, "pets", tmp_path / "one.png"), 65, blob.stem[:12])


def test_a_damaged_module_hides_no_other_routes_answers(run: Run, graph: Path, images: Path, tmp_path: Path) -> None:
    for name in ("pets", "more"):
        assert run("run", task_file(tmp_path, images, name=name), "--graph", graph).code == 0
    blob = max(graph.glob("modules/*/*.safetensors"), key=lambda path: path.stat().st_mtime)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\xff")
    answer = run("graph", "verify", graph, "--answers", "--json")
    assert answer.code == 65
    report = json.loads(answer.out)
    assert {row["task"]: row["holds"] for row in report["answers"]} == {
        "default/more": False,
        "default/pets": True,
        "root": True,
    }
    assert blob.stem[:12] in report["answers"][0]["how"]
    assert [finding["routes"] for finding in report["findings"]] == [["default/more"]]


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("search.json", ("spec",), []),
        ("search.json", ("spec", "search", "strategy"), 5),
        ("search.json", ("strategy",), None),
        ("search.json", ("base",), "x"),
        ("data.json", ("counts",), 1.5),
        ("data.json", ("samples", "train"), None),
        ("data.json", ("samples", "train"), []),
        ("plan-0000.json", ("plan",), None),
        ("0000-0000/state-1.json", ("best", "metrics", "quality"), {}),
        ("0000-0000/state-1.json", ("last", "sha256"), ""),
        ("0000-0000/state-1.json", ("last",), None),
        ("0000-0000/state-1.json", ("samples",), -1),
        ("0000-0000/state-1.json", ("samples",), True),
        pytest.param("0000-0000/result.json", ("layers", 0, "parameters"), 10**400, id="result.json-too-many"),
        ("0000-0000/result.json", ("preprocessing", "mean"), [1e300]),
        ("0000-0000/result.json", ("weights", "best"), None),
        ("final/result.json", ("weights",), None),
    ],
)
def test_a_damaged_document_of_an_open_search_is_one_error(
    run: Run, graph: Path, images: Path, tmp_path: Path, name: str, path: tuple[str | int, ...], value: object
) -> None:
    assert run("run", task_file(tmp_path, images), "--graph", graph).code == 0
    (search,) = (graph / "searches").iterdir()
    ends = [search / "0000-0000/result.json", search / "final/result.json"]
    kept = ends.index(search / name) + 1 if search / name in ends else 0
    for later in (graph / f"log/{1:020d}.json", graph / "hint.json", *ends[kept:]):
        later.unlink()
    document = json.loads((search / name).read_text())
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (search / name).write_text(json.dumps(document))
    answer = run("run", task_file(tmp_path, images), "--graph", graph)
    assert answer.code in (64, 65), answer.err
    said = "weights" if path[-1] == "sha256" else f"searches/{search.name}/{name}: "  # the weights have another digest
    assert "default/pets: error" in answer.err
    assert said in answer.err, answer.err


def replant(graph: Path, **fields: object) -> str:
    """Give the first commit's route another document, with these fields; returns its key."""
    landed = graph / f"log/{1:020d}.json"
    (route,) = (action["route"]["id"] for action in json.loads(landed.read_text())["actions"] if "route" in action)
    document = {**json.loads((graph / names.route_key(route)).read_text()), **fields}
    key = names.route_key(canonical.digest(document))
    (graph / key).parent.mkdir(exist_ok=True)
    (graph / key).write_bytes(canonical.dumps(document))
    landed.write_text(landed.read_text().replace(route, canonical.digest(document)))
    return key


def test_an_odd_transfer_ledger_is_told_as_far_as_it_goes(run: Run, graph: Path, images: Path, tmp_path: Path) -> None:
    assert run("run", task_file(tmp_path, images), "--graph", graph).code == 0
    replant(graph, transfer={"ledger": {"linearProbe": {"quality": 0.5, "over": 10**400}}})
    answer = run("explain", graph, "pets")
    assert answer.code == 0, answer.err
    assert "a linear probe of the root" in answer.out


@pytest.mark.parametrize(
    ("field", "value"),
    [("metrics", {}), ("metrics", {"quality": 0.5, "testQuality": "x"}), ("parameters", {"total": [], "added": 1})],
)
def test_an_odd_figure_in_a_route_document_is_one_error(
    run: Run, graph: Path, images: Path, tmp_path: Path, field: str, value: object
) -> None:
    assert run("run", task_file(tmp_path, images), "--graph", graph).code == 0
    key = replant(graph, **{field: value})
    refused(run("run", task_file(tmp_path, images), "--graph", graph), 65, f"{key}: missing or wrong field")


def test_a_task_after_one_that_is_nowhere(run: Run, graph: Path, images: Path, tmp_path: Path) -> None:
    path = task_file(tmp_path, images)
    path.write_text(path.read_text().replace("spec:", "spec:\n  after: [a/first]"))
    refused(run("run", path, "--graph", graph), 64, "default/pets", "a/first", "run it first")


def test_a_search_that_failed_before_is_no_success_now(run: Run, graph: Path, images: Path, tmp_path: Path) -> None:
    path = task_file(tmp_path, images)
    (document,) = load_documents([path])
    assert isinstance(document.value, Task)
    closed = CloseSearch("default/pets", RunKey(1, 1), "0" * 32, task_hash(document.value), outcome="failed")
    store = open_store(str(graph))
    log.commit(store, log.read_graph(store), actions=(closed,), base=0, author="test", search="0" * 32)
    refused(run("run", path, "--graph", graph), 1, "(failed)", "raise spec.iteration to 2")


def test_root_weights_that_are_a_folder(run: Run, images: Path, tmp_path: Path) -> None:
    root = tmp_path / "root.yaml"
    root.write_text(f"{{backbone: vit, weights: {{url: {images}, sha256: '{'0' * 64}'}}}}")
    refused(run("graph", "init", tmp_path / "graph", "--root", root), 64, "root.weights.url", "is a folder")


def test_a_version_below_zero(run: Run, graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("graph", "show", graph, "--version", "-1")
    assert ended.value.code == 64
    assert "is no version" in capsys.readouterr().err


def test_a_share_of_unreadable_samples_that_is_none(run: Run, images: Path) -> None:
    refused(run("data", "check", images, "--max-bad-fraction", "7"), 64, "--max-bad-fraction 7", "from 0 to 1")


def test_an_export_without_a_file_name(run: Run, graph: Path, images: Path, tmp_path: Path) -> None:
    assert run("run", task_file(tmp_path, images), "--graph", graph).code == 0
    refused(run("export", graph, "pets", "--out", "."), 64, "--out .", "names no file")
    refused(run("export", graph, "pets", "--as-root", "."), 64, "--as-root .", "names no file")
    weights = tmp_path / "w.pth"
    refused(run("graph", "import-root", weights, "--backbone", "vit", "--out", "."), 64, "--out .", "names no file")


def test_a_prediction_with_the_root(run: Run, graph: Path, images: Path) -> None:
    image = images / "cat" / "0000.png"
    refused(run("predict", graph, "root", image), 64, "root", "no labels")
    refused(run("predict", graph, "cats", image), 64, "default/cats", "it has: none")


def test_a_worker_without_work_says_what_to_give(run: Run, graph: Path) -> None:
    refused(run("worker", "--graph", graph), 64, "--search ID or --task FILE")
    refused(run("worker", "--graph", graph, "--search", "0" * 32), 64, "no such open search")
    refused(run("worker", "--graph", graph, "--status", "nowhere"), 64, "HOST:PORT")
    refused(run("replay", graph, "0" * 32), 64, "no such search")
    refused(run("run", "x.yaml", "--graph", graph, "--workers", 0), 64, "--workers 0")


@pytest.mark.parametrize("threads", [0, -2, 10**20])
def test_no_threads_to_work_with(run: Run, graph: Path, images: Path, tmp_path: Path, threads: int) -> None:
    task, report, said = (
        task_file(tmp_path, images),
        tmp_path / "report.json",
        f"--threads {threads}: expected a number from 1 to 4096",
    )
    report.write_text(json.dumps({"outcome": "committed", "exitCode": 0}))  # an earlier run's
    refused(run("worker", "--graph", graph, "--task", task, "--threads", threads, "--report", report), 64, said)
    assert json.loads(report.read_text())["exitCode"] == 64
    assert said in report.read_text()
    refused(run("run", task, "--graph", graph, "--threads", threads), 64, said)
    refused(run("graph", "verify", graph, "--answers", "--threads", threads), 64, said)


@pytest.mark.parametrize("name", ["nodir/report.json", "."])
def test_a_report_that_cannot_be_written_is_told_before_the_work(
    run: Run, graph: Path, images: Path, tmp_path: Path, name: str
) -> None:
    before = contents(graph)
    answer = run("worker", "--graph", graph, "--task", task_file(tmp_path, images), "--report", tmp_path / name)
    refused(answer, 64, "--report", str(tmp_path / name), "cannot be written")
    assert contents(graph) == before


def test_a_report_of_an_earlier_worker_is_gone_before_the_work(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, seen = tmp_path / "report.json", list[bytes]()

    def work(*_: object) -> int:
        seen.append(report.read_bytes())
        return 0

    monkeypatch.setattr(worker, "_one", work)
    report.write_text(json.dumps({"outcome": "committed", "exitCode": 0}))
    assert run("worker", "--graph", tmp_path, "--search", "0" * 32, "--report", report).code == 0
    assert seen == [b""]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("graph", "show", "~nosuchuser/graph"), ("~nosuchuser/graph", "write the path out")),
        (("graph", "show", "file://[x/graph"), ("file://[x/graph", "file:///path")),
        (("graph", "show", "GRAPH/" + "g" * 300), ("too long a name",)),
        (("graph", "gc", "GRAPH", "--grace", "9" * 400 + "d"), ("--grace: a number of 400 digits",)),
        (("graph", "gc", "GRAPH", "--grace", "9" * 5000 + "h"), ("--grace: a number of 5000 digits",)),
        (("graph", "log", "GRAPH", "--limit", "-3"), ("--limit -3: expected a number from 1 up",)),
        (("graph", "log", "GRAPH", "--limit", "0"), ("--limit 0: expected a number from 1 up",)),
        (("graph", "lineage", "GRAPH", "p\udcff"), ("TASK 'p\\udcff': no UTF-8 text",)),
        (("predict", "GRAPH", "p\udcff", "x.png"), ("TASK 'p\\udcff': no UTF-8 text",)),
        (("replay", "GRAPH", "\udcff"), ("SEARCH '\\udcff': no search id", "32 hex digits")),
        (("replay", "GRAPH", "a" * 300), ("SEARCH 'aaa", "no search id")),
        (("worker", "--graph", "GRAPH", "--search", "\udcff"), ("--search '\\udcff': no search id",)),
        (("worker", "--graph", "GRAPH", "--search", "a" * 300), ("--search 'aaa", "no search id")),
        (("worker", "--graph", "GRAPH", "--status", "é" * 70 + ":9000"), ("--status", "no host name")),
        (("worker", "--graph", "GRAPH", "--status", "x:" + "9" * 5000), ("--status", "HOST:PORT")),
        (("data", "check", "s3://"), ("dataset.url: s3://: names no bucket",)),
        (("data", "check", "gs:///path"), ("dataset.url: gs:///path: names no bucket",)),
    ],
)
def test_an_argument_that_can_be_nothing(
    run: Run, graph: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(run(*(argument.replace("GRAPH", str(graph)) for argument in arguments)), 64, *words)


@pytest.mark.parametrize("version", ["-5", "9" * 5000])
def test_a_version_to_restore_that_is_none(
    run: Run, graph: Path, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        run("graph", "restore", graph, version)
    assert ended.value.code == 64
    assert "is no version; give a number from 0 up" in capsys.readouterr().err


def test_names_that_are_no_utf8_and_files_that_cannot_be(run: Run, graph: Path, images: Path, tmp_path: Path) -> None:
    assert run("run", task_file(tmp_path, images), "--graph", graph).code == 0
    image = tmp_path / os.fsdecode(b"x\xff.png")
    image.write_bytes((images / "cat" / "0000.png").read_bytes())
    answer = run("predict", graph, "pets", image, "--json")
    assert answer.code == 0
    assert [row["image"] for row in json.loads(answer.out)] == [str(image)]
    (tmp_path / "afile").write_text("x")
    refused(run("export", graph, "pets", "--out", tmp_path / "afile" / "x"), 64, "afile/x.safetensors: cannot be")
    refused(run("export", graph, "pets", "--out", tmp_path / ("n" * 300)), 64, "nnn", "cannot be written")
