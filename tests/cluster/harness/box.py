"""A box: namespaces that stand for one machine. Killing its first process kills everything in it.

The first process is go/box, which only waits and reaps; programs are started into the box, and are its children
there, so no process of theirs stays on the host. A tied box also dies with the thread that started it (therefore
the main thread starts boxes); an untied one outlives the command that made it. Called by controlplane and node.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness.commands import ENVIRONMENT, run, succeeds
from tests.cluster.harness.errors import ClusterError

START_TIMEOUT_S = 30.0
DEATH_TIMEOUT_S = 20.0
SETUP = """set -e
echo {name} > /proc/sys/kernel/hostname
mount --make-rshared /
mount -t tmpfs tmpfs /run
ip link set lo up
{more}
echo ready
exec {init} < /dev/null > /dev/null 2>&1
"""
_children: dict[int, subprocess.Popen[str]] = {}
"""Our own `unshare` processes by the box's pid, to be waited for."""


@dataclass(frozen=True)
class Box:
    """A running box: its first process on the host, and when that was started, as a pid may be used again."""

    name: str
    pid: int
    started: int

    def run(self, *argv: str, stdin: str | None = None, timeout_s: float = 60) -> str:
        """The standard output of `argv` inside the box.

        Raises:
            ClusterError: it fails, or takes longer than `timeout_s`.
        """
        return run(*self._enter(), *argv, stdin=stdin, timeout_s=timeout_s)

    def run_on_network(self, *argv: str) -> str:
        """Like `run`, but only on the box's network: process ids are the host's."""
        return run("nsenter", "-t", str(self.pid), "-n", "--", *argv)

    def spawn(self, name: str, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        """Start `argv` inside the box, as `name`; its output goes to `log`."""
        settings = [f"{key}={value}" for key, value in (env or {}).items()]
        command = shlex.join(["env", *settings, *argv] if settings else list(argv))
        log.parent.mkdir(parents=True, exist_ok=True)
        where, pidfile = shlex.quote(str(log)), f"/run/{name}.pid"
        self.run("sh", "-c", f"setsid {command} < /dev/null >> {where} 2>&1 &\necho $! > {pidfile}")

    def end(self, name: str, *, signal_name: str = "KILL") -> None:
        """End the program that was spawned as `name`, if it still runs, and wait until it is gone."""
        gone = "while kill -0 $pid 2>/dev/null; do sleep 0.05; done"
        self.run("sh", "-c", f"pid=$(cat /run/{name}.pid); kill -{signal_name} $pid 2>/dev/null || exit 0; {gone}")

    def has(self, name: str) -> bool:
        """Whether the program that was spawned as `name` still runs."""
        return succeeds(*self._enter(), "sh", "-c", f"kill -0 $(cat /run/{name}.pid)")

    def alive(self) -> bool:
        return started(self.pid) == self.started

    def kill(self) -> None:
        """Kill the box with everything in it, like a power cut, and wait until its first process is gone.

        Raises:
            ClusterError: something in it cannot be killed.
        """
        child = _children.pop(self.pid, None)
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
        if child is not None:
            child.wait(DEATH_TIMEOUT_S)
        deadline = time.monotonic() + DEATH_TIMEOUT_S
        while self.alive():
            if time.monotonic() > deadline:
                raise ClusterError(f"box {self.name}: process {self.pid} does not die")
            time.sleep(0.02)

    def _enter(self) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-p", "-u", "-i", "--"]


def start_box(name: str, init: Path, *, setup: Sequence[str] = (), tied: bool) -> Box:
    """A new box with host name `name`; `setup` are more lines of shell to be run as its first process.

    Raises:
        ClusterError: the namespaces cannot be made, or a line of `setup` fails.
    """
    script = SETUP.format(name=name, more="\n".join(setup), init=shlex.quote(str(init)))
    command = ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=SIGKILL"]
    command += ["--mount-proc", "--propagation", "slave", "sh", "-c", script]
    if tied:
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=not tied, env=ENVIRONMENT,
    )  # fmt: skip
    assert child.stdout is not None and child.stderr is not None  # noqa: PT018 - for the types
    with child.stdout, child.stderr:
        if child.stdout.readline() != "ready\n":
            child.kill()
            said = child.stderr.read()
            child.wait()
            raise ClusterError(f"box {name} did not start: {said.strip()}")
    pid = _only_child(child.pid)
    _children[pid] = child
    since = started(pid)
    if since is None:
        raise ClusterError(f"box {name} died at once")
    return Box(name=name, pid=pid, started=since)


def started(pid: int) -> int | None:
    """When the process `pid` was started, in clock ticks since boot; None where there is none, or a dead one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _only_child(pid: int) -> int:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.01)
    raise ClusterError(f"process {pid} made no child")
