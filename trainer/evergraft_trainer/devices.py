"""Several devices in one pod: a worker process for each, pinned to it, under this small parent.

The parent trains nothing and imports no torch. It passes SIGTERM on, answers `/metrics` and `/progress` for all, and
makes one report of theirs. As soon as one of them has ended the others are asked to stop as well: either the search is
closed, or the pod is worth replacing. Called by ``evergraft worker`` where EVERGRAFT_DEVICES is above 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from evergraft.errors import StoppedError
from evergraft_trainer import report
from evergraft_trainer.pool import FOLLOW_PARENT, WORKER_NUMBER
from evergraft_trainer.relay import Relay
from evergraft_trainer.status_server import Address, status_server

DEVICES = "EVERGRAFT_DEVICES"
STATUS = "EVERGRAFT_STATUS"
REPORT = "EVERGRAFT_REPORT"

POLL_S = 0.1
CLOSING_S = 10.0
"""Once one process has seen the search closed, the others see it by themselves within this time."""
STOP_S = 60.0
"""How long a process may take to save its state, before it is ended."""

TPU_PORT = 8476
"""libtpu's own default; each process listens on one of its own from here up."""


def pinned(kind: str, number: int, environment: Mapping[str, str]) -> dict[str, str]:
    """What makes a process see device `number` alone.

    A list of devices that the environment gives already (CUDA_VISIBLE_DEVICES, TPU_VISIBLE_CHIPS) is chosen from.
    """
    if kind == "cuda":
        return {"CUDA_VISIBLE_DEVICES": _one_of(environment.get("CUDA_VISIBLE_DEVICES"), number)}
    if kind == "xla":
        port = str(TPU_PORT + number)
        return {
            "TPU_VISIBLE_CHIPS": _one_of(environment.get("TPU_VISIBLE_CHIPS"), number),
            "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
            "TPU_PROCESS_BOUNDS": "1,1,1",
            "TPU_PROCESS_ADDRESSES": f"localhost:{port}",
            "TPU_PROCESS_PORT": port,
            "CLOUD_TPU_TASK_ID": "0",
            "PJRT_DEVICE": "TPU",
        }
    return {}


def _one_of(listed: str | None, number: int) -> str:
    names = [name.strip() for name in (listed or "").split(",") if name.strip()]
    return names[number] if number < len(names) else str(number)


@dataclass
class Child:
    """One worker process; `folder` holds its socket and its report."""

    number: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def ended(self) -> report.Ended | None:
        """How it ended, None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        return report.Ended(code=code if code >= 0 else 128 - code, report=self._report())

    def _report(self) -> Mapping[str, Any]:
        try:
            told = json.loads((self.folder / f"{self.number}.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}


@dataclass
class Family:
    """All children of one parent."""

    children: list[Child] = field(default_factory=list)
    asked: bool = False

    def start(self, arguments: Sequence[str], *, count: int, kind: str, folder: Path) -> None:
        """Start `count` workers with these arguments of ``evergraft worker``."""
        command = [sys.executable, "-m", "evergraft", "worker", *arguments]
        for number in range(count):
            own = {
                DEVICES: "1",
                STATUS: f"unix:{folder / f'{number}.sock'}",
                REPORT: str(folder / f"{number}.json"),
                FOLLOW_PARENT: str(count),
                WORKER_NUMBER: str(number),
            }
            environment = {**os.environ, **pinned(kind, number, os.environ), **own}
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)  # noqa: S603 - ours, no shell
            self.children.append(Child(number, folder, process))
            if self.asked:
                process.terminate()

    def ask(self) -> None:
        """Ask all to save and stop."""
        self.asked = True
        for child in self.children:
            if child.process.poll() is None:
                child.process.terminate()

    def kill(self) -> None:
        """End all that are left."""
        for child in self.children:
            if child.process.poll() is None:
                child.process.kill()
        for child in self.children:
            child.process.wait()

    def wait(self) -> list[report.Ended]:
        """Until all have ended; from the first end on the others are asked to stop, at last made to."""
        first: float | None = None
        while True:
            ended = [child.ended for child in self.children]
            done = [one for one in ended if one is not None]
            if len(done) == len(self.children):
                return done
            if done and first is None:
                first = time.monotonic()
            if first is not None and not self.asked:
                closed = any(one.code == 0 for one in done)
                if time.monotonic() - first > (CLOSING_S if closed else 0.0):
                    self.ask()
            if first is not None and time.monotonic() - first > CLOSING_S + STOP_S:
                self.kill()
            time.sleep(POLL_S)


def run_devices(
    arguments: Sequence[str], *, count: int, kind: str, status: Address | None, report_path: Path | None
) -> int:
    """Run `count` workers until their search is closed or one of them fails; returns the exit code.

    0 if any worker saw the search closed, else that of the most telling end. Writes the report in every case.

    Raises:
        UserError: the status address cannot be used.
    """
    family = Family()
    with tempfile.TemporaryDirectory(prefix="evergraft-") as name, _passing_on(family, report_path):
        folder = Path(name)
        relay = Relay([folder / f"{number}.sock" for number in range(count)])
        with contextlib.ExitStack() as stack:
            if status is not None:
                stack.enter_context(status_server(relay.served(), status))
            stack.callback(family.kill)
            family.start(arguments, count=count, kind=kind, folder=folder)
            final = report.merged(family.wait())
    if report_path is not None:
        report.write(report_path, report.encode(final))
    return int(final["exitCode"])


@contextlib.contextmanager
def _passing_on(family: Family, report_path: Path | None) -> Iterator[None]:
    """Pass SIGTERM and SIGINT on as SIGTERM. A first report is there at once, should the end come before the last."""

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of handlers
        if not family.asked and report_path is not None:
            told = report.failed(None, StoppedError("asked to stop; its workers are saving their states"))
            report.write(report_path, report.encode(told))
        family.ask()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
