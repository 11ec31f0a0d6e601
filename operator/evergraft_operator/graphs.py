"""Reconcile a ModuleGraph: `reconcile_graph(observed, now) -> Plan`. Pure, like its sibling for Tasks.

All a graph needs of its store is done by stewards, one at a time: start or adopt it, read HEAD for Tasks that ask,
remove routes, collect garbage and verify on schedule. Those two may take hours, so the others do not wait for them.
The store itself is never deleted. Called for every ModuleGraph key of the operator's queue.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Iterator

from evergraft.api.modulegraph import Maintenance, ModuleGraph
from evergraft_operator import admission, conditions, cron, policy, reading, stewards, whereabouts
from evergraft_operator.conditions import Condition
from evergraft_operator.events import Event
from evergraft_operator.graphstatus import (
    GraphObserved,
    GraphStatus,
    answers,
    fields_of,
    found_damage,
    learn,
    read_status,
)
from evergraft_operator.observed import Thing
from evergraft_operator.places import store_place
from evergraft_operator.plan import Deletion, Fields, Plan
from evergraft_operator.reading import Moment, seconds_between
from evergraft_operator.stewards import Errand, Question, Removal

__all__ = ["GraphObserved", "reconcile_graph"]

RETRY_S = 300.0
"""How long a steward that failed stays for its log before the next one takes its name."""
REFUSED_RETRY_S = 60.0
"""How long a steward's Job that the API server refused is not tried again, nor one deleted again that stays."""
LONG = ("collect", "verify")
"""Duties beside which another steward may be at work."""
_INTERVALS = {"Daily": 1, "Weekly": 7, "Monthly": 30}


def reconcile_graph(observed: GraphObserved, now: Moment) -> Plan:
    """What to do about a ModuleGraph, and its whole status if that changes. Never raises."""
    thing = observed.graph
    if thing.deleting is not None:
        return Plan()
    spec, wrong = admission.read_graph(thing)
    refusal = ("InvalidSpec", wrong) if spec is None else _refusal(spec, observed)
    before = conditions.read(thing.status)
    status = learn(read_status(thing.status), observed)
    errands = () if spec is None or refusal is not None else tuple(_errands(spec, status, observed, now))
    act = _send(observed, spec, errands, now) if spec is not None else Plan()
    held = whereabouts.held_up(observed, now)
    wanted = list(_conditions(observed, status, refusal, before, errands, held))
    fields = fields_of(
        status, conditions.settle(before, wanted, generation=thing.generation, now=now), thing.generation
    )
    changed = fields != dict(thing.status)
    due = _next_due(spec, status, thing, now) if spec is not None and refusal is None else None
    look = whereabouts.next_look(observed, now)
    waits = [time for time in (act.requeue_s, due, look) if time is not None]
    return Plan(
        create=act.create,
        delete=act.delete,
        status=fields if changed else None,
        events=tuple(_events(before, fields)) if changed else (),
        requeue_s=max(1.0, min(waits)) if waits else None,
    )


def _refusal(spec: ModuleGraph, observed: GraphObserved) -> tuple[str, str] | None:
    """Reason and sentence why this graph is not worked on: the policy forbids it, or its store is another's."""
    forbidden = policy.graph_violations(spec, observed.settings.policy)
    if forbidden:
        return "PolicyViolation", "; ".join(forbidden)
    return _taken(observed.graph, observed.rivals)


def _taken(thing: Thing, rivals: Iterable[Thing]) -> tuple[str, str] | None:
    """The older ModuleGraph that has this one's store, or a folder around or inside it; None if there is none.

    One that is refused itself counts too: it takes over once its own elder is gone, and must find nobody in its way.
    """
    mine = store_place(thing.namespace, thing.spec)
    for rival in sorted(rivals, key=lambda rival: rival.age_key):
        theirs = store_place(rival.namespace, rival.spec)
        if mine is None or theirs is None or rival.age_key >= thing.age_key or not mine.overlaps(theirs):
            continue
        if admission.read_graph(rival)[0] is not None:
            elder = f"the older ModuleGraph {rival.namespace}/{rival.name}"
            if mine == theirs:
                return "StoreTaken", f"the store belongs to {elder}; use that one"
            inside = f"{mine} lies inside {theirs}" if theirs.holds(mine) else f"{theirs} lies inside {mine}"
            return "StoreTaken", f"shares objects with {elder}: {inside}; use that one, or a folder beside it"
    return None


