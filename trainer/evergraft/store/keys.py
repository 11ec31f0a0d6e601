"""Which keys a store accepts: relative, plain, never leaving the root. Called by every backend before it acts.

Keys reach a store from documents that it holds, so they are untrusted: a content id that is a path would otherwise
read or write outside the root. Parts that begin with a dot are kept for the backends' own temporary files.
"""

from __future__ import annotations

from evergraft.errors import UserError

MAX_KEY_BYTES = 900
"""Under the 1,024 bytes that S3 and GCS allow, with room for the root."""


def check_key(key: str) -> str:
    """The key itself, once it is known to stay below the root.

    Raises:
        UserError: the key is empty, absolute, too long, no Unicode, or has a part that is empty or begins with a dot.
    """
    parts = key.split("/")
    if any(not part or part.startswith(".") for part in parts) or any(sign in key for sign in "\\\0"):
        raise UserError(f"store: {key!r} is no key: its parts must be plain names that do not begin with a dot")
    try:
        num_bytes = len(key.encode())
    except UnicodeEncodeError:  # such as a file's name that is no UTF-8
        raise UserError(f"store: {key!r} is no key: it has no form in UTF-8") from None
    if num_bytes > MAX_KEY_BYTES:
        raise UserError(f"store: the key {key[:60]!r}… is longer than {MAX_KEY_BYTES} bytes")
    return key


def is_key(key: str) -> bool:
    """Whether a store accepts `key`. A folder may list others: somebody else's files."""
    try:
        check_key(key)
    except UserError:
        return False
    return True


def check_prefix(prefix: str) -> str:
    """The prefix itself, once it is known to stay below the root; it may be empty or end with a slash.

    Raises:
        UserError: as for keys.
    """
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix
