"""The rules of the CRDs in CEL: what belongs together, what a cluster refuses, what may not change.

The same rules as the models' validators and ``api.rules``, stated once more for the API server, so that
`kubectl apply` refuses at once; tests hold the two to the same verdicts. Called by ``api.schema``. Optional fields
are compared in `has()` forms: the shorter `?.` costs more than an API server allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from evergraft.api.fields import DNS_LABEL, DURATION, ENDPOINT
from evergraft.api.rules import CLUSTER_URL, CLUSTER_WEIGHTS

Reason = Literal["FieldValueInvalid", "FieldValueForbidden"]

FORBIDDEN: Reason = "FieldValueForbidden"
"""Also keeps the refused value out of the message, which for an address may hold a password."""


@dataclass(frozen=True)
class Rule:
    """One entry of `x-kubernetes-validations`; `field` is the path below the object that the message names."""

    rule: str
    message: str
    field: str = ""
    reason: Reason = "FieldValueInvalid"

    def to_json(self) -> dict[str, Any]:
        """As it stands in the CRD."""
        parts = {
            "rule": self.rule,
            "message": self.message,
            "fieldPath": self.field,
            "reason": self.reason,
        }
        return {key: value for key, value in parts.items() if value}


def text(value: str) -> str:
    """`value` as a CEL string."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _matches(pattern: str, message: str) -> Rule:
    return Rule(f"self.matches({text(pattern)})", message, reason=FORBIDDEN)


def _kept(field: str) -> Rule:
    """An optional field that may neither change nor come nor go."""
    rule = f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    return Rule(rule, IMMUTABLE, field=f".{field}", reason=FORBIDDEN)


def _kept_within(field: str, *, optional: bool) -> Rule:
    """A field that changes only with a higher iteration."""
    same = f"self.{field} == oldSelf.{field}"
    if optional:
        same = f"(has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || {same}))"
    message = "changes only with a higher iteration; raise iteration too"
    # A message that tells the number would need string(int), whose cost no API server can bound.
    return Rule(f"self.iteration > oldSelf.iteration || {same}", message, field=f".{field}", reason=FORBIDDEN)


IMMUTABLE = "immutable; make a new object instead"
SAME = Rule("self == oldSelf", IMMUTABLE, reason=FORBIDDEN)

NAME = Rule(
    f"self.metadata.name.size() <= 48 && self.metadata.name.matches({text(DNS_LABEL)})",
    "metadata.name: must have at most 48 lower-case letters, digits and dashes, so that the names of its Jobs fit",
)
GRAPH_NAME = Rule(
    f"self.metadata.name.size() <= 63 && self.metadata.name.matches({text(DNS_LABEL)})",
    "metadata.name: must have at most 63 lower-case letters, digits and dashes, so that a Task can name it",
)

PLACE = (
    Rule("has(self.url) != has(self.persistentVolumeClaim)", "give exactly one of url and persistentVolumeClaim"),
    Rule(
        "!has(self.endpoint) || has(self.secretRef)",
        "endpoint needs a secretRef, so that the pod's own token is not sent there",
        field=".endpoint",
        reason=FORBIDDEN,
    ),
    Rule(
        "!has(self.persistentVolumeClaim) || (!has(self.secretRef) && !has(self.caBundle))",
        "secretRef and caBundle belong to a url, not to a persistentVolumeClaim",
        field=".persistentVolumeClaim",
        reason=FORBIDDEN,
    ),
)
URL = _matches(
    CLUSTER_URL,
    "a cluster reads gs:// and s3:// URLs, without user info, query or fragment, or a persistentVolumeClaim",
)
WEIGHTS_URL = _matches(
    CLUSTER_WEIGHTS, "a cluster reads gs://, s3:// and https:// URLs, without user info, query or fragment"
)
CLAIM_PATH = Rule("!self.matches('(^|/)[.][.](/|$)')", "a path inside the volume has no ..")

