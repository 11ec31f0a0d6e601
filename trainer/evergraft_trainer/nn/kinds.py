"""The registries of every kind of module: layers and deltas. What is not here cannot be loaded.

They are two because a layer and a delta may share a name (``norm``). Called by the codec, by whoever needs parameter
counts and by people adding a backbone: declare the kinds of a new family in a file of its own, name it in ``layers``.
"""

from __future__ import annotations

from evergraft.errors import IntegrityError
from evergraft_trainer.nn.deltas import DELTAS
from evergraft_trainer.nn.kind import Kind
from evergraft_trainer.nn.layers import LAYERS

__all__ = ["DELTAS", "LAYERS", "kind_of"]


def kind_of(name: str, *, where: str, delta: bool = False) -> Kind:
    """The kind of layer (or delta) called `name`.

    Raises:
        IntegrityError: there is none.
    """
    known = DELTAS if delta else LAYERS
    kind = known.get(name)
    if kind is None:
        what = "delta" if delta else "layer"
        raise IntegrityError(f"{where}: unknown kind of {what} {name!r}; this version knows {', '.join(sorted(known))}")
    return kind
