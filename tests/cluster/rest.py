"""The API server, spoken to directly: status code and JSON, as the administrator or with a token.

kubectl takes a tenth of a second a call; the hundreds of small questions of test_crds.py and test_rbac.py go over one
connection. Called by those tests.
"""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.harness.cluster import Cluster

Object = dict[str, Any]
MERGE, APPLY, JSON_PATCH = (
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    "application/json-patch+json",
)


@dataclass
class Rest:
    """One connection. Without a token the administrator's certificate is shown."""

    cluster: Cluster
    token: str | None = None
    _connection: http.client.HTTPSConnection | None = field(default=None, repr=False)

    def call(self, method: str, path: str, body: Object | None = None, kind: str = "") -> tuple[int, Object]:
        """Status and answer of one request. A body is sent as JSON, or as a patch of `kind`."""
        headers = {"Content-Type": kind or "application/json", "Accept": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = self._open()
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        return answer.status, json.loads(text) if text.startswith(b"{") else {"message": text.decode()}

    def must(self, method: str, path: str, body: Object | None = None, kind: str = "") -> Object:
        """The answer of a request that has to succeed."""
        status, answer = self.call(method, path, body, kind)
        assert status < 300, (method, path, status, answer.get("message"))
        return answer

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _open(self) -> http.client.HTTPSConnection:
        if self._connection is None:
            pki = self.cluster.layout.pki
            context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
            if self.token is None:
                context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
            self._connection = http.client.HTTPSConnection(
                self.cluster.layout.control_address, 6443, timeout=20, context=context
            )
        return self._connection
