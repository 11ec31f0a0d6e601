"""What the operator writes about a Task and a ModuleGraph, and `kubectl get` shows.

Every list, map and text is bounded, so that a status stays under 8 KiB whatever the budget of its search. The CRDs
are rendered from these models (``api.crd``); the operator builds them and applies them whole. Fields that a newer
operator wrote are passed over, so that an older one can read on.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from evergraft.api.fields import DECIMAL, Items, Part

TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"

Phase = Literal[
    "Pending", "Queued", "Starting", "Training", "Committing", "Succeeded", "Failed", "Suspended", "Deleting"
]

Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
"""At most what a JSON number holds exactly; an API server reads bounds as such."""
Text = Annotated[str, Field(max_length=253)]
Decimal = Annotated[str, Field(pattern=DECIMAL, max_length=32)]
Time = Annotated[
    str, Field(pattern=TIME, max_length=20), WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 64})
]
"""A moment in UTC, to the second."""


class Observed(Part):
    """Any object of a status."""

    model_config = ConfigDict(extra="ignore")


class Condition(Observed):
    """One aspect of the object's state."""

    type: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Z][A-Za-z0-9]*$")]
    """Which aspect."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: Count | None = None
    """The generation of the spec that this speaks of."""
    last_transition_time: Time
    """When the status last changed."""
    reason: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Z][A-Za-z0-9]*$")]
    """Why, in one word that programs may read."""
    message: Annotated[str, Field(max_length=512)] = ""
    """Why, in a sentence for people."""


Conditions = Annotated[Items[Condition], Field(max_length=8)]


class SearchStatus(Observed):
    """The search of the current iteration, running or ended."""

    id: Text | None = None
    """The search's id in the store."""
    run_key: Annotated[str, Field(max_length=63)] | None = None
    """Iteration and cycle, such as i1-c1."""
    attempt: Count | None = None
    """How often its Job was started."""
    outcome: Literal["committed", "kept", "none", "failed", "removed"] | None = None
    """How the graph's log says it ended; absent while it is open."""
    spec_hash: Annotated[str, Field(max_length=71)] | None = None
    """Digest of what was resolved for it."""
    base_version: Count | None = None
    """The graph's version it started from."""
    image: Annotated[str, Field(max_length=512)] | None = None
    """The trainer image, pinned by digest."""
    job_name: Annotated[str, Field(max_length=63)] | None = None
    """The Job of the current attempt."""
    start_time: Time | None = None
    """When its first ready worker started."""
    generation: Count | None = None
    """The generation of candidates under way, from 1."""
    generations: Count | None = None
    """How many there will be."""
    candidates_done: Count | None = None
    """Candidates with a result."""
    candidates: Count | None = None
    """Candidates in all."""
    best_score: Decimal | None = None
    """The best score so far."""
    last_progress_time: Time | None = None
    """When a worker last told of progress."""


class RouteStatus(Observed):
    """The task's committed route, which serves."""

    id: Text | None = None
    """The route's id in the graph."""
    version: Count | None = None
    """The graph's version that it was committed as."""
    run_key: Annotated[str, Field(max_length=63)] | None = None
    """Iteration and cycle of the search that found it."""
    quality: Decimal | None = None
    """The metric on the validation split."""
    score: Decimal | None = None
    """Quality weighed by size and compute."""
    test_quality: Decimal | None = None
    """The metric on the test split, read once."""
    parent_task: Text | None = None
    """The task whose route it grew from; absent for the root."""
    parameters_added: Count | None = None
    """Parameters that no earlier route had."""
    stopped_early: bool | None = None
    """Whether a timeout ended the search before its budget did."""
    committed_time: Time | None = None
    """When it was committed."""


class WorkersStatus(Observed):
    """The worker pods."""

    desired: Count | None = None
    """How many the spec asks for."""
    active: Count | None = None
    """How many exist and have not ended."""
    ready: Count | None = None
    """How many are ready."""
    selector: Annotated[str, Field(max_length=512)] | None = None
    """The label selector of the pods, for the scale subresource."""


class AcceleratorSeconds(Observed):
    """Device time of all iterations."""

    useful: Count | None = None
    """Seconds of training that counted."""
    lost: Count | None = None
    """Seconds of training that had to be done again."""


class TaskStatus(Observed):
    """How far a Task is."""

    observed_generation: Count | None = None
    """The generation of the spec that all below speaks of."""
    phase: Phase | None = None
    """One word derived from the conditions, for people."""
    waiting: Annotated[str, Field(max_length=512)] | None = None
    """What the Task waits for, in one sentence; absent if for nothing."""
    progress: Annotated[str, Field(max_length=32)] | None = None
    """Generation under way of those planned, such as 2/4."""
    score: Decimal | None = None
    """The best score of the search while it runs, else that of the committed route."""
    search: SearchStatus | None = None
    """The search of the current iteration."""
    route: RouteStatus | None = None
    """The committed route."""
    workers: WorkersStatus | None = None
    """The worker pods."""
    failures: Annotated[dict[str, Count], Field(max_length=32)] | None = None
    """How often workers of the current search failed, by reason."""
    accelerator_seconds: AcceleratorSeconds | None = None
    """Device time of all iterations."""
    conditions: Conditions | None = None
    """Accepted, Scheduled, Ready, Reconciling, Stalled and Suspended."""


class ModuleGraphStatus(Observed):
    """What a graph holds and how well it is."""

    observed_generation: Count | None = None
    """The generation of the spec that all below speaks of."""
    graph_id: Text | None = Field(default=None, alias="graphID")
    """The graph's id, made when it was initialised."""
    version: Count | None = None
    """Its newest version: how many commits it holds."""
    tasks: Count | None = None
    """Tasks with a route."""
    modules: Count | None = None
    """Modules in all."""
    parameters: Count | None = None
    """Parameters in all."""
    bytes: Count | None = None
    """Bytes that the modules of the graph take."""
    last_verify_time: Time | None = None
    """When the whole store was last verified."""
    last_collection_time: Time | None = None
    """When unused blobs were last collected."""
    conditions: Conditions | None = None
    """Ready, Reconciling, Stalled and Verified."""


def to_json(status: Observed) -> dict[str, Any]:
    """A status as it is applied: what is not known is left out."""
    return status.model_dump(by_alias=True, exclude_none=True, mode="json")
