"""Stewards: short CPU Jobs in a graph's namespace that do for the operator whatever touches the store.

Five duties: `init` a graph or adopt one, read `heads` of tasks, `remove` a route, `collect` garbage, `verify`. All
under the graph's own identity. What one is asked stands in EVERGRAFT_STEWARD (canonical JSON); what it answers in its
termination message. Heads are read by several pods of one Job, each its own part of the tasks. Builders give plain
dicts. Called by ``graphs``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evergraft import canonical
from evergraft.api.modulegraph import ModuleGraph
from evergraft.api.workers import Accelerator, PodTemplate, Resources
from evergraft.names import RunKey
from evergraft_operator import labels, pods, reading, report
from evergraft_operator.jobs import owner_reference
from evergraft_operator.observed import HeadFact, Job, Pod, RemovalFact, Thing
from evergraft_operator.pods import Fields
from evergraft_operator.report import Totals
from evergraft_operator.resolving import STORE_VOLUME, place_url
from evergraft_operator.settings import Settings

Duty = Literal["init", "heads", "remove", "collect", "verify"]

BATCH = 20
"""Tasks whose HEAD one pod reads: what its answer of 4,096 bytes can carry."""
MAX_PARTS = 8
"""Pods that read at the same time, each the next BATCH of the tasks: a cluster rebuilt from Git asks for thousands."""
MAX_ASKED = BATCH * MAX_PARTS
RETRIES = 3
LIFE_AFTER_S = 3600
GRACE_S = 30
DEADLINE_S: Mapping[str, int] = {"init": 3600, "heads": 1800, "remove": 1800, "collect": 86400, "verify": 86400}
"""How long a steward may stand in the way of the next."""


@dataclass(frozen=True)
class Question:
    """What HEAD says of a task, asked because of `run` and `attempt`, which tell later answers from earlier ones."""

    uid: str
    task: str
    run: RunKey
    attempt: int

    def to_json(self) -> Fields:
        """The JSON form."""
        return {"uid": self.uid, "task": self.task, "run": str(self.run), "attempt": self.attempt}


@dataclass(frozen=True)
class Removal:
    """A route to take out of service, for a Task that is being deleted; none of a later `iteration` than it came to."""

    uid: str
    task: str
    iteration: int = 1

    def to_json(self) -> Fields:
        """The JSON form."""
        return {"uid": self.uid, "task": self.task, "iteration": self.iteration}


@dataclass(frozen=True)
class Errand:
    """One steward to send: the duty, what it is about, and whether it needs the trainer's image."""

    duty: Duty
    about: Any = None
    torch: bool = False


def init_errand(graph: ModuleGraph) -> Errand:
    """Start the graph from its root, or adopt the one that is there."""
    return Errand("init", {"root": graph.spec.root.to_json()}, torch=True)


def heads_errand(questions: Sequence[Question]) -> Errand:
    """Read HEAD of the first tasks asked about."""
    return Errand("heads", {"tasks": [question.to_json() for question in questions[:MAX_ASKED]]})


def remove_errand(removals: Sequence[Removal]) -> Errand:
    """Take the first routes out of service."""
    return Errand("remove", {"tasks": [removal.to_json() for removal in removals[:BATCH]]})


def collect_errand(graph: ModuleGraph, *, due: str) -> Errand:
    """Collect garbage; `due` names this turn of the schedule."""
    maintenance = graph.spec.maintenance
    grace = maintenance.grace_period if maintenance and maintenance.grace_period else "24h"
    return Errand("collect", {"due": due, "gracePeriod": grace})


def verify_errand(*, due: str) -> Errand:
    """Check the whole graph, its golden answers included."""
    return Errand("verify", {"due": due, "answers": True}, torch=True)


def job_name(graph: Thing, errand: Errand) -> str:
    """The name of the errand's Job; the same errand has the same one."""
    return labels.steward_job_name(graph=graph.name, uid=graph.uid, duty=errand.duty, about=errand.about)


def _parts(errand: Errand) -> Fields:
    """How many pods the Job makes, and that each knows its part."""
    if errand.duty != "heads":
        return {"completions": 1, "parallelism": 1}
    number = max(1, math.ceil(len(errand.about["tasks"]) / BATCH))
    return {"completionMode": "Indexed", "completions": number, "parallelism": number}


def steward_job(graph: Thing, spec: ModuleGraph, errand: Errand, *, settings: Settings) -> Fields:
    """The Job to create, in the graph's own namespace."""
    own = {
        labels.MANAGED_BY: labels.MANAGER,
        labels.COMPONENT: labels.STEWARD,
        labels.GRAPH_UID: graph.uid,
        labels.DUTY: errand.duty,
    }
    maintenance = spec.spec.maintenance
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(graph, errand),
            "namespace": graph.namespace,
            "labels": own,
            "annotations": {labels.QUESTION: canonical.dumps(errand.about).decode()},
            "ownerReferences": [owner_reference(graph, "ModuleGraph")],
        },
        "spec": {
            **_parts(errand),
            "backoffLimit": RETRIES,
            "activeDeadlineSeconds": DEADLINE_S[errand.duty],
            "podReplacementPolicy": "Failed",
            "ttlSecondsAfterFinished": LIFE_AFTER_S,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": labels.STEWARD, "operator": "In", "values": [64, 65]},
                    },
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {
                "metadata": pods.metadata(settings.stewards.pod_template or PodTemplate(), own),
                "spec": _pod(spec, errand, maintenance.service_account_name if maintenance else None, settings),
            },
        },
    }


