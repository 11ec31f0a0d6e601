"""What a client raised, as an error of our tree. The one place that knows the clients' errors.

Errors are told by standard type, HTTP status and name, so that no client is imported for it. What is not known to
be final counts as a failure that may pass.
"""

from __future__ import annotations

import errno

from evergraft.errors import (
    EvergraftError,
    NotFoundError,
    PermissionDeniedError,
    StoreFullError,
    StoreUnavailableError,
    UserError,
)

_NO_CREDENTIALS = frozenset({"DefaultCredentialsError", "NoCredentialsError", "PartialCredentialsError"})
_WRONG_REQUEST = frozenset({"ParamValidationError", "InvalidRegionError", "UnknownEndpointError", "ProfileNotFound"})
_FULL = ("QuotaExceeded", "InsufficientStorage", "no space left", "XMinioStorageFull")


def translate(error: Exception, *, where: str) -> EvergraftError:
    """The error of our tree for what a gs or s3 client raised at `where`; ours pass through."""
    if isinstance(error, EvergraftError):
        return error
    name, status = type(error).__name__, _status(error)
    text = f"{where}: {str(error) or name}"
    if isinstance(error, FileNotFoundError) or status == 404:
        return NotFoundError(f"{where} does not exist")
    if name in _NO_CREDENTIALS:
        return PermissionDeniedError(f"{text}; no credentials were found, so log in or set them in the environment")
    if isinstance(error, PermissionError) or status in (401, 403) or _is_forbidden(error):
        return PermissionDeniedError(f"{text}; give these credentials the rights, or use others")
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or status == 507 or any(s in text for s in _FULL):
        return StoreFullError(f"{text}; no space is left")
    if name in _WRONG_REQUEST or (isinstance(error, ValueError) and "endpoint" in str(error)):
        return UserError(f"{text}; check the URL and the endpoint")
    return StoreUnavailableError(text)


def _status(error: Exception) -> int | None:
    """The HTTP status that an error of a client carries, if any."""
    for name in ("code", "status"):
        value = getattr(error, name, None)
        if isinstance(value, int | str) and str(value).isdecimal():
            return int(value)
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        value = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return value if isinstance(value, int) else None
    return None


def _is_forbidden(error: Exception) -> bool:
    """gcsfs reports 403 as a plain OSError that says so."""
    return isinstance(error, OSError) and str(error).startswith("Forbidden")
