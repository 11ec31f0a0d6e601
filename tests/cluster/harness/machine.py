"""Whether this machine can run a cluster, and what it must have first.

`prepare` is what a start, the tests and `make cluster` call: it checks, installs Debian packages and builds the
programs, and raises one line of reason where that cannot be.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping

from tests.cluster.harness import cgroups, packages
from tests.cluster.harness.binaries import Binaries, build_all
from tests.cluster.harness.commands import ENVIRONMENT, succeeds
from tests.cluster.harness.errors import CannotRunError

CONTROL_PLANE: Mapping[str, str] = {"iproute2": "ip", "util-linux": "nsenter"}
"""What a cluster without nodes runs on."""


def prepare(*, nodes: bool) -> Binaries:
    """Everything a cluster needs on this machine; without `nodes`, what an API server alone needs.

    Raises:
        CannotRunError: with the reason, in one line.
    """
    reason = obstacle()
    if reason is not None:
        raise CannotRunError(reason)
    packages.install(packages.CLUSTER if nodes else CONTROL_PLANE)
    if not succeeds("unshare", "--net", "--mount", "--pid", "--fork", "true"):
        raise CannotRunError("this machine does not let root make namespaces")
    return build_all()


def obstacle() -> str | None:
    """Why this machine cannot run a cluster; None where nothing is known to be in the way."""
    if not sys.platform.startswith("linux"):
        return "a cluster needs Linux"
    if os.geteuid() != 0:
        return "a cluster needs root"
    if not cgroups.can_limit_memory():
        return "there is no cgroup hierarchy for memory in /sys/fs/cgroup"
    if shutil.which("go") is None:
        return "there is no Go compiler here; install Go 1.26 or newer"
    if packages.missing(CONTROL_PLANE) and shutil.which("apt-get", path=ENVIRONMENT["PATH"]) is None:
        return "ip or nsenter is missing, and there is no apt-get to install it"
    return None
