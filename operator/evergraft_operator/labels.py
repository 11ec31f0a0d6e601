"""Labels, annotations, finalizers and names of what the operator makes in a cluster: built and read here only.

Names are deterministic, so that a second leader that acts on the same facts collides instead of doubling. Called by
the builders and by ``observed``.
"""

from __future__ import annotations

from evergraft import canonical

GROUP = "evergraft.dev"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "evergraft"
COMPONENT = "app.kubernetes.io/component"
WORKER = "worker"
STEWARD = "steward"
TASK_UID = f"{GROUP}/task-uid"
GRAPH_UID = f"{GROUP}/graph-uid"
ATTEMPT = f"{GROUP}/attempt"
DUTY = f"{GROUP}/duty"
RUN_KEY = f"{GROUP}/run-key"
TASK_ID = f"{GROUP}/task-id"
SPEC_HASH = f"{GROUP}/spec-hash"
FAILURES = f"{GROUP}/failures"
"""On a Job: JSON of the failures that earlier attempts of its search had, by reason."""
SECONDS = f"{GROUP}/accelerator-seconds"
"""On a Job: JSON of the accelerator seconds, useful and lost, that the Task had spent before it."""
QUESTION = f"{GROUP}/question"
"""On a steward's Job: JSON of what it was asked, as ``stewards.Question`` and ``stewards.Removal`` write it."""
QUEUE = "kueue.x-k8s.io/queue-name"
QUEUE_PRIORITY = "kueue.x-k8s.io/priority-class"
FINALIZER = f"{GROUP}/remove-route"
JOB_INDEX = "batch.kubernetes.io/job-completion-index"


def worker_job_name(*, task: str, uid: str, run: str, attempt: int) -> str:
    """`<task>-<8 hex>`, the same for the same attempt at the same run of the same Task object."""
    return f"{task[:48]}-{canonical.digest([uid, run, attempt])[:8]}"


def steward_job_name(*, graph: str, uid: str, duty: str, about: object) -> str:
    """`<graph>-<duty>-<8 hex>`, the same for the same duty about the same things."""
    return f"{graph[:42].rstrip('-.')}-{duty}-{canonical.digest([uid, duty, about])[:8]}"
