"""Whether a Task may be worked on: its spec, its graph, its rights, what the platform allows.

The answer is the condition Accepted. Called by ``reconcile`` before anything else; nothing is created for a Task
that is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evergraft.api.check import check
from evergraft.api.modulegraph import ModuleGraph
from evergraft.api.rules import cluster_problems
from evergraft.api.task import Task
from evergraft.errors import SpecError
from evergraft.names import RunKey
from evergraft_operator import access, conditions, jobs, policy, reading
from evergraft_operator.observed import Observed, Thing
from evergraft_operator.resolving import Wanted, want

MAX_PROBLEMS = 5
MAX_IMAGE = 400
"""A digest still has to fit behind it in the status."""
REVOKED = ("TaskIDTaken", "GraphAccessDenied")
"""Refusals that also end what is running."""
PERSONAL = ("InvalidSpec", "PolicyViolation", "TaskIDTaken", "GraphAccessDenied")
"""Refusals that do not pass by waiting for the rest of an install."""


@dataclass(frozen=True)
class Refusal:
    """Why a Task is not accepted, as a condition says it."""

    reason: str
    message: str


@dataclass(frozen=True)
class Admission:
    """`wanted` is there as far as the spec and the graph could be read, also for a Task that is refused."""

    wanted: Wanted | None
    refusal: Refusal | None


def admit(observed: Observed) -> Admission:
    """Judge the Task. The first thing wrong is told."""
    task, refusal = read_task(observed.task)
    if task is None:
        return Admission(None, refusal)
    graph, refusal = _graph(task, observed)
    if graph is None:
        return Admission(None, refusal)
    try:
        wanted = want(task, graph, observed.settings)
    except SpecError as error:
        return Admission(None, Refusal("InvalidSpec", str(error)))
    return Admission(wanted, refusal or _refused(wanted, observed))


def read_task(thing: Thing) -> tuple[Task | None, Refusal | None]:
    """The Task as the API models it, or everything that is wrong with its spec."""
    document, wrong = read_document(thing, "Task")
    return (document, None) if isinstance(document, Task) else (None, Refusal("InvalidSpec", wrong))


def read_graph(thing: Thing) -> tuple[ModuleGraph | None, str]:
    """The ModuleGraph as the API models it, or what is wrong with its spec."""
    document, wrong = read_document(thing, "ModuleGraph")
    return (document, wrong) if isinstance(document, ModuleGraph) else (None, wrong)


def read_document(thing: Thing, kind: str) -> tuple[Task | ModuleGraph | None, str]:
    """Check an object's spec; its metadata was Kubernetes' to check, and only the names are taken from it."""
    value: dict[str, Any] = {
        "apiVersion": "evergraft.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": thing.name, "namespace": thing.namespace},
        "spec": thing.spec,
    }
    try:
        document, problems = check(value)
        problems = problems or (cluster_problems(document) if document is not None else ())
    except RecursionError:
        return None, "spec: nested too deeply"
    wrong = "; ".join(map(str, problems[:MAX_PROBLEMS]))
    return (None, wrong) if problems else (document, "")


def _graph(task: Task, observed: Observed) -> tuple[ModuleGraph | None, Refusal | None]:
    """The graph, even if it refuses this Task, or why there is none to speak of."""
    ref = task.spec.graph_ref
    name = f"{ref.namespace or task.namespace}/{ref.name}"
    thing = observed.graph
    if thing is None:
        return None, Refusal("GraphNotFound", f"there is no ModuleGraph {name}; apply one, or change spec.graphRef")
    graph, wrong = read_graph(thing)
    if graph is None:
        return None, Refusal("GraphNotReady", f"ModuleGraph {name} is not valid: {wrong}")
    denied = access.denial(graph, task.namespace, observed.namespace_labels)
    if denied is not None:
        return graph, Refusal("GraphAccessDenied", denied)
    ready = conditions.read(thing.status).get("Ready")
    if thing.deleting is not None or ready is None or not ready.holds:
        why = "it is being deleted" if thing.deleting else (ready.message if ready else "") or "it is being prepared"
        return graph, Refusal("GraphNotReady", f"ModuleGraph {name} is not ready: {why}")
    return graph, None


def _refused(wanted: Wanted, observed: Observed) -> Refusal | None:
    elder = min(observed.rivals, key=lambda rival: rival.age_key, default=None)
    if elder is not None and elder.age_key < observed.task.age_key:
        owner = f"{elder.namespace}/{elder.name}"
        told = f"task id {wanted.task.id} belongs to the older Task {owner}; set another spec.taskID"
        return Refusal("TaskIDTaken", told)
    if found := policy.violations(wanted, observed.settings.policy):
        return Refusal("PolicyViolation", "; ".join(found[:MAX_PROBLEMS]))
    if observed.service_account_found is False:
        name = wanted.workers.service_account_name or "default"
        told = f"there is no ServiceAccount {name} in namespace {wanted.task.namespace}; create it"
        return Refusal("ServiceAccountNotFound", told)
    if len(wanted.workers.image or "") > MAX_IMAGE:
        return Refusal("InvalidSpec", f"spec.workers.image: longer than {MAX_IMAGE} characters; use a shorter name")
    size = len(jobs.worker_spec(wanted, RunKey(wanted.task.spec.iteration, 1)))
    if size > jobs.MAX_SPEC_BYTES:
        told = f"spec: {size} bytes once resolved; at most {jobs.MAX_SPEC_BYTES} reach the workers; shorten search"
        return Refusal("InvalidSpec", told)
    return None


def is_denied(status: Mapping[str, Any]) -> bool:
    """Whether a Task's status says that its graph does not let it in."""
    accepted = conditions.read(status).get("Accepted")
    return accepted is not None and not accepted.holds and accepted.reason == "GraphAccessDenied"


def raw_flag(spec: Mapping[str, Any], name: str) -> bool:
    """A switch of a spec that may otherwise be unreadable."""
    return spec.get(name) is True


def raw_iteration(spec: Mapping[str, Any]) -> int:
    """The iteration of a spec that may otherwise be unreadable."""
    return reading.whole(spec.get("iteration", 1), low=1, high=999_999_999) or 1


def raw_accelerator(spec: Mapping[str, Any]) -> str:
    """What the workers of a spec that may otherwise be unreadable compute on, as far as it says so itself."""
    return reading.text(reading.mapping(spec, "workers", "accelerator").get("type"), 8) or "CPU"
