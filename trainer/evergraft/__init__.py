"""Evergraft: one growing graph of immutable modules that learns task after task and forgets none.

This package is the core: values, the store, the search and the command line. It imports neither torch nor kopf;
what needs torch lives in ``evergraft_trainer`` and is imported when it is called for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergraft_trainer.predict import Predictor

__all__ = ["__version__", "load"]

__version__ = "0.1.0"


def load(url: str, task: str, version: int | None = None) -> Predictor:
    """Load the committed route of `task` from the graph at `url`, ready to predict.

    `version` reads the graph as it was at that commit; the newest by default. Needs the ``trainer`` extra.

    Raises:
        UserError: the URL holds no graph, or no route of this task.
        StoreError: the store did not answer.
    """
    from evergraft_trainer.predict import load as load_route

    return load_route(url=url, task=task, version=version)