SPLIT = Rule(
    "!self.contains('[') || [self.replace('%', '').replace(']', '').split('[')[1].split(':')"
    ".map(n, n == '' ? -1 : int(n))].exists(b, b[1] == -1 ? b[0] < 100 : b[0] < b[1] && b[1] > 0 && b[1] <= 100)",
    "an empty part; the percentages must grow and end by 100",
)
FRACTION = Rule("double(self) <= 1.0", "must be at least 0 and at most 1")
PROBABILITY = Rule("double(self) < 1.0", "must be at least 0 and below 1")
DECAY = Rule("double(self) > 0.0 && double(self) <= 1.0", "must be above 0 and at most 1")

ACCELERATOR = (
    Rule("self.type == 'TPU' ? has(self.tpu) : !has(self.tpu)", "give tpu with type TPU, and only then", field=".tpu"),
    Rule("self.type == 'GPU' || !has(self.resourceName)", "resourceName belongs to type GPU", field=".resourceName"),
    Rule(
        "!has(self.tpu) || [self.tpu.topology.split('x').map(n, int(n))]"
        ".exists(d, d[0] * d[1] * (d.size() == 3 ? d[2] : 1) == self.count)",
        "a slice of one host has count chips: the product of topology must be count",
        field=".tpu.topology",
    ),
)

RULES: Mapping[str, tuple[Rule, ...]] = {
    "Task": (NAME,),
    "ModuleGraph": (GRAPH_NAME,),
    "TaskSpec": (
        _kept("taskID"),
        _kept_within("dataset", optional=False),
        _kept_within("metric", optional=False),
        _kept_within("search", optional=True),
        Rule(
            "!has(self.taskID) || !has(self.after) || !(self.taskID in self.after)",
            "a task cannot wait for itself",
            field=".after",
        ),
    ),
    "TaskSpec.graphRef": (SAME,),
    "TaskSpec.visibility": (SAME,),
    "TaskSpec.iteration": (
        Rule("self >= oldSelf", "only grows; a higher one evolves the task again", reason=FORBIDDEN),
    ),
    "Dataset": PLACE,
    "Dataset.url": (URL,),
    "Dataset.maxBadFraction": (FRACTION,),
    "Splits.train": (SPLIT,),
    "Splits.validation": (SPLIT,),
    "Splits.test": (SPLIT,),
    "Store": (*PLACE, _kept("url"), _kept("persistentVolumeClaim")),
    "Store.url": (URL,),
    "PersistentVolumeClaim.path": (CLAIM_PATH,),
    "Search.dropout": (PROBABILITY,),
    "Search.stochasticDepth": (PROBABILITY,),
    "Search.hyperparameters": (
        Rule(
            "self.all(a, self.exists_one(b, b.name == a.name))",
            "name each hyperparameter once",
            # A reason of Duplicate would keep the sentence from being told.
            reason=FORBIDDEN,
        ),
    ),
    "Scoring.sizeDecay": (DECAY,),
    "Scoring.computeDecay": (DECAY,),
    "Accelerator": ACCELERATOR,
    "ModuleGraphSpec": (
        Rule(
            "!has(self.store.persistentVolumeClaim) || !has(self.allowedNamespaces)"
            " || self.allowedNamespaces.from == 'Same'",
            "a persistentVolumeClaim serves its own namespace only: from must be Same",
            field=".allowedNamespaces.from",
            reason=FORBIDDEN,
        ),
    ),
    "ModuleGraphSpec.root": (SAME,),
    "Root": (Rule("has(self.seed) != has(self.weights)", "give exactly one of seed and weights"),),
    "Weights.url": (WEIGHTS_URL,),
    "AllowedNamespaces": (
        Rule(
            "(self.from == 'Selector') == has(self.selector)",
            "give selector with from: Selector, and only then",
            field=".selector",
        ),
    ),
}
"""Rules by model, and by model and field."""

BY_PATTERN: Mapping[str, Rule] = {
    ENDPOINT: _matches(ENDPOINT, "must be an https:// or http:// address without user info or query"),
    DURATION: Rule("self.matches('[1-9]')", "must be longer than 0s"),
}
"""Rules of every field with a pattern."""

TOLD_AS_RULE = (ENDPOINT,)
"""Patterns left to their rule, whose message does not repeat the value."""
