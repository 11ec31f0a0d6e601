"""`evergraft steward`: one errand at a store, as the operator sends it; what and where stands in EVERGRAFT_STEWARD."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path

from evergraft.cli.arguments import Subparsers, command
from evergraft.errors import EvergraftError


def add(commands: Subparsers) -> None:
    """Add the command."""
    command(
        commands,
        "steward",
        run,
        summary="carry out one errand at a store: init, heads, remove, collect or verify",
        epilog="The errand is JSON in EVERGRAFT_STEWARD, as the operator writes it. The answer, at most 4,096 bytes, "
        "goes to the file in EVERGRAFT_REPORT, else to standard output.",
    )


def run(args: argparse.Namespace) -> int:  # noqa: ARG001 - the signature of commands
    """Carry it out."""
    from evergraft_trainer.stopping import empty_report, ends_at_once

    report = os.environ.get("EVERGRAFT_REPORT")
    path = Path(report) if report else None
    if path is not None:
        empty_report(path, named="EVERGRAFT_REPORT")
    with ends_at_once(path):
        return _carry_out(path)


def _carry_out(path: Path | None) -> int:
    from evergraft.steward.answer import Answer
    from evergraft.steward.duties import carry_out
    from evergraft.steward.errand import PART, VARIABLE, read_errand
    from evergraft_trainer.stopping import stop_signals

    answer = Answer("", exit_code=1)
    with stop_signals() as stop:
        try:
            answer = carry_out(read_errand(os.environ.get(VARIABLE), os.environ.get(PART)))
        except EvergraftError as error:
            answer = Answer(str(error), exit_code=error.exit_code)
            raise
        except BaseException:
            answer = Answer(traceback.format_exc()[-800:], exit_code=1)
            raise
        finally:
            stop.training = True  # nothing is left to be interrupted: a signal must not cut the answer short
            _tell(path, answer.encode())
    print(f"evergraft: {answer.reason}", file=sys.stderr)
    return answer.exit_code


def _tell(path: Path | None, data: bytes) -> None:
    if path is not None:
        path.write_bytes(data)
    else:
        print(data.decode())
