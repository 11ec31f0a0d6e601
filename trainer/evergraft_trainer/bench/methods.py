"""What is compared, as values: the product's own strategies with their parameters, and one rehearsal baseline.

All train the same number of samples a task on the same images, batch size and optimiser defaults; no method's images
are augmented unless its published form augments. Called by ``harness`` and ``report``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evergraft.errors import UserError
from evergraft.search.strategies import get as get_strategy

SAMPLES = 10_240
"""Trained samples a task and pass."""
BATCH = 32
VALIDATIONS = 4
REPLAY = "replay"
"""The learner that is no strategy of the product."""


@dataclass(frozen=True)
class Method:
    """One way to learn the stream. `strategy` is the product's, or `replay`; `chained` if tasks build on earlier ones.

    `samples` are trained for each task in each of the `passes` over the stream. `hyperparameters` are starts.
    """

    name: str
    summary: str
    strategy: str
    chained: bool
    parameters: Mapping[str, Any] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    samples: int = SAMPLES
    passes: int = 1

    def to_json(self) -> dict[str, Any]:
        """What decides its results, for the key; the name and the summary do not."""
        version = 1 if self.strategy == REPLAY else get_strategy(self.strategy).version
        return {
            "strategy": {"name": self.strategy, "version": version},
            "parameters": dict(self.parameters),
            "hyperparameters": dict(self.hyperparameters),
            "samples": self.samples,
            "batchSize": BATCH,
            "validations": VALIDATIONS,
            "passes": self.passes,
        }


_ROOT = {"parent": "root"}
_LETTERS = {"flip": False, "cropMinArea": 0.7, "cropMinAspect": 0.9}
"""What the demo asks of `mu2net`'s augmentation: no mirrored letters, and crops that leave them readable."""

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("linear", "a linear head on the frozen root", "linear", chained=False, parameters=_ROOT),
        Method("lora", "LoRA of rank 8 on the root", "lora", chained=False, parameters=_ROOT),
        Method("finetune", "full fine-tuning of the root", "finetune", chained=False, parameters=_ROOT),
        Method("sequential", "full fine-tuning of the task before, snapshots kept", "finetune", chained=True),
        Method("replay", "one backbone tuned on, half of each batch from stored images", REPLAY, chained=True),
        Method("mu2net", "evolution as published", "mu2net", chained=True, hyperparameters=_LETTERS),
        Method(
            "mu2net-10x",
            "evolution as published, ten times the samples",
            "mu2net",
            chained=True,
            hyperparameters=_LETTERS,
            samples=10 * SAMPLES,
        ),
        Method("graft", "the default: an unbroken chain of rank 16", "graft", chained=True),
        Method("graft-6", "graft at rank 6", "graft", chained=True, parameters={"rank": 6}),
        Method("graft-twice", "graft, two passes over the stream", "graft", chained=True, passes=2),
    )
}


def method_of(name: str) -> Method:
    """The method of that name.

    Raises:
        UserError: there is none; the message lists them.
    """
    if name not in METHODS:
        there = "\n".join(f"  {method.name:<12}{method.summary}" for method in METHODS.values())
        raise UserError(f"--methods {name}: unknown; there are\n{there}")
    return METHODS[name]
