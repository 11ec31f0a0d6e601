"""Recompute golden answers: the proof that nothing was forgotten.

Every route stores logits for eight inputs made from its layers. Here they are computed again from what the store
holds now and compared bit for bit (under the same numeric profile) or within the promised tolerance. Called by
``graph verify --answers`` and the demo.
"""

from __future__ import annotations

from typing import Any

from evergraft.errors import IntegrityError, NotFoundError
from evergraft.graph.route import RouteSummary
from evergraft.store import log
from evergraft.store.open import open_store
from evergraft.store.seam import Store
from evergraft_trainer import profile
from evergraft_trainer.device import Device, open_device
from evergraft_trainer.golden import compare
from evergraft_trainer.profile import same_numerics
from evergraft_trainer.serving import assemble


def verify_answers(url: str, *, threads: int = 1) -> list[dict[str, Any]]:
    """For every serving route: task, whether its answers hold, how (in words), whether they are the same bits.

    A route that is damaged does not hold; ``how`` says why.

    Raises:
        NotAGraphError, StoreError; IntegrityError if the log itself is damaged.
    """
    profile.apply(threads=threads)
    return check_answers(open_store(url), device=open_device("cpu"))


def check_answers(store: Store, *, device: Device) -> list[dict[str, Any]]:
    """The answers of every serving route in `store`, recomputed on `device`."""
    graph = log.read_graph(store)
    return [_row(store, summary, version=graph.version, device=device) for summary in graph.routes()]


def _row(store: Store, summary: RouteSummary, *, version: int, device: Device) -> dict[str, Any]:
    """What became of one route's answers. Damage is told in the row, so that it hides no other route's."""
    try:
        served = assemble(store, summary, version=version)
        served.model.to(device.torch_device)
        found = compare(served.route.golden, served.model, served.route.layers, served.preprocessing, device=device)
    except (IntegrityError, NotFoundError) as error:
        nothing = {"bitIdentical": False, "sameProfile": None, "maxDifference": None}
        return {"task": summary.task, "holds": False, **nothing, "how": f"cannot be recomputed: {error}"}
    strict = same_numerics(served.route.profile, device)
    return {
        "task": summary.task,
        "holds": found.holds(same_profile=strict),
        "bitIdentical": found.bit_identical,
        "sameProfile": strict,
        "maxDifference": found.max_difference,
        "how": "are the same bits" if found.bit_identical else f"differ by {found.max_difference:.2e} at most",
    }
