"""The one error tree, grouped by what the catcher does with it.

::

    EvergraftError
    ├── UserError              a person must change something; never retried            exit 64
    │   ├── SpecError          a field of a document is wrong
    │   ├── NotAGraphError     the URL holds no graph
    │   ├── FormatError        written by a newer version; says which to install
    │   ├── ImageVersionError  an open search was started by another version
    │   ├── ConflictError      the graph's state forbids it (fenced run, private parent, …)
    │   │   ├── AlreadyCommittedError   this run or a later one is closed at HEAD
    │   │   ├── SpecDiffersError        … with another metric, dataset or search
    │   │   └── RouteRemovedError       the task's route was removed at this run key
    │   └── PermissionDeniedError  the store refuses these credentials
    ├── DataError              the dataset is wrong; never retried                      exit 65
    ├── IntegrityError         bytes do not match their name or promise                 exit 65
    ├── OutOfMemoryError       accelerator memory exhausted                             exit 66
    ├── StoreError             the world failed; retried with a cap and counted         exit 75
    │   ├── NotFoundError      the key does not exist (an answer, not a failure)
    │   ├── StoreUnavailableError
    │   │   └── StoreConflictError      overtaken by other committers without end
    │   └── StoreFullError     no space left
    └── StoppedError           asked to stop; state saved                               exit 143
        └── SupersededError    another worker has taken the slot over; never leaves a worker

The command line prints the message alone and exits with ``exit_code``; workers do the same.
"""

from __future__ import annotations

from typing import ClassVar


class EvergraftError(Exception):
    """Base of every error this project raises on purpose. The message is one that a user can act on."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str | None] = None
    """A name for reports, where the exit code alone says too little."""


class UserError(EvergraftError):
    """Something a person wrote or asked for is wrong. The message names it and the fix."""

    exit_code = 64


class SpecError(UserError):
    """A document's field is wrong: the message carries file, line, field path, what was wrong, what is allowed."""


class NotAGraphError(UserError):
    """The URL holds no module graph."""


class FormatError(UserError):
    """A document was written by a newer format than this version reads."""


class ImageVersionError(UserError):
    """An open search was started by another version, which must finish it."""

    code = "ImageVersion"


class ConflictError(UserError):
    """The graph as it stands forbids what was asked."""


class AlreadyCommittedError(ConflictError):
    """HEAD already holds this run of the task, or a later one."""


class SpecDiffersError(ConflictError):
    """HEAD holds a run of this iteration with another metric, dataset or search."""

    code = "SpecDiffersFromCommitted"


class RouteRemovedError(ConflictError):
    """The route of this task was removed; a higher iteration is needed."""

    code = "RouteRemoved"


class PermissionDeniedError(UserError):
    """The store or file system refuses the credentials given."""


class DataError(EvergraftError):
    """A dataset cannot be used as it is. The message names the file and the fix."""

    exit_code = 65


class IntegrityError(EvergraftError):
    """Stored bytes do not match their content id, digest or golden answers."""

    exit_code = 65


class OutOfMemoryError(EvergraftError):
    """The accelerator's memory is exhausted even with one candidate."""

    exit_code = 66


class StoreError(EvergraftError):
    """The store failed in a way that may pass."""

    exit_code = 75


class NotFoundError(StoreError):
    """The key does not exist."""


class StoreUnavailableError(StoreError):
    """The store did not answer, after retries."""


class StoreConflictError(StoreUnavailableError):
    """Other committers were faster every time."""

    code = "StoreConflict"


class StoreFullError(StoreError):
    """No space is left on the device or in the quota."""


class StoppedError(EvergraftError):
    """The process was asked to stop; what it knew is saved."""

    exit_code = 143


class SupersededError(StoppedError):
    """Another worker has taken over what this one was doing."""
