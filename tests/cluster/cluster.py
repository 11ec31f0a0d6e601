#!/usr/bin/env python
"""A real Kubernetes on this machine by hand: up, down, kubectl, status, build.

`up` starts one that outlives the command, and prints how to use it; `down` ends it and leaves nothing behind.
`build` only makes what a start needs, which takes 12 minutes the first time. Called by the Makefile and by people.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)  # this folder's own cluster.py is not the package that is meant

from tests.cluster.harness import records  # noqa: E402
from tests.cluster.harness.cluster import Cluster  # noqa: E402
from tests.cluster.harness.commands import ENVIRONMENT  # noqa: E402
from tests.cluster.harness.errors import CannotRunError, ClusterError  # noqa: E402
from tests.cluster.harness.machine import prepare  # noqa: E402


def main() -> int:
    """Run one command; exit code 1 and one line where it fails."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        return _kubectl(sys.argv[2:]) if sys.argv[1:2] == ["kubectl"] else _run(_parser().parse_args())
    except ClusterError as error:
        sys.stderr.write(f"cluster: {error}\n")
        return 1


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "up":
        _up(arguments.name, arguments.nodes)
    elif arguments.command == "down":
        _down(arguments.name)
    elif arguments.command == "status":
        _status()
    else:
        return _build()
    return 0


def _kubectl(argv: list[str]) -> NoReturn:
    """Become kubectl. Every argument is its own, but for a leading --name."""
    name = "dev"
    if argv[:1] == ["--name"] and len(argv) > 1:
        name, argv = argv[1], argv[2:]
    cluster = Cluster.attach(name)
    kubectl = str(cluster.binaries.part("kubectl"))
    settings = {"KUBECONFIG": str(cluster.kubeconfig), "KUBECACHEDIR": str(cluster.layout.kubectl_cache)}
    os.execve(kubectl, [kubectl, *argv], {**ENVIRONMENT, **settings})


def _up(name: str, nodes: int) -> None:
    cluster = Cluster.start(name, nodes=nodes, detached=True)
    folder = cluster.binaries.kube.parent
    print(f"cluster {name}: Kubernetes at {cluster.layout.api}, {nodes} nodes. To use it:")
    print(f"  export KUBECONFIG={cluster.kubeconfig} KUBECACHEDIR={cluster.layout.kubectl_cache}")
    print(f"  export PATH={folder}:$PATH")
    print("  kubectl get nodes,pods --all-namespaces")
    named = "" if name == "dev" else f" --name {name}"
    print(f"To end it: make cluster-down, or {Path(sys.executable).name} tests/cluster/cluster.py down{named}")


def _down(name: str) -> None:
    record = records.read(name)
    if record is None:
        print(f"no cluster {name}")
        return
    records.remove(record)
    print(f"cluster {name}: gone")


def _status() -> None:
    for record in records.everything():
        state = "running" if record.alive() else "dead"
        kind = "detached" if record.detached else f"of process {record.owner[0]}"
        print(
            f"{record.name}: {state}, {kind}, {record.layout.api}, {record.num_nodes} nodes, {record.layout.kubeconfig}"
        )


def _build() -> int:
    """Make everything; where this machine cannot run a cluster that is no error, unless it is required."""
    try:
        prepare(nodes=True)
    except CannotRunError as reason:
        sys.stderr.write(f"cluster: cannot run here: {reason}\n")
        return 1 if os.environ.get("EVERGRAFT_REQUIRE_ALL") == "1" else 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cluster.py", description="A real Kubernetes on this machine.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start one that outlives this command")
    up.add_argument("--nodes", type=int, default=2, help="0: an API server and the controllers only (default: 2)")
    down = commands.add_parser("down", help="end it, and leave nothing behind")
    commands.add_parser("kubectl", help="[--name NAME] ARGUMENT ... : run kubectl with it")
    commands.add_parser("status", help="list the clusters of this machine")
    commands.add_parser("build", help="install and build what a start needs")
    for command in (up, down):
        command.add_argument("--name", default="dev", help="one of several (default: dev)")
    return parser


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """End like an interrupt, so that a start that is under way cleans up."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
