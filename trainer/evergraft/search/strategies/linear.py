"""`linear`: everything shared frozen, only the head trained; the baseline with the fewest parameters added.

AdamW at 3e-3, weight decay .05, 5 % warm-up, then cosine. Called through the registry.
"""

from __future__ import annotations

from evergraft.search.layers import body
from evergraft.search.starts import Start
from evergraft.search.strategies.single import SingleChild
from evergraft.search.values import LayerPlan, View


def plan_body(view: View, start: Start) -> tuple[LayerPlan, ...]:  # noqa: ARG001 - the seam's signature
    """Share every layer."""
    return tuple(LayerPlan(name=layer.name, action="share") for layer in body(start.layers))


LINEAR = SingleChild(name="linear", version=1, learning_rate=0.003, plan_body=plan_body)
