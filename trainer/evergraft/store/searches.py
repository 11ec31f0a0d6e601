"""Documents of a search's folder: created once, the first stands; or overwritten, for beats and progress.

Called by the search engine and the worker. The engine knows what the documents mean; here they are JSON objects
with a format number, read with a size limit.
"""

from __future__ import annotations

import uuid
from typing import Any

from evergraft import canonical
from evergraft.errors import NotFoundError, StoreUnavailableError
from evergraft.store import documents
from evergraft.store.seam import Landed, Lost, Store

MAX_BYTES = 64 << 20
PLAIN_BYTES = 1 << 20
"""What may be deflated stays plain up to here, for people to read."""
WRITE_ID = "writeId"
"""The field of a create-only document that tells its writer; readers ignore it."""


def put_json_if_absent(
    store: Store, key: str, value: dict[str, Any], *, max_bytes: int = MAX_BYTES, deflated: bool = False
) -> dict[str, Any]:
    """Create the document unless one stands; the document that stands is returned, ours or the other's.

    `value` gets the format number and a write id, unless it carries them, so that ours can be told from an equal one.
    With `deflated` a large one is stored as a zlib stream, and `max_bytes` counts what it inflates to.

    Raises:
        DataError: larger than its readers take; nothing is written.
        StoreUnavailableError: not known whether it landed; asking again is safe.
        IntegrityError, FormatError: the document that stands cannot be read.
    """
    ours = {"format": canonical.FORMAT, WRITE_ID: uuid.uuid4().hex, **value}
    data = documents.encode(ours, what=key, max_bytes=max_bytes)
    if deflated and len(data) > PLAIN_BYTES:
        data = documents.deflate(data, level=documents.FASTEST)
    outcome = store.put_if_absent(key, data)
    if isinstance(outcome, Landed):
        return ours
    if isinstance(outcome, Lost):
        return _decode(outcome.data, what=key, max_bytes=max_bytes, deflated=deflated)
    raise StoreUnavailableError(f"{store.url}: {key} may or may not be written ({outcome.reason}); run again")


def get_json(
    store: Store, key: str, what: str, *, max_bytes: int = MAX_BYTES, deflated: bool = False
) -> dict[str, Any] | None:
    """The document, None if there is none. `what` names it in messages; one that may be `deflated` may also be plain.

    Raises:
        IntegrityError: too large, or no JSON object with a format number.
        FormatError: a newer format.
    """
    try:
        data = store.get(key)
    except NotFoundError:
        return None
    return _decode(data, what=f"{what} ({store.url}/{key})", max_bytes=max_bytes, deflated=deflated)


def _decode(data: bytes, *, what: str, max_bytes: int, deflated: bool) -> dict[str, Any]:
    plain = documents.inflate(data, what=what, max_bytes=max_bytes) if deflated else data
    return documents.decode(plain, what=what, max_bytes=max_bytes)
