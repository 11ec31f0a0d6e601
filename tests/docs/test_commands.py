"""What the documentation tells to type is typed here, where it needs no cluster; and every page is looked over.

Blocks of a page run in order in one folder, which has what the page supposes: a reader's images, the demo's graph.
Those that need a cluster: tests/cluster/test_documented_commands.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.docs.blocks import MARKS, PAGES, REPOSITORY, Block, Desk, blocks

from evergraft.api.load import load_documents
from evergraft_trainer.testing.datasets import DatasetMaker

ALL = [block for page in PAGES for block in blocks(page)]
OFFLINE = sorted({block.page for block in ALL if block.runs(cluster=False)})
OURS = [block for block in ALL if block.language == "yaml" and "apiVersion: evergraft.dev/" in block.text]
SHELL = [block for block in ALL if block.language == "sh" and "[--" not in block.text]
"""Without those that show usage, with options in brackets."""
TINY = "{backbone: vit, config: {imageSize: 8, patchSize: 4, width: 12, depth: 1, heads: 3}, seed: 0}"


def evergraft(desk: Desk, *argv: str) -> None:
    """Prepare something by our own command."""
    subprocess.run(["evergraft", *argv], cwd=desk.folder, env=dict(desk.environment), check=True, timeout=120)


def for_readme(desk: Desk) -> None:
    """A reader's images of cats and dogs, and a graph such as `make demo` leaves."""
    maker = DatasetMaker(desk.folder)
    maker.folder({"cat": 20, "dog": 20}, name="my-images")
    (desk.folder / "my-images/cat/0001.png").rename(desk.folder / "my-images/cat/1.png")
    (desk.folder / "demo").mkdir()
    (desk.folder / "root.yaml").write_text(TINY)
    evergraft(desk, "graph", "init", "demo/graph", "--root", "root.yaml")


def for_quickstart(desk: Desk) -> None:
    """A task named as the page's, much smaller, and a photo."""
    maker = DatasetMaker(desk.folder / "tasks")
    maker.folder({"rose": 20, "tulip": 20}, name="flowers", channels=3)
    (desk.folder / "photo.jpg").write_bytes(maker.png(3, channels=3))
    task = {
        "apiVersion": "evergraft.dev/v1alpha1",
        "kind": "Task",
        "metadata": {"name": "flowers", "namespace": "vision"},
        "spec": {
            "dataset": {"url": "flowers"},
            "search": {"strategy": "finetune", "samples": 32, "batchSize": 16, "validations": 1},
        },
    }
    (desk.folder / "tasks/flowers.yaml").write_text(yaml.safe_dump(task))


BEFORE: dict[str, Callable[[Desk], None]] = {"README.md": for_readme, "docs/quickstart.md": for_quickstart}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {"PATH": path, "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    made = Desk(tmp_path, environment, meant={"REGISTRY": "registry.acme"})
    made.furnish()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("page", OFFLINE)
def test_a_page_s_commands_work(page: str, desk: Desk) -> None:
    if page in BEFORE:
        BEFORE[page](desk)
    for block in blocks(REPOSITORY / page):
        if block.file is not None:
            desk.write(block)
        elif block.runs(cluster=False):
            desk.run(block)


def test_pages_with_commands_are_these() -> None:
    """A mark that is lost would take a test along without a word."""
    assert OFFLINE == ["README.md", "docs/airgap.md", "docs/quickstart.md"]
    assert {block.page for block in ALL if block.runs(cluster=True)} == {
        "docs/airgap.md",
        "docs/install.md",
        "docs/kubernetes.md",
        "docs/observability.md",
        "docs/operations.md",
        "docs/runbooks.md",
        "docs/troubleshooting.md",
    }


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.place)
def test_marks_are_known(block: Block) -> None:
    assert all(MARKS.fullmatch(mark) for mark in block.marks), block.place
    assert "cluster" not in block.marks or "runnable" in block.marks
    if "runnable" in block.marks:
        assert block.language in ("sh", "python"), block.place


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "yaml"], ids=lambda block: block.place)
def test_yaml_is_yaml(block: Block) -> None:
    assert list(yaml.safe_load_all(block.text))


@pytest.mark.parametrize("block", OURS, ids=lambda block: block.place)
def test_documents_are_accepted(block: Block, tmp_path: Path) -> None:
    """By the types that the command line, the operator and the CRDs share."""
    (tmp_path / "documents.yaml").write_text(block.text)
    assert load_documents([tmp_path / "documents.yaml"])


def test_the_examples_for_git_are_accepted() -> None:
    kinds = sorted(document.value.kind for document in load_documents([REPOSITORY / "docs/gitops/tasks"]))
    assert kinds == ["ModuleGraph", "Task"]


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_shell_is_shell(block: Block) -> None:
    """As far as a shell reads it without running it."""
    done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False, timeout=20)
    assert done.returncode == 0, f"{block.place}: {done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    """Files are there, and so are the headings in them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), f"{page}: {target}"
        if heading:
            assert heading in anchors(found), f"{page}: {target}"


def anchors(page: Path) -> set[str]:
    """What a heading is called in links, as forges do it."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_build_arguments_exist() -> None:
    dockerfiles = {path: path.read_text() for path in REPOSITORY.glob("*/Dockerfile")}
    known = {name for text in dockerfiles.values() for name in re.findall(r"^ARG (\w+)", text, re.MULTILINE)}
    told = {name for page in PAGES for name in re.findall(r"--build-arg (\w+)=", page.read_text(encoding="utf-8"))}
    assert told
    assert told <= known
