"""What verify finds: a broken promise, in words, with the routes that it touches. Called by verify and its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One broken promise: chain, checkpoint, blob, reference, lineage, privacy or gc. `routes` it touches, by task."""

    kind: str
    what: str
    routes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"kind": self.kind, "what": self.what, "routes": list(self.routes)}
