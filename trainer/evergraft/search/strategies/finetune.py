"""`finetune`: every layer cloned and trained, the baseline with the most parameters added.

AdamW at 1e-3, weight decay .05, 5 % warm-up, then cosine. Called through the registry.
"""

from __future__ import annotations

from evergraft.search.layers import body
from evergraft.search.starts import Start
from evergraft.search.strategies.single import SingleChild
from evergraft.search.values import LayerPlan, View


def plan_body(view: View, start: Start) -> tuple[LayerPlan, ...]:  # noqa: ARG001 - the seam's signature
    """Clone every layer."""
    return tuple(LayerPlan(name=layer.name, action="clone") for layer in body(start.layers))


FINETUNE = SingleChild(name="finetune", version=1, learning_rate=0.001, plan_body=plan_body)
