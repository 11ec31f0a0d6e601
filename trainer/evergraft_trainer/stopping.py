"""SIGTERM and SIGINT: save, release, then end. The first asks, a second interrupt insists.

While a candidate trains, the loop looks at `asked` between steps and saves its state; at any other time the signal
ends what is going on at once, since nothing would be lost. Called by workers and local runs.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from evergraft import canonical
from evergraft.errors import StoppedError, UserError

PARENT_POLL_S = 1.0


@dataclass
class Stop:
    """Whether this process was asked to stop. `training` is true while the loop looks at `asked` by itself."""

    _event: threading.Event = field(default_factory=threading.Event)
    training: bool = False
    interrupted: bool = False

    def asked(self) -> bool:
        """Whether to save and end."""
        return self._event.is_set()

    def ask(self) -> None:
        """Ask the process to stop."""
        self._event.set()

    def watch_parent(self) -> None:
        """Ask to stop when the parent process is gone, so that no worker outlives the run that started it."""
        parent = os.getppid()

        def watch() -> None:
            while os.getppid() == parent and not self._event.wait(PARENT_POLL_S):
                pass
            self._event.set()

        threading.Thread(target=watch, name="watch parent", daemon=True).start()


def empty_report(report: Path, *, named: str) -> None:
    """Create the report's file, or empty it: what an earlier run left must not speak for this one.

    In place, since a pod's termination message may not be replaced. Devices and pipes, which keep nothing, are left
    alone. `named` is the option, or variable, for messages.

    Raises:
        UserError: it cannot be written.
    """
    try:
        if report.is_dir() or report.is_file() or not report.exists():
            report.write_bytes(b"")
    except OSError as error:
        raise UserError(
            f"{named} {report}: cannot be written: {error.strerror}; name a file in a folder that exists"
        ) from None


@contextmanager
def ends_at_once(report: Path | None) -> Iterator[None]:
    """Until something else handles them, SIGTERM and SIGINT end the process with 143, the report saying why.

    Where there is a report, the work is over, and the process ends as it says; so `empty_report` comes first. As a
    container's first process it would not even notice a signal that it does not handle. Only the main thread may enter
    this.
    """

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of handlers
        if report is not None and report.exists() and report.stat().st_size:
            os._exit(int(json.loads(report.read_bytes()).get("exitCode", StoppedError.exit_code)))
        if report is not None:
            told = {"format": canonical.FORMAT, "outcome": "stopped", "reason": "asked to stop before it had begun"}
            with suppress(OSError):  # the exit code says it too
                report.write_text(json.dumps({**told, "exitCode": StoppedError.exit_code}))
        os._exit(StoppedError.exit_code)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Handle SIGTERM and SIGINT while the block runs; only the main thread may enter it.

    Raises:
        StoppedError: inside the block, when a signal comes while nothing is being trained.
        KeyboardInterrupt: inside the block, on a second SIGINT.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of handlers
        again = stop.asked() and number == signal.SIGINT
        stop.interrupted = stop.interrupted or number == signal.SIGINT
        stop.ask()
        if again:
            raise KeyboardInterrupt
        if not stop.training:
            raise StoppedError("asked to stop; the same command goes on where this one was")

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
