"""SeaweedFS with its S3 gateway on the cluster's own network: pods, nodes and the tests reach it by one address.

It runs in the control plane's box, where no other cluster's ports are in the way, and dies with it. Identities are
those of the store's own tests. Called by `Cluster.s3`.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path

from tests.cluster.harness.box import Box
from tests.cluster.harness.controlplane import tail
from tests.cluster.harness.errors import CannotRunError, ClusterError
from tests.cluster.harness.layout import Layout

from evergraft.testing import servers

PORT = 8333
START_TIMEOUT_S = 60.0
ALONE = """set -e
touch /run/weed
mkdir -p /run/s3
mount --bind {program} /run/weed
mount --bind {folder} /run/s3
mount -t tmpfs tmpfs /tmp
exec /run/weed "$@"
"""
"""Its parts, and those of another cluster, find each other by sockets in /tmp, so it gets one of its own; what it
needs may lie there too, and is put elsewhere first."""


def start_s3(layout: Layout, control: Box) -> servers.ObjectServer:
    """Start the service with one empty bucket, unless it runs, and wait until it takes objects.

    Raises:
        CannotRunError: SeaweedFS is not installed.
        ClusterError: it does not start in time.
    """
    endpoint = f"http://{layout.control_address}:{PORT}"
    server = servers.ObjectServer(
        url=f"s3://{servers.BUCKET}", endpoint=endpoint, key=servers.S3_KEY, secret=servers.S3_SECRET
    )
    if control.has("weed"):
        return server
    folder = layout.folder / "s3"
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "s3.json").write_text(json.dumps({"identities": servers.s3_identities()}))
    script = ALONE.format(program=shlex.quote(str(_program())), folder=shlex.quote(str(folder)))
    command = ["unshare", "--mount", "sh", "-c", script, "weed", *_flags(layout)]
    control.spawn("weed", command, log=layout.logs / "weed.log")
    _wait(layout, control, endpoint)
    return server


def _wait(layout: Layout, control: Box, endpoint: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            if servers.make_s3_bucket(endpoint):
                return
        except OSError:
            pass  # not yet
        if time.monotonic() > deadline or not control.has("weed"):
            raise ClusterError(f"SeaweedFS did not start:\n{tail(layout.logs / 'weed.log')}")
        time.sleep(0.2)


def _program() -> Path:
    program = Path(sys.executable).with_name("weed")
    if not program.exists():
        raise CannotRunError("SeaweedFS is missing; install the dependency group dev")
    return program


def _flags(layout: Layout) -> list[str]:
    address = layout.control_address
    return [
        "server", f"-ip={address}", f"-ip.bind={address}", "-dir=/run/s3/data", "-filer", "-s3",
        f"-s3.port={PORT}", "-s3.config=/run/s3/s3.json", "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-master.volumeSizeLimitMB=64", "-volume.max=100", "-volume.preStopSeconds=0",
    ]  # fmt: skip
