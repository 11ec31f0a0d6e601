"""Open a store by its URL. The one place that knows which backend serves which scheme.

Called by the command line, the worker and `evergraft.load`. Nothing is read or written yet: a wrong bucket or
missing rights show with the first operation. fsspec and the clients are imported only for the schemes that need them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from evergraft.errors import UserError
from evergraft.store.files import FileStore
from evergraft.store.memory import MemoryStore
from evergraft.store.options import StoreOptions
from evergraft.store.seam import Store


def open_store(
    url: str, options: StoreOptions | None = None, *, renew: Callable[[], StoreOptions] | None = None
) -> Store:
    """The store at `url`: ``gs://bucket/path``, ``s3://bucket/path``, ``file:///path``, ``memory://name`` or a path.

    `renew` gives the options anew whenever a client is made, so also after credentials were refused.

    Raises:
        UserError: an unknown scheme, no URL or folder at all, no bucket, credentials inside the URL, or a client that
            is not installed.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return FileStore(_folder(url))
    match scheme.lower():
        case "file":
            return FileStore(_file_path(url))
        case "memory":
            return MemoryStore(rest.strip("/"))
        case "gs" | "gcs" | "s3":
            return _open_bucket(url, options or StoreOptions(), renew)
        case _:
            raise UserError(f"store: {url!r} has an unknown scheme; use gs://, s3://, file:// or a path")


def _folder(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"store: {path!r}: there is no such home folder here; write the path out") from None


def _file_path(url: str) -> Path:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UserError(f"store: {url!r} is no URL; a file URL has three slashes: file:///path") from None
    if parts.netloc not in ("", "localhost"):
        raise UserError(
            f"store: {url!r} names a host; a file URL has three slashes: file:///{parts.netloc}{parts.path}"
        )
    return Path(unquote(parts.path))


def _open_bucket(url: str, options: StoreOptions, renew: Callable[[], StoreOptions] | None) -> Store:
    from evergraft.store.clients import gcs_client, s3_client
    from evergraft.store.objects import ObjectStore

    scheme, _, rest = url.partition("://")
    bucket, _, path = rest.partition("/")
    if "@" in bucket or "?" in rest:
        raise UserError("store: credentials do not belong into the URL; use the environment or the store's options")
    if not bucket:
        raise UserError(f"store: {url!r} names no bucket")
    client_of = s3_client if scheme.lower() == "s3" else gcs_client
    client = client_of(options)
    if renew is not None:
        client = replace(client, make=lambda: client_of(renew()).make(), renewable=True)
    name = "s3" if scheme.lower() == "s3" else "gs"
    return ObjectStore(url=f"{name}://{bucket}/{path.strip('/')}".rstrip("/"), client=client, retry=options.retry)
