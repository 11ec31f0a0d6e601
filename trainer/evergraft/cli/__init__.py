"""The command line: `evergraft <command>`. One small file per command; this one only finds and runs them.

Errors of ``evergraft.errors`` print as one message and end with their exit code; anything else is a bug and shows
its traceback. Commands import what is heavy when they run, so that help is quick.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import evergraft
from evergraft.cli import bench, data, explain, export, graph, plan, predict, replay, run, steward, worker
from evergraft.errors import EvergraftError, UserError

COMMANDS = (run, plan, predict, explain, export, worker, steward, replay, data, bench, graph)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. With `argv` None, the process's own arguments."""
    _escape_unprintable()
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.run is None:
        args.parser.print_help()
        return UserError.exit_code
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except EvergraftError as error:
        print(f"evergraft: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("evergraft: stopped; the same command goes on where this one was", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; do not fail again while the interpreter closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _escape_unprintable() -> None:
    """Have standard output escape what it cannot encode, such as a path that is no UTF-8, rather than fail over it.

    In JSON that escape is one of JSON's own: readers get the path as Python holds it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


class _Parser(argparse.ArgumentParser):
    """argparse's, with the exit code that every other mistake of a user has; its subparsers are of this class too."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments, and end."""
        self.print_usage(sys.stderr)
        self.exit(UserError.exit_code, f"{self.prog}: {message}\n")


def make_parser() -> argparse.ArgumentParser:
    """The whole command line, with every command and flag."""
    parser = _Parser(
        prog="evergraft",
        description="Train tasks one after another into one growing graph; nothing learned is ever changed.",
    )
    parser.add_argument("--version", action="version", version=f"evergraft {evergraft.__version__}")
    parser.set_defaults(run=None, parser=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
