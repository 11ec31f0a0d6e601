"""Carries a plan out: a dumb loop of scale, delete, create, finalizer, events, and the whole status at most once.

Every answer goes into the cache, so that the next reconcile sees what this one did. What is there already or gone
already is as good as done. Finalizer and status are written only to the very version that the plan was made from: a
leader that was paused and wakes up late overwrites nobody's. Called by the controller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from evergraft_operator import labels, reading
from evergraft_operator.client import (
    Client,
    ConflictedError,
    KubeError,
    MissingError,
    RefusedError,
    UnreachableError,
)
from evergraft_operator.kinds import JOB, Kind
from evergraft_operator.observed import Thing
from evergraft_operator.plan import Deletion, Plan, Scaling
from evergraft_operator.recorder import Recorder

Fields = dict[str, Any]


INVALID = (400, 413, 422)
"""Answers that say that a Job is no Job: nobody but who wrote the spec can mend that."""
DENIED = ("denied the request", "denied request")
"""How a webhook's and a ValidatingAdmissionPolicy's denial begin, whatever their code: who owns them may mend them."""
WEBHOOK = "failed calling webhook"
"""In a 500: the API server itself is well, an admission webhook is not, and that may last."""


class JobRefusedError(Exception):
    """The API server would not have a Job; the message is its own. `invalid`: nor will it ever have this one."""

    def __init__(self, message: str, *, invalid: bool = False) -> None:
        super().__init__(message)
        self.invalid = invalid


class OvertakenError(KubeError):
    """The object has changed since the plan was made from it; as it is now, it has been read."""


@dataclass(frozen=True)
class Applier:
    """Writes through `client`; `changed` is told of every object as it came back, `vanished` of every uid gone."""

    client: Client
    recorder: Recorder
    changed: Callable[[Kind, Fields], object]
    vanished: Callable[[str], object]

    async def apply(self, kind: Kind, thing: Thing, plan: Plan) -> None:
        """Carry out the plan for `thing`.

        Raises:
            JobRefusedError: a Job was refused; nothing after it was done.
            OvertakenError: somebody else wrote to `thing`; its finalizer or status is as they left it.
            KubeError: anything else that went wrong.
            NotLeadingError: this process may not write any more.
        """
        for scaling in plan.scale:
            await self._scale(scaling)
        for deletion in plan.delete:
            await self._delete(deletion)
        for job in plan.create:
            await self._create(job)
        version = _version(thing.document)
        if plan.finalizer is not None:
            version = await self._finalize(kind, thing, plan.finalizer)
        for event in plan.events:
            await self.recorder.record(kind, thing, event)
        if plan.status is not None:
            await self._status(kind, thing, plan.status, version)

    async def _scale(self, scaling: Scaling) -> None:
        patch = {"spec": {"parallelism": scaling.parallelism}}
        try:
            self.changed(JOB, await self.client.merge(JOB, scaling.namespace, scaling.name, patch))
        except MissingError:
            return  # Its end is on the way here.

    async def _delete(self, deletion: Deletion) -> None:
        try:
            answer = await self.client.delete(
                JOB, deletion.namespace, deletion.name, uid=deletion.uid, foreground=deletion.foreground
            )
        except (MissingError, ConflictedError):  # A conflict is another Job of this name.
            self.vanished(deletion.uid)
            return
        if answer.get("kind") == JOB.name:
            self.changed(JOB, answer)
        elif answer.get("kind") == "Status":
            self.vanished(deletion.uid)

    async def _create(self, job: Fields) -> None:
        namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
        try:
            made = await self.client.create(JOB, namespace, job)
        except ConflictedError:
            self.changed(JOB, await self.client.get(JOB, namespace, name))
            return
        except (RefusedError, UnreachableError) as error:
            told = str(error).partition(f"{error.status}: ")[2] or str(error)
            if isinstance(error, UnreachableError) and WEBHOOK not in told:
                raise
            denied = any(words in told for words in DENIED)
            raise JobRefusedError(told, invalid=error.status in INVALID and not denied) from error
        self.changed(JOB, made)

    async def _finalize(self, kind: Kind, thing: Thing, change: str) -> str:
        """Add or remove our finalizer; the version of the object after that."""
        others = [name for name in thing.finalizers if name != labels.FINALIZER]
        wanted = [*others, labels.FINALIZER] if change == "add" else others
        patch = {"metadata": {"resourceVersion": _version(thing.document), "finalizers": wanted}}
        try:
            answer = await self.client.merge(kind, thing.namespace, thing.name, patch)
        except MissingError:
            self.vanished(thing.uid)
            return ""
        except ConflictedError as error:
            await self._look(kind, thing)
            raise _overtaken(error) from error
        self.changed(kind, answer)
        return _version(answer)

    async def _status(self, kind: Kind, thing: Thing, status: Fields, version: str) -> None:
        meta = {"name": thing.name, "namespace": thing.namespace, "uid": thing.uid}
        document = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {**meta, "resourceVersion": version} if version else meta,
            "status": status,
        }
        try:
            applied = await self.client.apply_status(kind, thing.namespace, document)
            # Nobody here sees what is left of another's status: an old outcome among it would end a run just begun.
            self.changed(kind, await self._cleared(kind, thing, status, applied))
        except MissingError:
            self.vanished(thing.uid)
        except ConflictedError as error:
            live = await self._look(kind, thing)
            if reading.mapping(live, "status") != status:  # Else it was ours that landed, and its answer was lost.
                raise _overtaken(error) from error

    async def _cleared(self, kind: Kind, thing: Thing, status: Fields, applied: Fields) -> Fields:
        """The object as it is without what the apply left in its status: fields that another manager owns too.

        A restored backup or an edit by hand leaves such, and the operator believes its own status. They are taken out
        once; if they are back at once, the next reconcile finds them.
        """
        surplus = _surplus(reading.mapping(applied, "status"), status)
        if not surplus:
            return applied
        patch = {"metadata": {"uid": thing.uid, "resourceVersion": _version(applied)}, "status": surplus}
        return await self.client.merge(kind, thing.namespace, thing.name, patch, part="status")

    async def _look(self, kind: Kind, thing: Thing) -> Fields:
        """The object of that name as it is now, empty if it is gone; the cache learns of it."""
        try:
            live = await self.client.get(kind, thing.namespace, thing.name)
        except MissingError:
            self.vanished(thing.uid)
            return {}
        self.changed(kind, live)
        return live


def _surplus(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Fields:
    """The merge patch that takes out of `found`, to which `wanted` was applied, what `wanted` has not."""
    patch: Fields = {}
    for name, value in found.items():
        ours = wanted.get(name)
        if name not in wanted:
            patch[name] = None
        elif isinstance(value, dict) and isinstance(ours, dict):
            if inner := _surplus(value, ours):
                patch[name] = inner
        elif isinstance(value, list) and isinstance(ours, list) and len(value) > len(ours):
            # The conditions, each type once, ours all among them. A merge patch can only give a list whole; what is as
            # it was in it does not change hands.
            patch[name] = ours
    return patch


def _overtaken(error: ConflictedError) -> OvertakenError:
    return OvertakenError(str(error), status=error.status, reason=error.reason)


def _version(document: Mapping[str, Any]) -> str:
    return str(reading.mapping(document, "metadata").get("resourceVersion", ""))
