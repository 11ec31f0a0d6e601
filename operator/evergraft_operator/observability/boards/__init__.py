"""The three dashboards, written as they look: Fleet for all Tasks and graphs, Search for workers, Operator for itself.

Queries use metrics and labels of ``evergraft.metrics`` and those that Prometheus gives a target (namespace, instance);
a test holds them to that. Called by ``observability.__main__``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from evergraft_operator.observability.boards.fleet import fleet
from evergraft_operator.observability.boards.operator import operator
from evergraft_operator.observability.boards.search import search
from evergraft_operator.observability.panels import Board

BOARDS: Mapping[str, Callable[[], Board]] = {"fleet": fleet, "search": search, "operator": operator}
"""Every dashboard by its file's name."""
