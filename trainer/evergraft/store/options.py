"""What may be said about a store besides its URL: endpoint, credentials, patience. A frozen value.

Nothing here is read from the environment: what is left empty is what the clients find by themselves (application
default credentials, ``STORAGE_EMULATOR_HOST``, ``AWS_*`` with ``AWS_ENDPOINT_URL``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from evergraft.store.retry import Retry


@dataclass(frozen=True)
class StoreOptions:
    """Explicit options of a gs or s3 store."""

    endpoint: str | None = None
    """Base URL of a service that is not the cloud's own, such as http://127.0.0.1:8333."""
    key: str | None = None
    """Access key id (s3)."""
    secret: str | None = field(default=None, repr=False)
    """Secret access key (s3)."""
    token: str | None = field(default=None, repr=False)
    """Session token (s3), or path of a credentials file, `anon`, `cloud`, … (gs)."""
    ca_bundle: str | None = None
    """File of certificates to trust instead of the system's. For gs that is storage alone: tokens come from Google."""
    timeout_s: float = 60.0
    """How long one request may be silent."""
    retry: Retry = field(default_factory=Retry)
    """How often a transient failure is tried again."""
