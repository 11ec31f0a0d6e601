"""The score that ranks candidates and routes: quality, discounted by size and by compute.

Scores are recomputed against the base version of a search; a stored score is history. Pure. Called by the
strategies, by the engine's closing document and by ``explain``.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal

from evergraft.graph.route import Layer, RouteSummary
from evergraft.search.values import SlotResult, View

_CONTEXT = Context(prec=30)


def accounted_parameters(view: View, layers: Iterable[Layer]) -> float:
    """Each module's parameters divided by the number of tasks that use it, this one included.

    The root is a starting point, not a task: modules of the root that no other task uses count in full.
    """
    roots = {module for route in view.routes if route.summary.is_root for module in route.summary.module_ids()}
    sizes = {module: size for layer in layers for module, size in layer.modules()}
    return sum(
        size / (1 + max(0, view.users.get(module, 0) - (module in roots))) for module, size in sorted(sizes.items())
    )


def score(view: View, layers: Iterable[Layer], *, quality: float, flops: int) -> float:
    """Quality × sizeDecay^(accounted ÷ reference parameters) × computeDecay^(FLOPs ÷ reference FLOPs).

    `quality` is the validation metric in 0…1; `flops` are those of one image forward (arXiv 2205.12755, section 3.3).
    """
    search = view.spec.search
    size = _ratio(accounted_parameters(view, layers), view.reference.parameters)
    return quality * _power(search.size_decay, size) * _power(search.compute_decay, _ratio(flops, view.reference.flops))


def result_score(view: View, result: SlotResult) -> float:
    """The score of a candidate; 0 if it diverged or failed."""
    return score(view, result.layers, quality=result.quality, flops=result.flops) if result.usable else 0.0


def route_score(view: View, route: RouteSummary) -> float:
    """The score of a committed route at the base of this search; 0 for one without a quality, such as a root."""
    return score(view, route.layers, quality=route.quality or 0.0, flops=route.flops)


def _ratio(value: float, reference: int) -> float:
    return value / reference if reference else 0.0


def _power(decay: float, exponent: float) -> float:
    """``decay ** exponent`` with the same bits on every machine, which libm's pow does not promise."""
    if decay == 1 or exponent == 0:
        return 1.0
    return float(_CONTEXT.exp(_CONTEXT.multiply(_CONTEXT.ln(Decimal(decay)), Decimal(exponent))))
