"""Whether planned candidates can be built at all, found out before their search is opened.

Each is built once, as training would build it, and thrown away: image size, patches, deltas and hyperparameters that do
not go with the parent's layers are told while the spec can still be corrected. Called by the trainer and by ``plan``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from evergraft import canonical
from evergraft.api.resolved import ResolvedTask
from evergraft.search import codec
from evergraft.search.folder import Folder
from evergraft.search.values import CandidatePlan, SlotRef
from evergraft.store.cache import ModuleCache
from evergraft_trainer.nn.candidate import build_candidate
from evergraft_trainer.parents import read_parent
from evergraft_trainer.recipe import read_recipe
from evergraft_trainer.stream import stream_key


def rehearse(
    folder: Folder,
    spec: ResolvedTask,
    plans: Sequence[CandidatePlan],
    *,
    labels: tuple[str, ...],
    cache: ModuleCache | None,
) -> None:
    """Build each candidate of a first generation, one at a time; those that differ in nothing built are one.

    Raises:
        SpecError: one cannot be built; the message names the field.
        IntegrityError, StoreError: its parent cannot be read.
    """
    for _, alike in groupby(sorted(plans, key=_built), key=_built):
        plan = next(alike)
        read_recipe(plan, spec.search)
        parent = read_parent(folder, plan, labels=labels, cache=cache)
        build_candidate(
            parent.layers,
            parent.get,
            plan.layers,
            labels=labels,
            parent_labels=parent.head_labels,
            seed=0,
            image_size=stream_key(spec, plan, SlotRef(0, 0), parent.preprocessing).preprocessing.image_size,
            dropout=spec.search.dropout,
            stochastic_depth=spec.search.stochastic_depth,
        )


def _built(plan: CandidatePlan) -> bytes:
    """All of a plan that its network depends on; mutated rates and seeds make no other one."""
    told = codec.candidate_json(plan)
    return canonical.dumps([told["start"], told["layers"], plan.hyperparameters.get("imageSize")])
