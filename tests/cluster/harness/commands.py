"""Commands on this machine: run one, or hear in the error what it said.

Every child gets a small, fixed environment: a proxy in the caller's has no business with the cluster's addresses,
and a kubelet started by hand must not differ from one started by a test. Called by the whole harness.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from tests.cluster.harness.errors import ClusterError

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": os.environ.get("HOME", "/root"),
    "LANG": "C.UTF-8",
}


def run(*argv: str, stdin: str | None = None, timeout_s: float = 60, env: Mapping[str, str] | None = None) -> str:
    """The standard output of `argv`.

    Raises:
        ClusterError: it exits with another code than 0, or takes longer than `timeout_s`.
    """
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=env or ENVIRONMENT,
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{' '.join(argv)}: no end after {timeout_s:g} s") from None
    except FileNotFoundError:
        raise ClusterError(f"{argv[0]}: no such program") from None
    if done.returncode != 0:
        raise ClusterError(
            f"{' '.join(argv)}: exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-4000:]}"
        )
    return done.stdout


def succeeds(*argv: str) -> bool:
    """Whether `argv` exits with 0; what it says does not matter."""
    return subprocess.run(argv, check=False, capture_output=True, env=ENVIRONMENT, timeout=60).returncode == 0
