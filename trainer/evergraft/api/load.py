"""Reads Task and ModuleGraph documents from YAML and JSON files and folders.

Every problem is found at once and told by file, line, field, what is wrong and what is allowed. Called by the
command line; what it returns is valid in itself and still to be resolved (``api.resolve``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from evergraft.api import check as checking
from evergraft.api.messages import Problem, validate
from evergraft.api.modulegraph import ModuleGraph
from evergraft.api.places import located_root
from evergraft.api.root import Root
from evergraft.api.source import Node, line_of, parse, plain
from evergraft.api.task import Task
from evergraft.errors import SpecError

MAX_BYTES = 1 << 20
MAX_PROBLEMS = 50
SUFFIXES = (".yaml", ".yml", ".json")

T = TypeVar("T")


@dataclass(frozen=True)
class Document:
    """A valid document and where it stands; `line` is its first."""

    path: Path
    line: int
    value: Task | ModuleGraph

    @property
    def where(self) -> str:
        """``file:line``."""
        return f"{self.path}:{self.line}"


def load_documents(paths: Sequence[Path]) -> tuple[Document, ...]:
    """Every document in the files, and in the .yaml, .yml and .json files of the folders, in order.

    Raises:
        SpecError: a file is unreadable, a document is wrong, two have one name, or there is none.
    """
    documents: list[Document] = []
    problems: list[str] = []
    for path in _files(paths):
        for node in _nodes(path):
            value, found = checking.check(plain(node, name=str(path)))
            problems += _lines(path, node, found)
            if value is not None:
                documents.append(Document(path, node.line, value))
    _refuse([*problems, *_repeated(documents)])
    if not documents:
        raise SpecError(f"{', '.join(map(str, paths))}: no documents; expected a Task or ModuleGraph")
    return tuple(documents)


def load_root(path: Path) -> Root:
    """The root in a file: a bare root, or the one of the ModuleGraph document in it.

    A relative path in ``weights.url`` becomes absolute, from the file's folder.

    Raises:
        SpecError: the file is unreadable, or holds no root or a wrong one.
    """
    if path.is_dir():
        raise SpecError(f"{path}: is a folder; name the root's file")
    nodes = _nodes(path)
    if any(isinstance(node.value, dict) and "kind" in node.value for node in nodes):
        graphs = [item.value for item in load_documents([path]) if isinstance(item.value, ModuleGraph)]
        if len(graphs) != 1:
            raise SpecError(f"{path}: holds {len(graphs)} ModuleGraph documents; a root file holds one")
        return located_root(graphs[0].spec.root, base=path.parent)
    if len(nodes) != 1:
        raise SpecError(f"{path}: holds {len(nodes)} documents; a root file holds one")
    value = plain(nodes[0], name=str(path))
    root, problems = validate(Root, checking.without_nulls(value))
    _refuse(_lines(path, nodes[0], problems))
    assert root is not None
    return located_root(root, base=path.parent)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for path in paths:
        for file in _within(path):
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file


def _within(path: Path) -> Sequence[Path]:
    try:
        if not path.is_dir():
            return [path]
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    if not files:
        raise SpecError(f"{path}: the folder holds no {', '.join(SUFFIXES)} file")
    return files


def _nodes(path: Path) -> tuple[Node, ...]:
    text = _text(path)
    return parse(_json_as_yaml(text) if path.suffix == ".json" else text, name=str(path))


def _json_as_yaml(text: str) -> str:
    """JSON whose tabs and pairs of surrogates, which YAML does not have, are written as YAML has them."""

    def joined(match: re.Match[str]) -> str:
        pair = match["pair"]
        return match[0] if pair is None else bytes.fromhex(pair.replace("\\u", "")).decode("utf-16-be")

    return re.sub(r"\\\\|(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})", joined, text).replace(
        "\t", " "
    )


def _text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise SpecError(f"{path}: is no regular file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise SpecError(f"{path}: larger than {MAX_BYTES >> 20} MiB; a manifest is text written by people, split it up")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None


def _lines(path: Path, node: Node, problems: Iterable[Problem]) -> list[str]:
    placed = sorted((line_of(node, problem.path), str(problem)) for problem in problems)
    return [f"{path}:{line}: {text}" for line, text in placed]


def _repeated(documents: Iterable[Document]) -> Iterator[str]:
    named: dict[str, Document] = {}
    for document in documents:
        value = document.value
        keys = [f"{value.kind} {value.namespace}/{value.metadata.name}"]
        if isinstance(value, Task):
            keys.append(f"task id {value.id}")
        first = next((named[key] for key in keys if key in named), None)
        if first is not None:
            key = next(key for key in keys if key in named)
            yield f"{document.where}: {key} stands already at {first.where}; rename one of them"
        for key in keys:
            named.setdefault(key, document)


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        more = len(problems) - MAX_PROBLEMS
        raise SpecError("\n".join([*problems[:MAX_PROBLEMS], *([f"… and {more} more"] if more > 0 else [])]))
