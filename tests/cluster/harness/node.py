"""One node of the cluster: a box with a container runtime, a kubelet and a proxy, and everything that befalls it.

`kill` is a power cut, `revive` the machine coming back with its disk, `partition` a pulled cable and `heal` the
cable put back; `stop_kubelet` leaves the containers running. Made by cluster; used by tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness import cgroups, network
from tests.cluster.harness.binaries import Binaries
from tests.cluster.harness.box import Box, start_box
from tests.cluster.harness.errors import ClusterError
from tests.cluster.harness.layout import Layout
from tests.cluster.harness.pki import Authority
from tests.cluster.harness.runtime import (
    CONTAINERD,
    SYSCTLS,
    containerd_config,
    kubelet_config,
    network_config,
    proxy_config,
)  # fmt: skip

RUNTIME_TIMEOUT_S = 60
CTR = ("ctr", "-a", CONTAINERD, "-n", "k8s.io")


@dataclass
class Node:
    """Node `number`, counted from 1, named node1 and so on. `box` is None while it is dead."""

    layout: Layout
    binaries: Binaries
    number: int
    control: Box
    tied: bool
    changed: Callable[[], None]
    box: Box | None = None

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def address(self) -> str:
        return self.layout.node_address(self.number)

    @property
    def folder(self) -> Path:
        """The node's disk."""
        return self.layout.folder / self.name

    def running(self) -> Box:
        """The node's box.

        Raises:
            ClusterError: the node is dead.
        """
        if self.box is None:
            raise ClusterError(f"{self.name} is dead; revive it first")
        return self.box

    def kill(self) -> None:
        """Cut its power: kubelet, runtime and containers are gone at once, its disk stays."""
        self.running().kill()
        self.box = None
        self.changed()

    def revive(self) -> None:
        """Start it again on the same disk; its pods and images are still there."""
        if self.box is not None:
            raise ClusterError(f"{self.name} is alive; kill it first")
        self.boot()
        self.start_runtime()
        self.start_kubelet()

    def partition(self) -> None:
        """Pull its cable: the node and its containers live on, and nobody reaches them."""
        network.set_link(self.control, self.running().name, "down")

    def heal(self) -> None:
        """Put the cable back."""
        network.set_link(self.control, self.running().name, "up")

    def stop_kubelet(self) -> None:
        """Kill the kubelet; the containers stay."""
        self.running().end("kubelet")

    def start_kubelet(self) -> None:
        """Start the kubelet and, unless it runs, the proxy; both want an API server that is ready."""
        box, part = self.running(), self.binaries.part
        command = [
            str(part("kubelet")), f"--config={self.folder / 'kubelet.json'}", f"--node-ip={self.address}",
            f"--kubeconfig={self.layout.pki / self.name}.kubeconfig", f"--hostname-override={self.name}",
        ]  # fmt: skip
        box.spawn("kubelet", command, log=self._log("kubelet"))
        if not box.has("kube-proxy"):
            command = [str(part("kube-proxy")), f"--config={self.folder / 'kube-proxy.json'}"]
            box.spawn("kube-proxy", command, log=self._log("kube-proxy"))

    def boot(self) -> None:
        """The machine without its programs: its box, disk, cable and cgroups."""
        self.folder.mkdir(parents=True, exist_ok=True)
        cgroups.make(f"{self.layout.cgroup}/{self.name}")
        self.box = start_box(self.name, self.binaries.box, setup=self._setup(), tied=self.tied)
        self.changed()
        network.connect_node(self.layout, self.control, self.box, self.number)

    def start_runtime(self) -> None:
        """Start the container runtime and wait until it answers."""
        box = self.running()
        box.spawn(
            "containerd", ["containerd", "--config", str(self.folder / "containerd.toml")], log=self._log("containerd")
        )
        waiting = f"until {' '.join(CTR)} version > /dev/null 2>&1; do sleep 0.1; done"
        box.run("sh", "-c", waiting, timeout_s=RUNTIME_TIMEOUT_S)

    def stop_runtime(self) -> None:
        """Ask the container runtime to end; containers would stay."""
        self.running().end("containerd", signal_name="TERM")

    def ctr(self, *argv: str, timeout_s: float = 60) -> str:
        """The output of containerd's own client."""
        return self.running().run(*CTR, *argv, timeout_s=timeout_s)

    def _setup(self) -> list[str]:
        """Shell that gives the box a disk of its own and hides the machine's settings from its kubelet."""
        lines = [f"mkdir -p /run/sysctl {self.folder}/lib {self.folder}/log"]
        lines += [f"mount --bind {self.folder}/{part} /var/{part}" for part in ("lib", "log")]
        for setting, value in SYSCTLS.items():
            cover = f"/run/sysctl/{setting.replace('/', '.')}"
            lines += [
                f"echo {value} > {cover}",
                f"if [ -e /proc/sys/{setting} ]; then mount --bind {cover} /proc/sys/{setting}; fi",
            ]
        return lines

    def _log(self, program: str) -> Path:
        return self.layout.logs / f"{self.name}-{program}.log"


def write_configuration(layout: Layout, authority: Authority, number: int) -> None:
    """Certificates and files of node `number`; written once, and found again after a death."""
    name, folder = f"node{number}", layout.folder / f"node{number}"
    (folder / "network").mkdir(parents=True, exist_ok=True)
    (folder / "volumeplugins").mkdir(exist_ok=True)
    authority.client(name, f"system:node:{name}", "system:nodes")
    authority.kubeconfig(layout.pki / f"{name}.kubeconfig", name, layout.api)
    authority.server(f"{name}-serving", [name, layout.node_address(number)])
    (folder / "containerd.toml").write_text(containerd_config(folder / "network"))
    (folder / "network" / "10-pods.conflist").write_text(network_config(layout, number))
    (folder / "kubelet.json").write_text(kubelet_config(layout, number, name, folder))
    (folder / "kube-proxy.json").write_text(proxy_config(layout, name))
    (folder / "resolv.conf").write_text(f"nameserver {layout.control_address}\n")
