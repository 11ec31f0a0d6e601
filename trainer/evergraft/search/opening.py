"""The beginning of a search: whether HEAD, or the search if it is open, forbids the run as it is asked for.

All of it is known before anything is written, so that a mistake costs nothing and can be taken back. Called by the
engine and by ``plan``, which must say the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import evergraft
from evergraft import canonical, names
from evergraft.api.resolved import ResolvedTask
from evergraft.errors import ConflictError, ImageVersionError, IntegrityError, SpecError
from evergraft.graph.route import count, reading
from evergraft.graph.state import Graph, check_visibility
from evergraft.search.committing import Outcome, Request, standing_of
from evergraft.search.folder import Folder
from evergraft.search.strategies import get as get_strategy
from evergraft.store import log


def look(folder: Folder, graph: Graph, request: Request) -> tuple[Outcome | None, dict[str, Any] | None]:
    """How the run ended, if it has; else ``search.json``, if the search is open. Writes nothing.

    Raises:
        ConflictError: HEAD or the open search is of another spec, or HEAD would refuse the commit.
        ImageVersionError: another version must finish the open search.
    """
    standing = standing_of(graph, request)
    if standing is not None:
        return standing, None
    header = folder.header()
    if header is not None:
        check_header(header, graph, request)
    check_visibility(graph, request.spec.task, request.spec.visibility)
    return None, header


def open_search(folder: Folder, graph: Graph, request: Request) -> dict[str, Any]:
    """``search.json`` as it stands; ours unless an earlier worker wrote it.

    Raises:
        ConflictError, ImageVersionError: an earlier worker's is of another spec, or another version's.
    """
    strategy = get_strategy(request.spec.search.strategy)
    header = folder.open(
        {
            "format": canonical.FORMAT,
            "id": uuid.uuid4().hex,
            "search": folder.search,
            "task": request.spec.task,
            "run": str(request.run),
            "spec": request.spec.to_json(),
            "specHash": request.spec_hash,
            "taskHash": request.task_hash,
            "base": graph.version,
            "strategy": {"name": strategy.name, "version": strategy.version},
            "trainer": evergraft.__version__,
        }
    )
    check_header(header, graph, request)
    return header


def pinned(folder: Folder, graph: Graph, header: Mapping[str, Any]) -> tuple[ResolvedTask, Graph]:
    """The spec that an open search goes by, and the graph at its base version.

    Raises:
        IntegrityError: ``search.json`` is damaged, as this version wrote it.
    """
    key = names.search_key(folder.search, "search.json")
    try:
        with reading(key):
            spec, version = ResolvedTask.from_json(header["spec"]), count(header["base"])
    except SpecError as error:  # of no document that a user could correct
        raise IntegrityError(f"{key}: {error}") from None
    return spec, graph if version == graph.version else log.read_graph(folder.store, version=version)


def check_header(header: Mapping[str, Any], graph: Graph, request: Request) -> None:
    """Refuse to go on with a search that was opened with another spec, or by another version.

    Raises:
        ConflictError, ImageVersionError: it was.
    """
    with reading(names.search_key(request.search, "search.json")):
        if header["taskHash"] != request.task_hash:
            raise ConflictError(
                f"{request.spec.task}: its open search {request.search} was started with another metric, dataset or "
                f"search; put the spec back, or raise spec.iteration"
            )
        if header["spec"]["visibility"] != request.spec.visibility:
            raise _other_visibility(str(header["spec"]["visibility"]), graph, request)
        strategy = get_strategy(str(header["strategy"]["name"]))  # a changed default of the graph starts no other one
        if header["trainer"] != evergraft.__version__ or header["strategy"]["version"] != strategy.version:
            raise ImageVersionError(
                f"{request.spec.task}: ImageVersion: its open search was started by evergraft {header['trainer']}, "
                f"this is {evergraft.__version__}; finish it with that version"
            )


def _other_visibility(started_as: str, graph: Graph, request: Request) -> ConflictError:
    """What to do about an open search of another visibility: set it back, unless HEAD would refuse that one."""
    opened = f"its open search {request.search} was started as {started_as}"
    try:
        check_visibility(graph, request.spec.task, started_as)
    except ConflictError:
        return ConflictError(
            f"{request.spec.task}: {opened} and can never be committed; "
            f"raise spec.iteration to {request.run.iteration + 1}"
        )
    return ConflictError(
        f"{request.spec.task}: spec.visibility is immutable, and {opened}; set it back, or give the task another name"
    )
