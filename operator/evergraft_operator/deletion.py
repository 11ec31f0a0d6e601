"""What happens to a Task that is being deleted: its Jobs go, and with deletionPolicy Delete its route too.

A finalizer holds the Task back until a steward has taken the route out of service; it is given up after 10 minutes,
or at once where no steward will come: its graph is gone or going, or its namespace is. Called by ``reconcile``.
"""

from __future__ import annotations

from evergraft_operator import access, admission, labels, reading, status
from evergraft_operator.conditions import Condition
from evergraft_operator.events import Event
from evergraft_operator.observed import Observed, Thing
from evergraft_operator.plan import Deletion, Fields, Plan
from evergraft_operator.reading import Moment, seconds_between
from evergraft_operator.status import Content, Previous
from evergraft_operator.stewards import Removal

GIVEN_UP_AFTER_S = 600


def plan(observed: Observed, previous: Previous, now: Moment) -> Plan:
    """The plan for a Task with a deletion timestamp."""
    task = observed.task
    delete = tuple(Deletion.of(job) for job in observed.jobs if job.deleting is None)
    if not task.finalizers:
        return Plan(delete=delete)
    if labels.FINALIZER not in task.finalizers:
        others = f"others' finalizers: {', '.join(task.finalizers)}"  # Such as foreground deletion's.
        waiting = "its Jobs to be gone" if observed.jobs else others
        return Plan(delete=delete, status=_status(observed, previous, waiting, now))
    if raw_policy(task) != "Delete":
        return Plan(delete=delete, finalizer="remove")
    if not _own(observed, previous):
        return Plan(delete=delete, finalizer="remove")
    done, why = _outcome(observed, now)
    if done:
        event = Event("RouteRemoved", f"the route of {raw_task_id(task)} serves no more")
        return Plan(delete=delete, finalizer="remove", events=(event,))
    if why := why or _denied(observed) or "":
        event = Event("RouteNotRemoved", f"the route of {raw_task_id(task)} still serves: {why}", warning=True)
        return Plan(delete=delete, finalizer="remove", events=(event,))
    waiting = "its Jobs to be gone" if observed.jobs else "the route to be removed"
    left = GIVEN_UP_AFTER_S - seconds_between(task.deleting, now)
    return Plan(
        delete=delete,
        status=_status(observed, previous, waiting, now),
        # Whoever still trains could commit after the removal.
        removal=None if observed.jobs else Removal(task.uid, raw_task_id(task), _iteration(observed, previous)),
        requeue_s=max(1.0, left),
    )


def _iteration(observed: Observed, previous: Previous) -> int:
    """The highest iteration that the Task came to, by its own spec or by what HEAD had before it."""
    known = previous.search.run.iteration if previous.search is not None else 0
    return max(admission.raw_iteration(observed.task.spec), known)


def _own(observed: Observed, previous: Previous) -> bool:
    """Whether the route under this task id can be this Task's: it was searched for, and no older Task has the id.

    Who was never let into a graph, or named another's task id, must not take a route out of it by leaving.
    """
    worked = previous.search is not None or previous.route is not None or bool(observed.jobs)
    return worked and all(rival.age_key > observed.task.age_key for rival in observed.rivals)


def _denied(observed: Observed) -> str | None:
    """Why the graph takes no orders from this Task's namespace, None if it does.

    What the status and Jobs say could be forged by who may write to that namespace, and reaches no further than it.
    """
    graph = admission.read_graph(observed.graph)[0] if observed.graph is not None else None
    return access.denial(graph, observed.task.namespace, observed.namespace_labels) if graph is not None else None


def _outcome(observed: Observed, now: Moment) -> tuple[bool, str]:
    """Whether the route is gone, else why nobody waits for that any longer; empty while somebody does."""
    if observed.removal is not None and observed.removal.done and not observed.jobs:
        return True, ""
    if observed.graph_namespace_terminating:
        return False, "the namespace of its ModuleGraph is being deleted"
    if observed.graph is None:
        return False, "its ModuleGraph is gone"
    if observed.graph.deleting is not None:
        return False, "its ModuleGraph is being deleted"
    if seconds_between(observed.task.deleting, now) >= GIVEN_UP_AFTER_S:
        told = observed.removal.message if observed.removal is not None else ""
        return False, told or f"not done within {GIVEN_UP_AFTER_S // 60} minutes"
    return False, ""


def _status(observed: Observed, previous: Previous, waiting: str, now: Moment) -> Fields | None:
    """The whole status, None if it stands so."""
    task = observed.task
    fields = status.build(_content(observed, previous, waiting), previous, generation=task.generation, now=now)
    return fields if fields != dict(task.status) else None


def _content(observed: Observed, previous: Previous, waiting: str) -> Content:
    was = previous.conditions.values()
    kept = [item for item in was if item.type in ("Accepted", "Scheduled", "Ready", "Suspended")]
    return Content(
        conditions=(
            *kept,
            Condition("Reconciling", "True", "Deleting", "the Task is being deleted"),
            Condition("Stalled", "False", "NotStalled", "nothing needs a person"),
        ),
        task=raw_task_id(observed.task),
        search=previous.search,
        route=previous.route,
        failures=previous.failures,
        useful_s=previous.useful_s,
        lost_s=previous.lost_s,
        waiting=waiting,
        deleting=True,
    )


def raw_policy(task: Thing) -> str:
    """The deletion policy of a spec that may otherwise be unreadable."""
    return reading.text(task.spec.get("deletionPolicy"), 16) or "Retain"


def raw_task_id(task: Thing) -> str:
    """The task id of a spec that may otherwise be unreadable."""
    return reading.text(task.spec.get("taskID")) or f"{task.namespace}/{task.name}"
