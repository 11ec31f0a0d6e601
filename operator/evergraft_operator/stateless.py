"""kopf without a memory of its own: no annotations, no progress, no finalizer, and none of the copying for them.

kopf would copy and compare every object at every event for handlers that we do not have; that was two thirds of what
an event cost. Used by ``handlers.configure``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import kopf

NO_FINALIZER = ""
"""What no object can carry, so that kopf never finds one of its own to take away."""


class NoDiffs(kopf.DiffBaseStorage):
    """No object's past is kept or compared."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:  # noqa: ARG002
        """Nothing."""
        return kopf.BodyEssence({})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002
        """Nothing."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Do nothing."""


class NoProgress(kopf.ProgressStorage):
    """No handler's progress is kept: ours only take note of what they see."""

    def fetch(self, *, key: Any, body: kopf.Body) -> None:
        """Nothing."""

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Do nothing."""

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Do nothing."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Do nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """As it is."""
        return essence
