"""Objects cut down to what the operator reads of them, since it keeps every one in memory.

managedFields, annotations of others, pod specs and the workers' whole environment go; what ``observed`` parses stays.
Called by the cache for every object seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evergraft_operator import labels, reading
from evergraft_operator.kinds import GRAPH, JOB, POD, TASK

Fields = dict[str, Any]

_META = (
    "name",
    "namespace",
    "uid",
    "generation",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
)
_OWN_LABELS = (
    labels.TASK_UID,
    labels.GRAPH_UID,
    labels.COMPONENT,
    labels.ATTEMPT,
    labels.DUTY,
    labels.QUEUE,
    labels.JOB_INDEX,
)
_OWN_ANNOTATIONS = (labels.RUN_KEY, labels.FAILURES, labels.SECONDS, labels.QUESTION)


def trim(kind: str, document: Mapping[str, Any]) -> Fields:
    """The object of that kind without what nobody reads."""
    meta = reading.mapping(document, "metadata")
    kept: Fields = {"metadata": _picked(meta, _META)}
    status = reading.mapping(document, "status")
    match kind:
        case TASK.name | GRAPH.name:
            kept["spec"] = document.get("spec")
            kept["status"] = dict(status)
        case JOB.name:
            kept["metadata"] |= _marks(meta)
            kept["spec"] = _job_spec(document)
            kept["status"] = _picked(status, ("active", "ready", "failed", "startTime", "conditions"))
        case POD.name:
            owners = [_picked(owner, ("kind", "uid")) for owner in reading.objects(meta, "ownerReferences", at_most=16)]
            kept["metadata"] |= {"ownerReferences": owners, "labels": _marks(meta)["labels"]}
            kept["status"] = _picked(status, ("phase", "conditions", "containerStatuses", "podIP", "reason"))
        case _:
            kept["metadata"]["labels"] = dict(reading.mapping(meta, "labels"))
    return kept


def _picked(value: Mapping[str, Any], names: tuple[str, ...]) -> Fields:
    return {name: value[name] for name in names if name in value}


def _marks(meta: Mapping[str, Any]) -> Fields:
    """Our own labels and annotations."""
    return {
        "labels": _picked(reading.mapping(meta, "labels"), _OWN_LABELS),
        "annotations": _picked(reading.mapping(meta, "annotations"), _OWN_ANNOTATIONS),
    }


def _job_spec(document: Mapping[str, Any]) -> Fields:
    spec = reading.mapping(document, "spec")
    boxes = list(reading.objects(spec, "template", "spec", "containers", at_most=1))
    template = {"spec": {"containers": [_picked(box, ("image",)) for box in boxes]}}
    return {**_picked(spec, ("suspend", "parallelism")), "template": template}
