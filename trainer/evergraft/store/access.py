"""How a process in a pod reaches one place, its graph's store or its dataset: credentials and certificates from files.

What the files hold is given to that place's client alone and never to the environment, so that two places with two
secrets do not meet. Files are read whenever a client is made, which a store also does after it was refused, so what is
rotated meanwhile is picked up. Without credentials the clients find the pod's own identity. Called by the worker and
by stewards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evergraft.errors import SpecError, UserError
from evergraft.store.open import open_store
from evergraft.store.options import StoreOptions
from evergraft.store.seam import Store

GCS_KEY = "credentials.json"
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
S3_TOKEN = "AWS_SESSION_TOKEN"  # noqa: S105 - the name of a key, not its value
MAX_FILE_BYTES = 1 << 20
"""What Kubernetes lets a Secret or a ConfigMap hold."""
PEM = "-----BEGIN CERTIFICATE-----"
GCS_TYPES = ("service_account", "authorized_user")
"""Kinds of Google credential files that gcsfs reads."""


@dataclass(frozen=True)
class Access:
    """One place. `role` is store or data and names it in messages; `credentials` is the folder of a mounted Secret."""

    role: str
    url: str
    endpoint: str | None = None
    credentials: Path | None = None
    ca_bundle: Path | None = None

    @classmethod
    def from_json(cls, value: Any, role: str) -> Access:
        """Read ``{url, endpoint, credentials, caBundle}``, all but the URL optional.

        Raises:
            SpecError: a field is missing or no text.
        """
        if not isinstance(value, Mapping) or not isinstance(value.get("url"), str) or not value["url"]:
            raise SpecError(f"{role}: expected an object with a url")
        for name in ("endpoint", "credentials", "caBundle"):
            if not isinstance(value.get(name), str | None):
                raise SpecError(f"{role}.{name}: expected text")
        folder, bundle = value.get("credentials"), value.get("caBundle")
        return cls(
            role=role,
            url=value["url"],
            endpoint=value.get("endpoint"),
            credentials=Path(folder) if folder else None,
            ca_bundle=Path(bundle) if bundle else None,
        )

    def open(self) -> Store:
        """A store here, with what the files hold now.

        Raises:
            UserError: a key of the Secret is missing or empty, or as `open_store`.
        """
        return open_store(self.url, self.options(), renew=self.options)

    def options(self) -> StoreOptions:
        """What a client is to be made with: endpoint, certificates and what the Secret's files hold now.

        Raises:
            UserError: a key of the Secret is missing, empty or unusable; the message names it.
        """
        return StoreOptions(endpoint=self.endpoint, **self.secrets())

    def secrets(self) -> dict[str, Any]:
        """The fields of ``StoreOptions`` that come from files. Raises as `options` does."""
        found: dict[str, Any] = {}
        if self.ca_bundle is not None:
            what = f"the ConfigMap's key with the certificates ({self.ca_bundle})"
            if PEM not in self._read(self.ca_bundle, what):
                raise UserError(f"{self.role}: {what} holds no PEM certificate; put the bundle there")
            found["ca_bundle"] = str(self.ca_bundle)
        if self.credentials is None:
            return found
        scheme = self.url.partition("://")[0].lower()
        if scheme == "s3":
            return {**found, **self._s3(self.credentials)}
        if scheme in ("gs", "gcs"):
            return {**found, "token": self._gcs(self.credentials)}
        raise UserError(f"{self.role}: {self.url} takes no credentials; a secretRef is for gs:// and s3://")

    def _s3(self, folder: Path) -> dict[str, str | None]:
        key, secret = (self._secret(folder, name) for name in S3_KEYS)
        token = self._secret(folder, S3_TOKEN) if (folder / S3_TOKEN).exists() else None
        return {"key": key, "secret": secret, "token": token}

    def _gcs(self, folder: Path) -> str:
        """The path of a credentials file; gcsfs reads it again by itself."""
        text, path = self._secret(folder, GCS_KEY), folder / GCS_KEY
        try:
            kind = json.loads(text)["type"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UserError(
                f"{self.role}: key {GCS_KEY} of the Secret is no Google credentials file ({path})"
            ) from None
        if kind not in GCS_TYPES:
            allowed = " or ".join(GCS_TYPES)
            raise UserError(
                f"{self.role}: key {GCS_KEY} of the Secret is of type {str(kind)[:40]!r}; use one of type {allowed}, "
                "or leave secretRef out and give the service account an identity"
            )
        return str(path)

    def _secret(self, folder: Path, name: str) -> str:
        text = self._read(folder / name, f"key {name} of the Secret ({folder / name})")
        if name != GCS_KEY and not (text.isascii() and text.isprintable() and " " not in text):
            raise UserError(f"{self.role}: key {name} of the Secret holds signs that no key has; write it again")
        return text

    def _read(self, path: Path, what: str) -> str:
        try:
            with path.open("rb") as file:
                text = file.read(MAX_FILE_BYTES).decode().strip()
        except FileNotFoundError:
            raise UserError(f"{self.role}: {what} is missing; add it") from None
        except OSError as error:
            raise UserError(f"{self.role}: {what} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UserError(f"{self.role}: {what} is no text; write it again") from None
        if not text:
            raise UserError(f"{self.role}: {what} is empty; fill it in")
        return text


def bucket_of(url: str) -> str | None:
    """Scheme and bucket of a gs or s3 URL, None for any other."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.lower()}://{rest.partition('/')[0]}" if scheme.lower() in ("gs", "s3") else None
