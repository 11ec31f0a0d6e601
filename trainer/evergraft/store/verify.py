"""Walk a whole graph and prove what it promises: the chain of commits, blobs, references, lineage, privacy, gc.

Called by `graph verify`; the trainer adds the golden answers. Writes nothing, and goes on after a finding, so that
one damaged blob does not hide another. Work is done route by route, so memory stays that of one module.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from evergraft import names
from evergraft.errors import FormatError, IntegrityError, NotFoundError
from evergraft.graph.commit import AddModules, CloseSearch, Commit, PutRoute, RemoveRoute, Restore, Swept
from evergraft.graph.route import RouteSummary
from evergraft.graph.state import Graph, apply
from evergraft.store import parallel
from evergraft.store.audit import Audit
from evergraft.store.blobs import get_module, get_route
from evergraft.store.findings import Finding
from evergraft.store.history import decode_commit, read_commits
from evergraft.store.info import read_info
from evergraft.store.seam import Store

__all__ = ["Finding", "Report", "verify"]


@dataclass(frozen=True)
class Report:
    """What was walked and what was found; `findings` empty means that every promise holds."""

    version: int
    commits: int
    routes: int
    modules: int
    bytes: int
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """The JSON form; `ok` says whether every promise holds."""
        counts = {"commits": self.commits, "routes": self.routes, "modules": self.modules, "bytes": self.bytes}
        findings = [finding.to_json() for finding in self.findings]
        return {"ok": self.holds, "version": self.version, **counts, "findings": findings}


@dataclass
class _History:
    """What the log says: the graph at its end, every route ever put, and who brought each module in.

    `origin` maps a module to (task, visibility) of the route whose commit first added it; `gone` are the blobs that
    gc said it deleted and no commit brought back.
    """

    graph: Graph = field(default_factory=Graph)
    gone: set[str] = field(default_factory=set)
    routes: dict[str, RouteSummary] = field(default_factory=dict)
    origin: dict[str, tuple[str, str]] = field(default_factory=dict)


def verify(store: Store, *, full: bool = True, progress: Callable[[str], None] | None = None) -> Report:
    """Walk the graph at HEAD. `full` reads and re-hashes every blob in use; else they are only looked up by listing.

    `progress` is told each task as its blobs are checked.

    Raises:
        NotAGraphError: there is no graph here.
        FormatError: written by a newer format.
        StoreError: the store did not answer.
    """
    read_info(store)
    audit = Audit(store)
    history, findings = _walk_log(store, audit)
    findings += [*audit.finish(history.graph), *_collected(history)]
    serving = list(history.graph.routes())
    users = _users(serving)
    sizes, found = _blobs(store, serving, users, progress or _silent) if full else _listed(store, serving, users)
    findings += [*found, *_lineage(history, serving), *_ancestors_documents(store, history, serving, full=full)]
    return Report(
        version=history.graph.version,
        commits=history.graph.version + 1,
        routes=len(serving),
        modules=len(users),
        bytes=sum(sizes.values()),
        findings=tuple(findings),
    )


def _silent(task: str) -> None:
    del task


def _walk_log(store: Store, audit: Audit) -> tuple[_History, list[Finding]]:
    """Fold the log from its first commit. Stops at the first that does not follow: what is after it proves nothing."""
    history = _History()
    try:
        for commit, digest in read_commits(store):
            history.graph = apply(history.graph, commit, digest=digest)
            _remember(history, commit)
            audit.see(history.graph)
    except FormatError:
        raise
    except IntegrityError as error:
        broken = history.graph.version + 1
        what = f"the log breaks at version {broken}: {error}"
        return history, [Finding("chain", what, _said_from(store, broken))]
    if history.graph.version < 0:
        return history, [Finding("chain", "the log has no first commit; run evergraft graph init again")]
    return history, _after_a_gap(store, history.graph.version)


def _after_a_gap(store: Store, head: int) -> list[Finding]:
    """Commits beyond a version that is absent: every reader stops before it, so they are lost to all."""
    listed = (names.log_version(entry.key) for entry in store.list(names.LOG))
    beyond = [version for version in listed if version is not None and version > head + 1]
    if not beyond or _grown_since(store, head):
        return []
    what = f"commit {head + 1} is absent though {len(beyond)} later ones are there; the log was tampered with"
    return [Finding("chain", what, _said_from(store, min(beyond)))]


def _said_from(store: Store, version: int) -> tuple[str, ...]:
    """The tasks that commits from `version` on speak of, as far as they can be read: all that is in doubt."""
    tasks: set[str] = set()
    for entry in store.list(names.LOG):
        if (names.log_version(entry.key) or 0) >= version:
            with contextlib.suppress(IntegrityError, FormatError, NotFoundError):
                tasks.update(_tasks(decode_commit(store.get(entry.key), key=entry.key)))
    return tuple(sorted(tasks))


def _tasks(commit: Commit) -> Iterator[str]:
    for action in commit.actions:
        if isinstance(action, PutRoute):
            yield action.route.task
        elif isinstance(action, RemoveRoute | CloseSearch):
            yield action.task
        elif isinstance(action, Restore):
            yield from action.routes


def _grown_since(store: Store, head: int) -> bool:
    return next(iter(read_commits(store, head + 1, head + 1)), None) is not None


def _remember(history: _History, commit: Commit) -> None:
    put = [action.route for action in commit.actions if isinstance(action, PutRoute)]
    for action in commit.actions:
        if isinstance(action, AddModules):
            by = (put[0].task, put[0].visibility) if put else ("", "Public")
            for module in action.modules:
                history.origin.setdefault(module, by)
            history.gone.difference_update(action.modules)
        elif isinstance(action, Swept):
            history.gone.update(action.ids)
        elif isinstance(action, Restore):
            put += [route for route in action.routes.values() if route is not None]
    history.routes.update((route.id, route) for route in put)
    history.gone.difference_update(route.id for route in put)


def _collected(history: _History) -> Iterator[Finding]:
    """No route may need what gc has condemned, or deleted and no commit brought back."""
    for route in history.graph.routes():
        for blob in dict.fromkeys((route.id, *route.module_ids())):
            if blob in history.graph.condemned:
                yield Finding("gc", f"blob {blob[:12]}… is in use and condemned", (route.task,))
            elif blob in history.gone:
                yield Finding("gc", f"blob {blob[:12]}… is in use, and the log says it was deleted", (route.task,))


def _users(routes: Iterable[RouteSummary]) -> dict[str, tuple[str, ...]]:
    """The tasks that use each module."""
    users: dict[str, tuple[str, ...]] = {}
    for route in routes:
        for module in dict.fromkeys(route.module_ids()):
            users[module] = (*users.get(module, ()), route.task)
    return users


def _blobs(
    store: Store,
    routes: Iterable[RouteSummary],
    users: Mapping[str, tuple[str, ...]],
    progress: Callable[[str], None],
) -> tuple[dict[str, int], list[Finding]]:
    """Read every blob in use once; bytes of tensors by module."""
    sizes: dict[str, int] = {}
    findings: list[Finding] = []
    for route in routes:
        progress(route.task)
        findings += _document(store, route)
        fresh = [module for module in dict.fromkeys(route.module_ids()) if module not in sizes]
        for module, size in zip(fresh, parallel.each(lambda module: _module_bytes(store, module), fresh), strict=True):
            sizes[module] = size if isinstance(size, int) else 0
            if isinstance(size, str):
                findings.append(Finding("blob", size, users[module]))
    return sizes, findings


def _module_bytes(store: Store, module_id: str) -> int | str:
    """Bytes of the module's tensors, or what is wrong with it."""
    try:
        return get_module(store, module_id).num_bytes
    except (IntegrityError, NotFoundError) as error:
        return str(error)


