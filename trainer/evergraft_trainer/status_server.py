"""`/metrics` and `/progress` on one port, from a thread; bound to an address that is given.

The address is a host and a port, or the path of a socket, as the parent of several workers gives it to each. What is
served is asked for at each request. Called by the worker and by that parent; read by Prometheus and the operator.
"""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from evergraft.errors import UserError

MAX_PROGRESS_BYTES = 4096
QUIET_S = 10.0
"""A client that sends nothing for so long is sent away."""

Address = tuple[str, int] | Path
"""Host and port, or the path of a socket of this machine."""


@dataclass(frozen=True)
class Served:
    """What is served: the text of Prometheus, and the fields of the progress."""

    metrics: Callable[[], bytes]
    progress: Callable[[], Mapping[str, Any]]


def progress_bytes(told: Mapping[str, Any]) -> bytes:
    """The progress as JSON of at most 4 KiB; long texts are cut first, then fields left out from the end."""
    fields = {key: value[:200] if isinstance(value, str) else value for key, value in told.items()}
    data = json.dumps(fields, ensure_ascii=True).encode()
    while len(data) > MAX_PROGRESS_BYTES:
        fields.popitem()
        data = json.dumps(fields, ensure_ascii=True).encode()
    return data


@contextmanager
def status_server(served: Served, address: Address) -> Iterator[int]:
    """Serve while the block runs; gives the port (another one than asked only for 0; 0 for a socket's path).

    Raises:
        UserError: the port is taken, or the address is not this machine's or no address at all.
    """

    class Handler(BaseHTTPRequestHandler):
        server_version = "evergraft"
        timeout = QUIET_S

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(served.metrics(), CONTENT_TYPE_LATEST)
            elif self.path == "/progress":
                self._answer(progress_bytes(served.progress()), "application/json")
            else:
                self.send_error(404)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
            """Requests are not worth a line each."""

        def address_string(self) -> str:
            """Who asks; nobody with a name where the address is a path."""
            return "" if isinstance(address, Path) else super().address_string()

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    shown = address if isinstance(address, Path) else ":".join(map(str, address))
    try:
        server = _listen(address, Handler)
    except OSError as error:
        raise UserError(f"--status {shown}: cannot listen there: {error.strerror or error}") from None
    except (TypeError, UnicodeError):  # what Python makes of a host that no name server could be asked for
        raise UserError(f"--status {shown}: no host name; give one such as 127.0.0.1:9090") from None
    threading.Thread(target=server.serve_forever, name="status", daemon=True).start()
    try:
        yield int(server.server_address[1]) if isinstance(server, ThreadingHTTPServer) else 0
    finally:
        server.shutdown()
        server.server_close()


class _PathServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class _PortServer(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """As the standard library's, but without asking a name server who we are: a pod may have none."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _PortServer6(_PortServer):
    address_family = socket.AF_INET6


def _listen(address: Address, handler: type[BaseHTTPRequestHandler]) -> socketserver.BaseServer:
    if isinstance(address, Path):
        return _PathServer(str(address), handler)
    return (_PortServer6 if ":" in address[0] else _PortServer)(address, handler)
