"""`lora`: low-rank changes on the four matrices of every encoder block, the final norm and the head trained.

Everything else is shared frozen (Hu et al., arXiv 2106.09685). ``parameters.rank`` is 8 by default. AdamW at 3e-3,
weight decay .05, 5 % warm-up, then cosine. Called through the registry.
"""

from __future__ import annotations

from evergraft.errors import SpecError
from evergraft.search.layers import BLOCK, body, final_norm
from evergraft.search.starts import Start
from evergraft.search.strategies.single import SingleChild
from evergraft.search.values import DeltaPlan, LayerPlan, View

DEFAULT_RANK = 8
MATRICES = ("qkv", "out_proj", "fc1", "fc2")
"""All matrices of an encoder block."""


def plan_body(view: View, start: Start) -> tuple[LayerPlan, ...]:
    """A lora delta on each encoder block, the final norm cloned, the rest shared.

    Raises:
        SpecError: the start has no encoder blocks, or the rank is no positive number.
    """
    if not any(layer.kind == BLOCK for layer in start.layers):
        raise SpecError(
            f"search.strategy: lora changes encoder blocks, and {start.title} has none; use finetune or linear"
        )
    rank = view.spec.search.parameters.get("rank", DEFAULT_RANK)
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise SpecError(f"search.parameters.rank: {rank!r} is no whole number from 1 up")
    norm = final_norm(start.layers)
    delta = DeltaPlan(kind="lora", config={"rank": rank, "targets": list(MATRICES)})
    return tuple(
        LayerPlan(name=layer.name, action="clone")
        if layer.name == norm
        else LayerPlan(name=layer.name, action="share", deltas=(delta,) if layer.kind == BLOCK else ())
        for layer in body(start.layers)
    )


LORA = SingleChild(name="lora", version=1, learning_rate=0.003, plan_body=plan_body)