def _document(store: Store, route: RouteSummary) -> Iterator[Finding]:
    """The route's document must be whole and say what the log says."""
    try:
        document = get_route(store, route.id)
    except (IntegrityError, NotFoundError) as error:
        yield Finding("blob", str(error), (route.task,))
        return
    said = (document.task, document.parent, document.layers)
    if said != (route.task, route.parent, route.layers):
        yield Finding("reference", f"route {route.id[:12]}… differs between its document and the log", (route.task,))


def _listed(
    store: Store, routes: Iterable[RouteSummary], users: Mapping[str, tuple[str, ...]]
) -> tuple[dict[str, int], list[Finding]]:
    """Every blob in use must be in the listing; its contents are not read."""
    present = {entry.key: entry.size for prefix in (names.MODULES, names.ROUTES) for entry in store.list(prefix)}
    wanted = {names.module_key(module): tasks for module, tasks in users.items()}
    wanted.update((names.route_key(route.id), (route.task,)) for route in routes)
    findings = [
        Finding("blob", f"{store.url}/{key} does not exist", tasks)
        for key, tasks in wanted.items()
        if key not in present
    ]
    return {key: present[key] for key in wanted if key in present}, findings


def _ancestors_documents(
    store: Store, history: _History, routes: Iterable[RouteSummary], *, full: bool
) -> Iterator[Finding]:
    """Documents of ancestors that serve no more must stay: lineage is read from them."""
    serving = {route.id: route for route in routes}
    heirs: dict[str, list[str]] = {}
    for route in serving.values():
        for ancestor in _chain(history, route):
            if ancestor not in serving:
                heirs.setdefault(ancestor, []).append(route.task)
    present = set() if full else {entry.key for entry in store.list(names.ROUTES)}
    for ancestor, tasks in heirs.items():
        try:
            if full:
                get_route(store, ancestor)
            elif names.route_key(ancestor) not in present:
                raise NotFoundError(f"{store.url}/{names.route_key(ancestor)} does not exist")
        except (IntegrityError, NotFoundError) as error:
            yield Finding("lineage", f"an ancestor's document: {error}", tuple(tasks))