def _errands(spec: ModuleGraph, status: GraphStatus, observed: GraphObserved, now: Moment) -> Iterator[Errand]:
    """What stewards are to do, the most urgent first."""
    if status.graph is None:
        yield stewards.init_errand(spec)
        return
    if removals := _open_removals(observed):
        yield stewards.remove_errand(removals)
    if questions := _open_questions(observed):
        yield stewards.heads_errand(questions)
    maintenance = spec.spec.maintenance or Maintenance()
    start = observed.graph.created or now
    due = _collection_due(maintenance, status.collected or start)
    if due is not None and due <= now:
        yield stewards.collect_errand(spec, due=reading.written(due))
    due = _verification_due(maintenance, status.verified or start)
    if due is not None and due <= now:
        yield stewards.verify_errand(due=reading.written(due))


def _open_questions(observed: GraphObserved) -> list[Question]:
    """The questions that no steward has answered yet, in a lasting order; last those that one had no answer to.

    An answer may not have fit beside others, or a task's commits cannot be read: such must not hold up the rest.
    """
    facts = [fact for job in observed.jobs for fact in stewards.head_facts(job, observed.pods)]
    answered = {(fact.uid, fact.run, fact.attempt) for fact in facts}
    asked = [job for job in observed.jobs if job.duty == "heads" and job.complete]
    tried = Counter(uid for job in asked for uid in stewards.asked_about(job))
    unanswered = (item for item in observed.questions if (item.uid, item.run, item.attempt) not in answered)
    return sorted(unanswered, key=lambda item: (tried[item.uid], item.uid, str(item.run), item.attempt))


def _open_removals(observed: GraphObserved) -> list[Removal]:
    """The routes that no steward has removed yet; last those that one could not, since others build on them."""
    facts = [fact for job in observed.jobs for fact in stewards.removal_facts(job, observed.pods)]
    removed = {fact.uid for fact in facts if fact.done}
    tried = Counter(fact.uid for fact in facts)
    left = (item for item in observed.removals if item.uid not in removed)
    return sorted(left, key=lambda item: (tried[item.uid], item.uid))


def _collection_due(maintenance: Maintenance, last: Moment) -> Moment | None:
    if maintenance.schedule is None:
        return None
    try:
        return cron.parse(maintenance.schedule).next_after(last)
    except ValueError:
        return None  # The conditions tell.


def _verification_due(maintenance: Maintenance, last: Moment) -> Moment | None:
    days = _INTERVALS.get(maintenance.verify or "Never")
    return None if days is None else last + datetime.timedelta(days=days)


def _next_due(spec: ModuleGraph, status: GraphStatus, thing: Thing, now: Moment) -> float | None:
    """Seconds until maintenance is due, None if it is overdue or there is none."""
    times = maintenance_due(spec, status, created=thing.created or now).values()
    return min((seconds_between(now, time) for time in times if time > now), default=None)


def maintenance_due(spec: ModuleGraph, status: GraphStatus, *, created: Moment) -> dict[str, Moment]:
    """When each duty that is scheduled is due, `collect` and `verify`; in the past where it is overdue."""
    maintenance = spec.spec.maintenance or Maintenance()
    times = {
        "collect": _collection_due(maintenance, status.collected or created),
        "verify": _verification_due(maintenance, status.verified or created),
    }
    return {duty: time for duty, time in times.items() if time is not None}


def _send(observed: GraphObserved, spec: ModuleGraph, errands: Iterable[Errand], now: Moment) -> Plan:
    """Create the Job of the first errand in whose way no steward is; one that has only just failed lets others by.

    First those go that are lost. Stewards are deleted in the background, so that no pod keeps the name of its Job.
    """
    if gone := whereabouts.lost(observed, now):
        return Plan(delete=tuple(Deletion.of(job, foreground=False) for job in gone))
    rests: list[float] = []
    at_work = [job.duty for job in observed.jobs if whereabouts.in_the_way(job, now)]
    for errand in errands:
        if any(errand.duty in LONG or duty not in LONG for duty in at_work):
            continue
        name = stewards.job_name(observed.graph, errand)
        spent = next((job for job in observed.jobs if job.name == name), None)
        if spent is None and observed.refused:
            return Plan(requeue_s=REFUSED_RETRY_S)
        if spent is None:
            job = stewards.steward_job(observed.graph, spec, errand, settings=observed.settings)
            return Plan(create=(job,))
        left = RETRY_S - seconds_between(spent.ended or spent.created, now)
        # One that is going, and is waited for no longer, was deleted in the foreground; this frees its name.
        if left <= 0 or spent.deleting is not None:
            return Plan(delete=(Deletion.of(spent, foreground=False),), requeue_s=REFUSED_RETRY_S)
        rests.append(left)
    return Plan(requeue_s=min(rests, default=None))


