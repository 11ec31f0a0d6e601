"""`/metrics` and `/progress` of one worker on one port, from a thread; bound to an address that is given.

Reads only what telemetry keeps. Called by the worker; read by Prometheus and the operator.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from evergraft.errors import UserError
from evergraft_trainer.telemetry import Telemetry

MAX_PROGRESS_BYTES = 4096


def progress_bytes(telemetry: Telemetry) -> bytes:
    """The progress as JSON of at most 4 KiB; long texts are cut first, then fields left out from the end."""
    fields = {key: value[:200] if isinstance(value, str) else value for key, value in telemetry.progress().items()}
    data = json.dumps(fields, ensure_ascii=True).encode()
    while len(data) > MAX_PROGRESS_BYTES:
        fields.popitem()
        data = json.dumps(fields, ensure_ascii=True).encode()
    return data


@contextmanager
def status_server(telemetry: Telemetry, *, host: str, port: int) -> Iterator[int]:
    """Serve while the block runs; gives the port (another one than asked only for 0).

    Raises:
        UserError: the port is taken or the address is not this machine's.
    """

    class Handler(BaseHTTPRequestHandler):
        server_version = "evergraft"

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(generate_latest(telemetry.registry), CONTENT_TYPE_LATEST)
            elif self.path == "/progress":
                self._answer(progress_bytes(telemetry), "application/json")
            else:
                self.send_error(404)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
            """Requests are not worth a line each."""

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise UserError(f"--status {host}:{port}: cannot listen there: {error.strerror}") from None
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="status", daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