def _chain(history: _History, route: RouteSummary) -> Iterator[str]:
    """Ids of the ancestors that the log knows, nearest first."""
    seen = {route.id}
    parent = history.routes.get(route.parent or "")
    while parent is not None and parent.id not in seen:
        seen.add(parent.id)
        yield parent.id
        parent = history.routes.get(parent.parent or "")


def _lineage(history: _History, routes: Iterable[RouteSummary]) -> Iterator[Finding]:
    """Every route's ancestors must lead to the root, none through another task's private route, nor share with one."""
    for route in routes:
        yield from _ancestors(history, route)
        for module in dict.fromkeys(route.module_ids()):
            task, visibility = history.origin.get(module, (route.task, "Public"))
            if module not in history.origin:
                what = f"module {module[:12]}… was never added by a commit"
                yield Finding("reference", what, (route.task,))
            elif visibility == "Private" and task != route.task:
                what = f"module {module[:12]}… of the private task {task} is used by another"
                yield Finding("privacy", what, (task, route.task))


def _ancestors(history: _History, route: RouteSummary) -> Iterator[Finding]:
    seen = {route.id}
    child = route
    while not child.is_root:
        parent = history.routes.get(child.parent or "")
        if parent is None or parent.id in seen or parent.task != child.parent_task:
            yield Finding("lineage", f"the parent of route {child.id[:12]}… is not in the log", (route.task,))
            return
        if parent.visibility == "Private" and parent.task != child.task:
            what = f"{child.task} builds on the private task {parent.task}"
            yield Finding("privacy", what, tuple(dict.fromkeys((parent.task, child.task, route.task))))
        seen.add(parent.id)
        child = parent
