"""The five duties of a steward: start or adopt a graph, read heads, remove routes, collect, verify.

Each may be cut off anywhere and done again. Only `init`, and `verify` with answers, need torch; the others run in an
image without it. Called by ``evergraft steward``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from evergraft.api.check import without_nulls
from evergraft.api.messages import validate
from evergraft.api.root import Root
from evergraft.errors import ConflictError, IntegrityError, NotAGraphError, SpecError, StoreConflictError, UserError
from evergraft.names import ROOT_TASK
from evergraft.steward.answer import Answer
from evergraft.steward.errand import Errand
from evergraft.store import log
from evergraft.store.gc import gc
from evergraft.store.headline import MAX_LISTED, all_totals, head_facts
from evergraft.store.remove import remove_route
from evergraft.store.seam import Store
from evergraft.store.verify import verify

AUTHOR = "evergraft steward"


def carry_out(errand: Errand) -> Answer:
    """Do it.

    Raises:
        UserError, IntegrityError: a person must act; exit codes 64 and 65.
        StoreError: it may pass; exit code 75.
    """
    return DUTIES[errand.duty](errand, errand.store.open())


def _init(errand: Errand, store: Store) -> Answer:
    """Probe the store, then start the graph, or adopt the one that is there and starts from the same root."""
    root, problems = validate(Root, without_nulls(errand.fields.get("root")), ("root",))
    if root is None:
        raise SpecError("; ".join(map(str, problems)))
    try:
        from evergraft_trainer.roots import init_with_access
    except ImportError as error:
        raise UserError(f"init: a root is made with torch, which this image lacks ({error})") from None
    graph = init_with_access(errand.store, root)
    what = "started" if graph.version == 0 else "adopted"
    reason = f"the graph is {what} at version {graph.version}"
    return Answer(reason, graph_id=log.read_info(store).graph, graph=all_totals(store, graph))


def _heads(errand: Errand, store: Store) -> Answer:
    """What HEAD says of each task; null for one that cannot be read."""
    info = log.read_info(store)
    heads = []
    for task in errand.tasks():
        try:
            heads.append(None if task is None else head_facts(store, task, log.read_task(store, task)[0]))
        except IntegrityError:
            heads.append(None)
    return Answer(f"{len(heads)} tasks were read", graph_id=info.graph, heads=heads)


def _remove(errand: Errand, store: Store) -> Answer:
    """Take tasks' routes out of service, whichever can go first; exit code 64 if one has to stay."""
    tasks, iterations = errand.named(), errand.iterations()
    told: dict[str, str] = {}
    stays: dict[str, str] = {}
    left = tuple(dict.fromkeys(tasks))
    while left:
        stays = {}
        for task in left:
            try:
                told[task] = _remove_one(store, task, iterations.get(task))
            except UserError as error:
                stays[task] = str(error)
        # What builds on another may be among them, so another turn may do what this one could not.
        left = tuple(stays) if len(stays) < len(left) else ()
    reason = next(iter(stays.values()), "; ".join(told.values()))
    try:
        graph = all_totals(store, log.read_graph(store), at_most=MAX_LISTED)
    except NotAGraphError:
        graph = None
    code = UserError.exit_code if stays else 0
    return Answer(reason, graph=graph, removed=[task not in stays for task in tasks], exit_code=code)


def _remove_one(store: Store, task: str, iteration: int | None) -> str:
    """Take a task's route out of service, in a sentence; done already where there is none.

    Raises:
        UserError: it is the root, of a later iteration than is meant, or others build on it.
    """
    if task == ROOT_TASK:
        raise UserError("remove: the root is no task's route and stays")
    try:
        state, version = log.read_task(store, task)
    except NotAGraphError:
        return f"{task}: there is no graph, so no route serves it"
    if state is None or state.route is None:
        return f"{task}: no route serves it at version {version}"
    try:
        after = remove_route(store, task, iteration=iteration, author=AUTHOR)
    except ConflictError:
        state, version = log.read_task(store, task)
        if state is not None and state.route is None:
            return f"{task}: another has removed its route by version {version}"
        raise
    return f"{task}: its route is removed at version {after.version}"


def _collect(errand: Errand, store: Store) -> Answer:
    """Carry garbage one step further.

    Raises:
        StoreConflictError: commits were faster every time; to be tried again.
    """
    try:
        done = gc(store, grace_s=errand.grace_s(), author=AUTHOR)
    except ConflictError as error:
        raise StoreConflictError(str(error)) from None
    freed = (
        f"{len(done.plan.condemn)} blobs condemned, {done.deleted} deleted ({done.plan.freed} bytes), "
        f"{len(done.plan.swept)} names free again, {len(done.plan.folders)} folders of closed searches deleted"
    )
    return Answer(freed, graph=all_totals(store, log.read_graph(store)))


def _verify(errand: Errand, store: Store) -> Answer:
    """Walk the whole graph, and recompute golden answers if that is asked for; exit code 65 if anything is wrong."""
    report = verify(store)
    wrong = [finding.what for finding in report.findings]
    told = f"{report.commits} commits, {report.routes} routes and {report.modules} modules"
    if errand.fields.get("answers") is True:
        answers, failed = _answers(store)
        wrong += failed
        told += f", {answers}"
    totals = None if report.findings else all_totals(store, log.read_graph(store))
    if wrong:
        more = f" (and {len(wrong) - 1} more; run evergraft graph verify)" if len(wrong) > 1 else ""
        return Answer(f"{wrong[0]}{more}", graph=totals, exit_code=IntegrityError.exit_code)
    return Answer(f"everything holds: {told}", graph=totals)


def _answers(store: Store) -> tuple[str, list[str]]:
    """Which golden answers were recomputed, in words, and those that do not hold."""
    try:
        from evergraft_trainer import profile
        from evergraft_trainer.answers import check_answers
        from evergraft_trainer.device import open_device
    except ImportError:
        return "but no golden answers, since this image has no torch", []
    profile.apply(threads=1)
    rows = check_answers(store, device=open_device("cpu"))
    failed = [f"{row['task']}: golden answers {row['how']}" for row in rows if not row["holds"]]
    return f"{len(rows)} routes' golden answers", failed


DUTIES: Mapping[str, Callable[[Errand, Store], Answer]] = MappingProxyType(
    {"init": _init, "heads": _heads, "remove": _remove, "collect": _collect, "verify": _verify}
)
