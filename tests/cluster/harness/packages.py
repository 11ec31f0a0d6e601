"""Debian's part of the cluster: container runtime, network plugins and image tools, installed when missing.

`install` says what it is about to install, in one line on standard error. Called by cluster.prepare and, for the
image tools, by whoever builds images.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.harness.commands import ENVIRONMENT, run
from tests.cluster.harness.errors import CannotRunError, ClusterError

CLUSTER: Mapping[str, str] = {
    "busybox-static": "busybox",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iproute2": "ip",
    "iptables": "iptables",
    "nftables": "nft",
    "runc": "runc",
    "util-linux": "nsenter",
}
"""What nodes run on: each package, and a program that shows that it is there."""

IMAGES: Mapping[str, str] = {"buildah": "buildah", "debootstrap": "debootstrap"}
"""What builds images."""


def missing(packages: Mapping[str, str]) -> list[str]:
    """Those of `packages` whose program is not on this machine."""
    return [package for package, program in packages.items() if not _is_there(program)]


def install(packages: Mapping[str, str]) -> None:
    """Install those of `packages` that are missing.

    Raises:
        CannotRunError: there is no apt-get here, or its package index cannot be reached.
    """
    wanted = missing(packages)
    if not wanted:
        return
    if not _is_there("apt-get"):
        raise CannotRunError(f"these programs are missing, and there is no apt-get to install them: {' '.join(wanted)}")
    sys.stderr.write(f"cluster: installing {' '.join(wanted)}\n")
    environment = {**ENVIRONMENT, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *wanted]
    try:
        run("apt-get", "update", "-q", timeout_s=300, env=environment)
        run(*command, timeout_s=900, env=environment)
    except ClusterError as error:
        raise CannotRunError(f"apt-get could not install {' '.join(wanted)}: {_last_line(error)}") from error


def _is_there(program: str) -> bool:
    return Path(program).exists() or shutil.which(program, path=ENVIRONMENT["PATH"]) is not None


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