def _pod(graph: ModuleGraph, errand: Errand, account: str | None, settings: Settings) -> Fields:
    store = graph.spec.store
    assert store is not None  # Admission of the graph has seen to it.
    volume, mount = pods.scratch(None)
    volumes, mounts = pods.place_volumes(store, "store")
    asked = {
        "format": canonical.FORMAT,
        "duty": errand.duty,
        **(errand.about or {}),
        "store": {"url": place_url(store, STORE_VOLUME), **pods.access(store, "store")},
    }
    variable = {"name": "EVERGRAFT_STEWARD", "value": canonical.dumps(asked).decode().replace("$", "$$")}
    images = settings.images
    box = pods.container(
        labels.STEWARD,
        images.cpu if errand.torch else images.operator,
        ["steward"],
        [*map(dict, pods.BASIC_ENVIRONMENT), variable],
        [mount, *mounts],
    )
    box["resources"] = _resources(settings.stewards.resources or Resources(), torch=errand.torch)
    locked = pods.pod_spec(
        box, volumes=[volume, *volumes], account=account, grace_s=GRACE_S, pull_secrets=images.pull_secrets
    )
    return pods.apply_template(locked, settings.stewards.pod_template or PodTemplate(), Accelerator())


def _resources(written: Resources, *, torch: bool) -> Fields:
    limits = dict(written.limits or {})
    built_in = {"cpu": "100m", "memory": "1Gi" if torch else "256Mi"}
    # A limit without a request is the request too, so that a built-in one never exceeds it.
    left = {name: amount for name, amount in built_in.items() if name not in limits}
    requests = {**left, **(written.requests or {})}
    return {name: values for name, values in (("requests", requests), ("limits", limits)) if values}


@dataclass(frozen=True)
class Answer:
    """What a finished steward said. `ok` is its Job's end, `reason` its sentence, `fields` the rest, untrusted."""

    ok: bool
    reason: str
    graph: str | None
    totals: Totals | None
    fields: Any


def answer(job: Job, pods_seen: Iterable[Pod]) -> Answer | None:
    """The answer of a steward's Job, None while it works."""
    if not job.finished:
        return None
    mine = [pod for pod in pods_seen if job.uid and pod.owner == job.uid and pod.over]
    wanted = "Succeeded" if job.complete else "Failed"
    told = [found for pod in mine if pod.phase == wanted and (found := report.document(pod.message))]
    value = told[-1] if told else {}
    return Answer(
        ok=job.complete,
        reason=reading.text(value.get("reason"), 1000) or job.message,
        graph=reading.text_or_none(value.get("graphID"), 64),
        totals=report.totals(value.get("graph")),
        fields=value,
    )


def head_facts(job: Job, pods_seen: Iterable[Pod]) -> tuple[HeadFact, ...]:
    """What a `heads` steward read, for each Task it was asked about and answered.

    A pod's `heads` lists, in the order of its part of the question, ``{run, outcome, taskHash, route}`` or null for a
    task that was not read or did not fit; `run` null means that HEAD never heard of the task.
    """
    if job.duty != "heads" or not job.complete or not job.uid:
        return ()
    asked = reading.items(job.question, "tasks", at_most=MAX_ASKED)
    facts = []
    for pod in pods_seen:
        if pod.owner == job.uid and pod.phase == "Succeeded":
            told = reading.items(report.document(pod.message), "heads", at_most=BATCH)
            for question, value in zip(asked[pod.index * BATCH :], told, strict=False):
                if (state := report.head_state(value)) is not None:
                    facts.append(_head_fact(reading.mapping(question), state))
    return tuple(facts)


def _head_fact(question: Mapping[str, Any], state: report.HeadState) -> HeadFact:
    uid, attempt = reading.text(question.get("uid"), 64), reading.whole(question.get("attempt")) or 0
    return HeadFact(uid=uid, run=report.run_key(question.get("run")), attempt=attempt, state=state)


def asked_about(job: Job) -> tuple[str, ...]:
    """The uids of the Tasks that a `heads` or `remove` steward was asked about."""
    return tuple(
        reading.text(item.get("uid"), 64) for item in reading.objects(job.question, "tasks", at_most=MAX_ASKED)
    )


def removal_facts(job: Job, pods_seen: Iterable[Pod]) -> tuple[RemovalFact, ...]:
    """How a `remove` steward fared with each route, nothing while it works or for another duty.

    All are removed if it ended well; the answer of one that did not lists in `removed` for each whether it is.
    """
    found = answer(job, pods_seen)
    if job.duty != "remove" or found is None:
        return ()
    told = reading.items(found.fields, "removed", at_most=BATCH)
    done = [found.ok or (place < len(told) and told[place] is True) for place in range(BATCH)]
    return tuple(
        RemovalFact(uid=uid, done=over, message=found.reason) for uid, over in zip(asked_about(job), done, strict=False)
    )
