"""The linear probe of a transfer ledger: a head in closed form on a frozen route, forward only, nothing kept.

A figure for people: where it cannot be measured nothing is said, and the search is closed all the same. Called by the
trainer at the closing of a search.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from evergraft.errors import EvergraftError, NotFoundError, StoppedError, StoreError
from evergraft.graph.transfer import Measured
from evergraft.search.ledger import Looked
from evergraft.search.values import CandidatePlan, SlotRef
from evergraft_trainer.closed_form import Looking, fit_head
from evergraft_trainer.nn.candidate import build_candidate
from evergraft_trainer.parents import read_parent
from evergraft_trainer.stream import stream_key, stream_seed

if TYPE_CHECKING:
    from evergraft_trainer.trainer import TorchTrainer

_log = logging.getLogger(__name__)


def look(trainer: TorchTrainer, plan: CandidatePlan, pulse: Callable[[], None]) -> Looked | None:
    """Fit the head that `plan` asks for and score it on validation; None, and a warning, where that fails.

    Raises:
        StoreError: what holds the route or the data does not answer, which is no finding.
        StoppedError, SupersededError: from `pulse`.
    """
    try:
        return _look(trainer, plan, pulse)
    except StoppedError:
        raise
    except (EvergraftError, RuntimeError, ArithmeticError, MemoryError) as error:
        if isinstance(error, StoreError) and not isinstance(error, NotFoundError):
            raise
        _log.warning("%s: its transfer ledger has no linear probe: %s", trainer.spec.task, error)
        return None


def _look(trainer: TorchTrainer, plan: CandidatePlan, pulse: Callable[[], None]) -> Looked | None:
    data, search = trainer.data, trainer.spec.search
    parent = read_parent(trainer.folder, plan, labels=data.labels, cache=trainer.cache)
    preprocessing = stream_key(trainer.spec, plan, SlotRef(0, 0), parent.preprocessing).preprocessing
    model = build_candidate(
        parent.layers,
        parent.get,
        plan.layers,
        labels=data.labels,
        seed=stream_seed(trainer.spec, "probe"),
        image_size=preprocessing.image_size,
    )
    model.to(trainer.device.torch_device)
    looking = Looking(
        preprocessing=preprocessing,
        batch_size=search.batch_size,
        device=trainer.device,
        precision=search.precision,
        pulse=pulse,
    )
    fitted = fit_head(model, data.train, data.validation, most=plan.samples, looking=looking)
    assert model.head is not None
    with torch.no_grad():
        logits = model.head.cpu().logits(fitted.validation.float()).double()
    if not bool(torch.isfinite(logits).all()):
        return None
    measured = trainer.measure(logits.numpy(), data.validation)
    return Looked(Measured(float(measured["quality"]), samples=fitted.images), fitted.forward_samples)
