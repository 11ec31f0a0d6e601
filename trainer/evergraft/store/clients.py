"""The fsspec clients of gs and s3, made the way a store needs them: no listing cache, few retries of their own.

Imported only when a gs or s3 URL is opened. gcsfs, when it may, asks over gRPC what type a bucket is, which stalls
against an emulator and buys nothing here: the plain class is used and the extension is not imported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from evergraft.errors import UserError
from evergraft.store.options import StoreOptions

CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Client:
    """How to make an fsspec file system, and what its reads want to be told.

    `attempts` caps the tries around it: gcsfs tries six times by itself and cannot be told otherwise. `renewable`: one
    made anew has the credentials as they are then.
    """

    make: Callable[[], Any]
    read: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 100
    renewable: bool = False


def s3_client(options: StoreOptions) -> Client:
    """s3fs for `options`; what they leave out is found as the AWS tools find it (``AWS_*``).

    Raises:
        UserError: s3fs is not installed, or an endpoint is given without the credentials meant for it.
    """
    try:
        import s3fs
    except ImportError:
        raise UserError('store: s3:// needs the s3 client; install it with: pip install "evergraft[s3]"') from None
    anonymous = options.token == "anon"  # noqa: S105 - a word, not a secret
    if options.endpoint and not anonymous and not (options.key and options.secret):
        raise UserError(
            f"store: the endpoint {options.endpoint} needs key and secret, since this machine's own credentials are "
            "not sent elsewhere; give both, or set AWS_ENDPOINT_URL beside AWS_ACCESS_KEY_ID in the environment"
        )

    def make() -> Any:
        system = s3fs.S3FileSystem(
            anon=anonymous,
            endpoint_url=options.endpoint,
            key=options.key,
            secret=options.secret,
            token=None if anonymous else options.token,
            client_kwargs={"verify": options.ca_bundle} if options.ca_bundle else {},
            config_kwargs={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "read_timeout": options.timeout_s,
                "retries": {"total_max_attempts": 1},
            },
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        system.retries = 1
        return system

    # One request a read: by default s3fs asks for the size first.
    return Client(make=make, read={"max_concurrency": 1})


def gcs_client(options: StoreOptions) -> Client:
    """gcsfs for `options`; without any, application default credentials, or ``STORAGE_EMULATOR_HOST``.

    An endpoint that is not Google's is never sent this machine's own token: `options.token`, else anonymous.

    Raises:
        UserError: gcsfs is not installed.
    """
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        import aiohttp
        from gcsfs.core import GCSFileSystem
    except ImportError:
        raise UserError('store: gs:// needs the gcs client; install it with: pip install "evergraft[gcs]"') from None
    # Its tracebacks of what we catch and translate are not for users.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    endpoint = options.endpoint or os.environ.get("STORAGE_EMULATOR_HOST") or None
    if endpoint and "://" not in endpoint:
        endpoint = f"http://{endpoint}"

    def make() -> Any:
        system = GCSFileSystem(
            token=options.token or ("anon" if endpoint else None),
            endpoint_url=endpoint.rstrip("/") if endpoint else None,
            requests_timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=options.timeout_s
            ),
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        if options.ca_bundle:
            system.session_kwargs["connector"] = _trusting(system, options.ca_bundle)
        return system

    return Client(make=make, attempts=2)


def _trusting(system: Any, ca_bundle: str) -> Any:
    """A connector of gcsfs's own loop that trusts the bundle's certificates and no others.

    Raises:
        UserError: the bundle holds no certificate.
    """
    import ssl

    import aiohttp
    from fsspec.asyn import sync

    try:
        context = ssl.create_default_context(cafile=ca_bundle)
    except ssl.SSLError:
        raise UserError(f"store: {ca_bundle} holds no PEM certificate; put the bundle there") from None

    async def connect() -> Any:
        return aiohttp.TCPConnector(ssl=context)

    return sync(system.loop, connect)
