"""Which namespaces' Tasks may grow a ModuleGraph: its own, all, or those a label selector meets.

Pure; a selector that says something unknown meets nothing. Called by ``admission``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evergraft.api.modulegraph import ModuleGraph, Selector


def denial(graph: ModuleGraph, namespace: str, labels: Mapping[str, str] | None) -> str | None:
    """Why Tasks of `namespace` may not use the graph, None if they may. `labels` None: they could not be read."""
    where = f"ModuleGraph {graph.namespace}/{graph.metadata.name}"
    allowed = graph.spec.allowed_namespaces
    if namespace == graph.namespace:
        return None
    if allowed is None or allowed.from_ == "Same":
        return f"{where} serves its own namespace only; its owner can widen spec.allowedNamespaces"
    if allowed.from_ == "All":
        return None
    if labels is None:
        return f"{where} selects namespaces by labels, which this operator may not read; install it cluster-wide"
    if allowed.selector is not None and meets(allowed.selector, labels):
        return None
    return f"{where} does not select namespace {namespace}; label it so that spec.allowedNamespaces.selector meets it"


def meets(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether labels meet a selector; an empty selector is met by all."""
    wanted = selector.match_labels or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _expression_holds(item, labels) for item in selector.match_expressions or ()
    )


def _expression_holds(item: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = item.get("key"), item.get("operator"), item.get("values") or []
    if not isinstance(key, str) or not isinstance(values, list | tuple):
        return False
    match operator:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False