def _conditions(
    observed: GraphObserved,
    status: GraphStatus,
    refusal: tuple[str, str] | None,
    before: dict[str, Condition],
    errands: tuple[Errand, ...],
    held: tuple[str, str] | None,
) -> Iterator[Condition]:
    trouble = refusal or _refused(observed) or _bad_schedule(observed.graph)
    trouble = trouble or _failed(observed, errands, before.get("Stalled"))
    if refusal is not None:
        yield Condition("Ready", "False", *refusal)
    elif status.graph is None:
        yield Condition("Ready", "False", "Initializing", "the store is being probed and the graph started or adopted")
    else:
        yield Condition("Ready", "True", "Initialized", "Tasks can grow the graph")
    if held is not None and refusal is None:
        yield Condition("Reconciling", "True", *held)
    elif refusal is None and status.graph is None and trouble is None:
        yield Condition("Reconciling", "True", "Initializing", "a steward prepares the store")
    else:
        yield Condition("Reconciling", "False", "Settled", "nothing is being prepared")
    if trouble is not None:
        yield Condition("Stalled", "True", *trouble)
    else:
        yield Condition("Stalled", "False", "NotStalled", "nothing needs a person")
    yield _verification(observed, before)


def _bad_schedule(graph: Thing) -> tuple[str, str] | None:
    schedule = reading.mapping(graph.spec, "maintenance").get("schedule")
    try:
        due = cron.parse(schedule).next_after(graph.created or reading.EPOCH) if isinstance(schedule, str) else True
    except ValueError as error:
        return "InvalidSchedule", f"spec.maintenance.schedule: {error}"
    return None if due else ("InvalidSchedule", "spec.maintenance.schedule: no day ever meets it")


def _refused(observed: GraphObserved) -> tuple[str, str] | None:
    told = f"the API server refuses the steward's Job, and Tasks wait for it: {observed.refused}"
    return ("StewardRefused", told) if observed.refused else None


def _failed(observed: GraphObserved, errands: Iterable[Errand], before: Condition | None) -> tuple[str, str] | None:
    """The steward that failed at what is to be done now. It is tried again, and told of until one has ended well."""
    found = list(answers(observed))
    failed = {job.name: told.reason or "no report" for job, told in found if not told.ok}
    lasting = before if before and before.holds and before.generation == observed.graph.generation else None
    since = lasting.since if lasting is not None else None
    mended = {job.duty for job, told in found if told.ok and since and job.ended and job.ended >= since}
    for errand in errands:
        kind = f"{errand.duty.capitalize()}Failed"
        reason = failed.get(stewards.job_name(observed.graph, errand))
        if reason is not None:
            return kind, f"{reason}; tried again every 5 minutes"
        if lasting is not None and lasting.reason == kind and errand.duty not in mended:
            return kind, lasting.message
    return None


def _verification(observed: GraphObserved, before: dict[str, Condition]) -> Condition:
    """How the newest verification ended; one that could not be carried out says nothing."""
    for job, found in reversed(list(answers(observed))):
        if job.duty == "verify" and found.ok:
            return Condition("Verified", "True", "Verified", found.reason or "everything holds")
        if job.duty == "verify" and found_damage(job, observed.pods):
            return Condition("Verified", "False", "Damaged", found.reason or "see the steward's log")
    return before.get("Verified") or Condition("Verified", "Unknown", "NotVerified", "not verified yet")


def _events(before: dict[str, Condition], fields: Fields) -> Iterator[Event]:
    stalled, was = conditions.read(fields)["Stalled"], before.get("Stalled")
    if stalled.holds and (was is None or not was.holds or was.reason != stalled.reason):
        yield Event("Stalled", f"{stalled.reason}: {stalled.message}", warning=True)
