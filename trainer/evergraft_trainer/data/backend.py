"""The file system behind a dataset's URL, and requests to it: retried while the failure may pass, errors as ours.

The clients of gs and s3 are made as for a store, but with the dataset's own endpoint and credentials. Called by
``source``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import fsspec

from evergraft.errors import DataError, NotFoundError, StoreUnavailableError, UserError
from evergraft.store.clients import gcs_client, s3_client
from evergraft.store.failures import translate
from evergraft.store.options import StoreOptions
from evergraft.store.retry import COUNTERS, Retry

SCHEMES: Final = ("file", "memory", "gs", "s3")
GONE: Final = "gone while it was being read; put it back"

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Backend:
    """An fsspec file system of one scheme. `read_options` go to every ``cat_file``."""

    fs: fsspec.AbstractFileSystem
    scheme: str
    retry: Retry
    attempts: int
    read_options: Mapping[str, Any] = field(default_factory=dict)

    def ask(self, act: Callable[[], _Result], *, where: str, missing: str = GONE) -> _Result:
        """What `act` returns, tried again after failures that may pass.

        Raises:
            DataError: nothing is there; the message says `where` and `missing`.
            PermissionDeniedError, StoreUnavailableError, UserError.
        """
        for attempt in range(self.attempts):
            try:
                return act()
            except NotADirectoryError:
                raise DataError(f"{where}: {missing}") from None
            except Exception as error:  # a client may raise anything; translated, never swallowed
                failure = translate(error, where=where)
                if isinstance(failure, NotFoundError):
                    raise DataError(f"{where}: {missing}") from None
                if not isinstance(failure, StoreUnavailableError) or attempt + 1 == self.attempts:
                    raise failure from error
            COUNTERS.add("retry dataset")
            self.retry.wait(attempt)
        raise AssertionError("at least one attempt is made")


def open_backend(url: str, *, endpoint: str | None, storage_options: Mapping[str, Any] | None) -> tuple[Backend, str]:
    """The backend of a URL, and the path in it.

    `storage_options` are fields of ``evergraft.store.options.StoreOptions``: key, secret, token, ca_bundle, retry ….

    Raises:
        DataError: another scheme than SCHEMES.
        UserError: no bucket is named, the client is not installed, or an endpoint lacks its credentials.
    """
    scheme = url.split("://", 1)[0] if "://" in url else "file"
    if scheme not in SCHEMES or "::" in url:
        raise DataError(f"dataset.url: {url}: not readable here; use a path or {', '.join(SCHEMES)}")
    options = StoreOptions(endpoint=endpoint, **(storage_options or {}))
    path = url.partition("://")[2] if "://" in url else url
    if scheme in ("file", "memory"):
        fs = fsspec.filesystem(scheme, use_listings_cache=False)
        path = os.path.realpath(path) if scheme == "file" else fs._strip_protocol(url)  # noqa: SLF001
        return Backend(fs=fs, scheme=scheme, retry=options.retry, attempts=1), path
    if not path.partition("/")[0]:
        raise UserError(f"dataset.url: {url}: names no bucket; write {scheme}://bucket/path")
    client = gcs_client(options) if scheme == "gs" else s3_client(options)
    attempts = max(1, min(client.attempts, options.retry.attempts))
    backend = Backend(client.make(), scheme, options.retry, attempts, read_options=client.read)
    return backend, path
