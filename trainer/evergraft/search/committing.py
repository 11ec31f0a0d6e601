"""The end of a search: uploading what its closing document names, and the one commit that closes it.

Any worker may do it, for the document says all; but the one that wrote the document goes first, so that others do not
upload the same again. Called by the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import evergraft
from evergraft import names
from evergraft.api.resolved import ResolvedTask
from evergraft.errors import AlreadyCommittedError, IntegrityError, SpecDiffersError
from evergraft.graph.commit import Action, AddModules, CloseSearch, PutRoute
from evergraft.graph.route import Route, RouteSummary, count, reading
from evergraft.graph.state import Graph, check_run
from evergraft.names import RunKey
from evergraft.search import closing
from evergraft.search.claims import Crew
from evergraft.search.folder import Folder
from evergraft.store import blobs, log


@dataclass(frozen=True)
class Request:
    """One run of one task, as asked for."""

    spec: ResolvedTask
    run: RunKey
    task_hash: str
    spec_hash: str

    @property
    def search(self) -> str:
        """The id of its search."""
        return names.search_id(self.spec.task, self.run)


@dataclass(frozen=True)
class Outcome:
    """How a search ended: committed, kept, none, failed; or already, when HEAD had closed this run before.

    `route` is the one that serves the task at `version`, whichever search it came from.
    """

    kind: str
    version: int
    route: RouteSummary | None
    reason: str


def standing_of(graph: Graph, request: Request) -> Outcome | None:
    """How HEAD says this run ended, None if it is still to be done.

    Raises:
        SpecDiffersError: HEAD holds a run of this iteration, be it another cycle's, that was made from another spec.
        RouteRemovedError: the run is closed and its route was removed.
    """
    ended = ""
    try:
        check_run(graph, request.spec.task, request.run)
    except AlreadyCommittedError as error:
        ended = str(error)
    state = graph.task(request.spec.task)
    if state is None or state.run is None:
        return None
    if state.run.iteration == request.run.iteration and state.task_hash != request.task_hash:
        raise SpecDiffersError(
            f"{request.spec.task}: run {state.run} is committed with another metric, dataset or search; "
            f"raise spec.iteration to {state.run.iteration + 1} to train it again"
        )
    return Outcome(kind="already", version=graph.version, route=state.route, reason=ended) if ended else None


def left_to_another(folder: Folder, graph: Graph, *, request: Request, crew: Crew) -> tuple[Outcome | None, Graph]:
    """Wait for the commit of the worker that made the closing document, while it may be at it.

    No outcome if it has died, or takes longer than a quarter of what makes a claim dead: then anybody commits.
    """
    began = crew.clock()
    while not crew.has_died(folder, names.FINAL) and crew.clock() - began <= crew.timing.dead_s / 4:
        graph = log.refresh(folder.store, graph)
        standing = standing_of(graph, request)
        if standing is not None:
            return standing, graph
        crew.wait()
    return None, graph


def commit(
    folder: Folder, graph: Graph, *, request: Request, base: int, final: Mapping[str, Any]
) -> tuple[Outcome, Graph]:
    """Upload what the closing document names, then close the search in one commit.

    Raises:
        IntegrityError: the closing document is damaged, or it names other weights than there are.
    """
    with reading(names.final_key(folder.search)):
        close = CloseSearch(
            task=request.spec.task,
            run=request.run,
            search=folder.search,
            task_hash=request.task_hash,
            outcome=closing.outcome_of(final),
            visibility=request.spec.visibility,
            sampled={str(route): count(times) for route, times in final["sampled"].items()},
        )
        reason, winner = str(final["reason"]), _winner(final)
    actions: list[Action] = [close]
    if winner is not None:
        route, summary = winner
        sizes = closing.upload(folder, final)
        if blobs.put_route(folder.store, route) != summary.id:
            raise IntegrityError(f"searches/{folder.search}: the winner's summary is of another route than is there")
        actions = [AddModules(sizes), PutRoute(summary), close]
    try:
        after, landed = log.commit(
            folder.store,
            graph,
            actions=tuple(actions),
            base=base,
            author=f"evergraft {evergraft.__version__}",
            search=folder.search,
            uploaded=graph.version,
        )
    except AlreadyCommittedError:
        # Another worker was first with the same document, or a later run has overtaken this one.
        after = log.refresh(folder.store, graph)
        standing = standing_of(after, request)
        assert standing is not None
        return standing, after
    state = after.task(request.spec.task)
    route_now = state.route if state is not None else None
    return Outcome(kind=close.outcome, version=landed.version, route=route_now, reason=reason), after


def _winner(final: Mapping[str, Any]) -> tuple[Route, RouteSummary] | None:
    """The route that a closing document commits, with its summary; None if it commits none."""
    if final["route"] is None:
        return None
    return Route.from_json(final["route"]), RouteSummary.from_json(final["summary"])
