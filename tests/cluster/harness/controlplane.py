"""The control plane of one cluster: etcd, the API server, the controllers and, where there are nodes, a scheduler.

Authorisation is Node and RBAC, anonymous requests are refused, and Pod Security, NodeRestriction and the permission
check of owner references are on, as in a hardened cluster. Node failures are noticed in seconds instead of the
default's minutes. Called by cluster.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.harness.binaries import Binaries
from tests.cluster.harness.box import Box, start_box
from tests.cluster.harness.errors import ClusterError
from tests.cluster.harness.layout import Layout
from tests.cluster.harness.pki import Authority

READY_TIMEOUT_S = 180.0
SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
BUSY = ("--kube-api-qps=200", "--kube-api-burst=400")


def issue_certificates(layout: Layout, authority: Authority) -> None:
    """Every pair and kubeconfig of the control plane, and the administrator's."""
    names = [*SERVICE_NAMES, "localhost", "127.0.0.1", layout.control_address, layout.first_service]
    authority.server("apiserver", names)
    authority.client("admin", "admin", "system:masters")
    authority.client("apiserver-kubelet", "apiserver-kubelet", "system:masters")
    authority.kubeconfig(layout.kubeconfig, "admin", layout.api)
    for part in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
        authority.client(part, f"system:{part}")
        authority.kubeconfig(layout.pki / f"{part}.kubeconfig", part, layout.api)


def start_control_box(binaries: Binaries, *, tied: bool) -> Box:
    """The box of the control plane, empty."""
    return start_box("control", binaries.box, tied=tied)


def start_api(layout: Layout, binaries: Binaries, box: Box) -> None:
    """Start etcd and the API server; `wait_for_api` waits for them."""
    box.spawn("etcd", [str(binaries.etcd), *_etcd_flags(layout)], log=layout.logs / "etcd.log")
    command = [str(binaries.part("kube-apiserver")), *_api_flags(layout)]
    box.spawn("kube-apiserver", command, log=layout.logs / "kube-apiserver.log")


def start_controllers(layout: Layout, binaries: Binaries, box: Box, *, scheduler: bool) -> None:
    """Start the controller manager and the scheduler; both want an API server that is ready."""
    command = [str(binaries.part("kube-controller-manager")), *_controller_flags(layout)]
    box.spawn("kube-controller-manager", command, log=layout.logs / "kube-controller-manager.log")
    if scheduler:
        command = [str(binaries.part("kube-scheduler")), *_scheduler_flags(layout)]
        box.spawn("kube-scheduler", command, log=layout.logs / "kube-scheduler.log")


@dataclass(frozen=True)
class Api:
    """The API server, asked as the administrator from the host."""

    layout: Layout

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of GET `path`.

        Raises:
            OSError: nobody answers.
        """
        connection = http.client.HTTPSConnection(
            self.layout.control_address, 6443, timeout=10, context=_tls(self.layout.pki)
        )
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def objects(self, path: str) -> list[dict[str, Any]]:
        """The items of the list at `path`, none where it is not there yet."""
        status, body = self.get(path)
        return list(json.loads(body)["items"]) if status == 200 else []

    def wait_ready(self, box: Box) -> None:
        """Wait for the API server.

        Raises:
            ClusterError: it is not ready in time, or its box died.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._ready():
            if time.monotonic() > deadline or not box.alive():
                raise ClusterError(f"the API server did not start:\n{tail(self.layout.logs / 'kube-apiserver.log')}")
            time.sleep(0.1)

    def wait_default_account(self) -> None:
        """Wait until pods can be made in the namespace `default`: its service account and the authority are there.

        Raises:
            ClusterError: not in time.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        wanted = ("serviceaccounts/default", "configmaps/kube-root-ca.crt")
        while not all(self.get(f"/api/v1/namespaces/default/{thing}")[0] == 200 for thing in wanted):
            if time.monotonic() > deadline:
                log = tail(self.layout.logs / "kube-controller-manager.log")
                raise ClusterError(f"the controllers made no default service account:\n{log}")
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False


def tail(log: Path, size: int = 3000) -> str:
    """The end of a log, for an error's text."""
    return log.read_text(errors="replace")[-size:] if log.exists() else f"(no {log.name})"


def _tls(pki: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    return context


def _etcd_flags(layout: Layout) -> Sequence[str]:
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return [
        f"--data-dir={layout.folder / 'etcd'}", f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync", "--log-level=warn",
    ]  # fmt: skip


def _api_flags(layout: Layout) -> Sequence[str]:
    pki = layout.pki
    return [
        f"--bind-address={layout.control_address}", f"--advertise-address={layout.control_address}",
        "--secure-port=6443", "--etcd-servers=http://127.0.0.1:2379", f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}", f"--tls-private-key-file={pki / 'apiserver.key'}",
        "--authorization-mode=Node,RBAC", "--anonymous-auth=false", "--allow-privileged=true",
        "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki / 'accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'accounts.key'}",
        f"--service-cluster-ip-range={layout.services}", "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet.key'}",
        "--default-not-ready-toleration-seconds=3", "--default-unreachable-toleration-seconds=3",
    ]  # fmt: skip


def _controller_flags(layout: Layout) -> Sequence[str]:
    pki = layout.pki
    return [
        f"--kubeconfig={pki / 'kube-controller-manager.kubeconfig'}", "--use-service-account-credentials",
        f"--service-account-private-key-file={pki / 'accounts.key'}", f"--root-ca-file={pki / 'ca.crt'}",
        "--leader-elect=false", "--bind-address=127.0.0.1", "--node-monitor-period=1s",
        "--node-monitor-grace-period=6s", "--node-eviction-rate=10", "--secondary-node-eviction-rate=10",
        "--unhealthy-zone-threshold=1", "--concurrent-job-syncs=20", *BUSY,
    ]  # fmt: skip


def _scheduler_flags(layout: Layout) -> Sequence[str]:
    config = f"{layout.pki / 'kube-scheduler.kubeconfig'}"
    return [
        f"--kubeconfig={config}", f"--authentication-kubeconfig={config}", f"--authorization-kubeconfig={config}",
        "--leader-elect=false", "--bind-address=127.0.0.1", *BUSY,
    ]  # fmt: skip
