"""What a worker is to work on, and how it reaches the store and the data: from flags, or from EVERGRAFT_SPEC.

EVERGRAFT_SPEC is JSON ``{format, run, spec, specHash, taskHash, store, data}``; `store` and `data` are
``{url, endpoint, credentials, caBundle}``, and absent where the machine's own identity is meant. Called by the worker.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evergraft import canonical, names
from evergraft.api.load import load_documents
from evergraft.api.reading import check_format
from evergraft.api.resolved import ResolvedTask
from evergraft.errors import IntegrityError, SpecError
from evergraft.graph.route import reading
from evergraft.names import RunKey
from evergraft.search.engine import Request
from evergraft.search.folder import Folder
from evergraft.store import log
from evergraft.store.access import Access
from evergraft.store.open import open_store
from evergraft.store.seam import Store
from evergraft_trainer.run import in_order, requests, the_module_graph

SPEC = "EVERGRAFT_SPEC"


@dataclass(frozen=True)
class Assignment:
    """Where a worker's search comes from: an open search's id, a Task file, or the JSON of EVERGRAFT_SPEC."""

    graph_url: str
    search: str | None = None
    task: Path | None = None
    spec: str | None = None


@dataclass(frozen=True)
class Orders:
    """An assignment, read: `store` and `data` are None where the machine's own identity reaches them."""

    assignment: Assignment
    request: Request | None = None
    store: Access | None = None
    data: Access | None = None

    def open_store(self) -> Store:
        """The graph's store.

        Raises:
            UserError: the graph is not the store that the credentials are for, or a Secret lacks a key.
        """
        url = self.assignment.graph_url
        if self.store is None:
            return open_store(url)
        if self.store.url.rstrip("/") != url.rstrip("/"):
            raise SpecError(f"--graph {url}: {SPEC} gives access to {self.store.url} alone; name that one")
        return self.store.open()


def read_orders(assignment: Assignment) -> Orders:
    """What can be read without opening the store.

    Raises:
        SpecError: EVERGRAFT_SPEC is wrong; the message names the field.
    """
    if assignment.spec is None:
        return Orders(assignment)
    try:
        value = json.loads(assignment.spec)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{SPEC}: no JSON: {error}") from None
    fields = check_format(value if not isinstance(value, dict) else {"format": canonical.FORMAT, **value}, what=SPEC)
    try:
        request = _from_header(fields)
        store, data = (
            Access.from_json(fields[role], role) if fields.get(role) is not None else None for role in ("store", "data")
        )
    except (SpecError, IntegrityError) as error:
        raise SpecError(f"{SPEC}: {error}") from None
    return Orders(assignment, request, store, data)


def read_request(orders: Orders, store: Store) -> Request:
    """The run to work on: of an open search, else of EVERGRAFT_SPEC, else of a file.

    Raises:
        SpecError: the assignment names none, or a wrong one.
    """
    assignment = orders.assignment
    if assignment.search is not None:
        header = Folder(store, assignment.search).header()
        if header is None:
            raise SpecError(f"--search {assignment.search}: {store.url} has no such open search; check the id")
        with reading(names.search_key(assignment.search, "search.json")):
            return _from_header(header)
    if orders.request is not None:
        return orders.request
    if assignment.task is None:
        raise SpecError(f"nothing to work on: give --search ID or --task FILE, or set {SPEC}")
    return _from_file(assignment.task, store)


def _from_header(value: Any) -> Request:
    with reading("the search's spec"):
        return Request(
            spec=ResolvedTask.from_json(value["spec"]),
            run=RunKey.parse(value["run"]),
            task_hash=str(value["taskHash"]),
            spec_hash=str(value["specHash"]),
        )


def _from_file(path: Path, store: Store) -> Request:
    """The first run of the file's one task that HEAD has not closed; its last if all are."""
    documents = load_documents([path])
    jobs = in_order(documents)
    if len(jobs) != 1:
        raise SpecError(f"{path}: holds {len(jobs)} Tasks; a worker works on one, `evergraft run` on many")
    runs = list(requests(jobs[0], the_module_graph(documents)))
    state = log.read_task(store, jobs[0].id)[0]
    closed = state.run if state is not None else None
    return next((request for request in runs if closed is None or request.run > closed), runs[-1])
