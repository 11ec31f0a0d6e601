"""Where one test cluster lives: its folders, addresses and names, all derived from its name and index.

Several clusters run side by side on one machine, so nothing here is fixed: the index chooses the subnets and the
interface on the host, the name the folder and the cgroups. Used by every other part of the harness.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness.errors import ClusterError

NAME = re.compile(r"[a-z][a-z0-9-]{0,20}")
MAX_INDEX = 60
MAX_NODES = 3


def clusters_folder() -> Path:
    """The folder of all test clusters of this machine; it must lie on a real file system, not on an overlay."""
    return Path(os.environ.get("EVERGRAFT_CLUSTERS", "/var/tmp/evergraft-clusters"))


def cache_folder() -> Path:
    """The folder of built programs and images, outside of the working tree so that every clone shares it."""
    return Path(os.environ.get("EVERGRAFT_CACHE", "~/.cache/evergraft")).expanduser()


@dataclass(frozen=True)
class Layout:
    """Names and addresses of the cluster `name` at `index` on this machine."""

    name: str
    index: int

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ClusterError(f"--name {self.name!r}: lower-case letters, digits and hyphens, 21 at most")
        if not 0 <= self.index <= MAX_INDEX:
            raise ClusterError(f"index {self.index}: 0 to {MAX_INDEX}; end clusters that are no longer used")

    @property
    def folder(self) -> Path:
        return clusters_folder() / self.name

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def kubectl_cache(self) -> Path:
        """Where kubectl remembers what kinds of objects there are."""
        return self.folder / "kubectl"

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def cgroup(self) -> str:
        """The cluster's own level in every cgroup hierarchy."""
        return f"evergraft-{self.name}"

    @property
    def host_interface(self) -> str:
        """The one interface on the host; the kernel allows 15 characters."""
        return f"evergraft{self.index}"

    @property
    def network(self) -> str:
        return f"10.250.{self.index}.0/24"

    @property
    def host_address(self) -> str:
        return f"10.250.{self.index}.1"

    @property
    def control_address(self) -> str:
        return f"10.250.{self.index}.2"

    def node_address(self, number: int) -> str:
        """The address of node `number`, counted from 1."""
        return f"10.250.{self.index}.{10 + number}"

    @property
    def pods(self) -> str:
        return f"10.251.{4 * self.index}.0/22"

    def node_pods(self, number: int) -> str:
        """The addresses of the pods of node `number`, counted from 1."""
        return f"10.251.{4 * self.index + number}.0/24"

    @property
    def services(self) -> str:
        return f"10.252.{4 * self.index}.0/22"

    @property
    def first_service(self) -> str:
        """The address of `kubernetes.default`, the API server as pods know it."""
        return f"10.252.{4 * self.index}.1"

    @property
    def api(self) -> str:
        return f"https://{self.control_address}:6443"
