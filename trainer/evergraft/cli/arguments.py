"""Arguments and output that commands share: the graph's URL, ``--version``, ``--json``, tables.

What comes out of a store or a dataset is only text here: no markup of rich's, no escape sequence of a terminal.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from evergraft.errors import UserError

if TYPE_CHECKING:
    from evergraft.store.seam import Store

Subparsers = Any
"""What ``add_subparsers`` returns; argparse keeps its type private."""


def command(
    commands: Subparsers,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    summary: str,
    epilog: str | None = None,
) -> argparse.ArgumentParser:
    """Add a command that `run` carries out; every command has ``--json``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=epilog
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run, parser=parser)
    return parser


def graph_argument(parser: argparse.ArgumentParser) -> None:
    """Add the graph's URL as the first argument."""
    parser.add_argument("url", metavar="GRAPH", help="URL or folder of the graph: gs://…, s3://…, ./graph")


MAX_DIGITS = 19
"""Of a version: its key in the log has 20."""


def version_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--version N``."""
    parser.add_argument("--version", type=version_number, metavar="N", help="read the graph as it was at this version")


def version_number(text: str) -> int:
    """A version of the graph, as an argument's `type`.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS):
        raise argparse.ArgumentTypeError(
            f"{_short(text)} is no version; give a number from 0 up, as `graph log` lists them"
        )
    return int(text)


def open_store(url: str) -> Store:
    """The store at `url`, with the options that the environment gives."""
    from evergraft.store.open import open_store as open_url

    return open_url(url)


def task_id(name: str, *, namespace: str = "default") -> str:
    """A task as people write it: ``name`` means ``default/name``; an id with a slash, or ``root``, stands as it is.

    Raises:
        UserError: it is empty or no text.
    """
    from evergraft.names import ROOT_TASK

    if not name:
        raise UserError("TASK: an empty name; give a task id such as default/digits")
    if not is_utf8(name):
        raise UserError(f"TASK {_short(name)}: no UTF-8 text; give a task id such as default/digits")
    return name if "/" in name or name == ROOT_TASK else f"{namespace}/{name}"


def check_search(search: str, *, named: str) -> None:
    """Refuse what cannot be a search's id: 32 lower-case hex digits. `named` is the argument, for the message.

    Raises:
        UserError: it is none.
    """
    from evergraft.names import is_search_id

    if not is_search_id(search):
        raise UserError(
            f"{named} {_short(search)}: no search id; give the 32 hex digits that graph log --json and explain show"
        )


MOST = {"threads": 4096}
"""The largest number a counting flag takes, where there is one."""


def check_counts(args: argparse.Namespace, *flags: str) -> None:
    """Refuse a flag that counts something and is below 1, or above what MOST allows it.

    Raises:
        UserError: it names the flag.
    """
    for flag in flags:
        value, most = getattr(args, flag), MOST.get(flag)
        if value < 1 or (most is not None and value > most):
            raise UserError(f"--{flag} {value}: expected a number from 1 {'up' if most is None else f'to {most}'}")


def is_utf8(text: str) -> bool:
    """Whether an argument is text: Python hands on bytes that are no UTF-8 as lone surrogates."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def _short(text: str) -> str:
    """An argument as a message quotes it."""
    return repr(text) if len(text) <= _LONGEST else f"{text[:_LONGEST]!r}…"


_LONGEST = 80


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    print()


def plain(value: object) -> str:
    """A value as one line of text that a terminal takes for nothing else: what cannot be printed becomes �."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in str(value))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table; numbers align right. Where the terminal is too narrow, the last column stands below it, row by row."""
    from rich.console import Console

    cells = [["" if cell is None else plain(cell) for cell in row] for row in rows]
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    table = _table(columns, cells)
    if console.measure(table, options=console.options.update(width=_WIDE)).maximum <= console.width:
        console.print(table)
        return
    short = _table(columns[:-1], [row[:-1] for row in cells])
    natural = console.measure(short, options=console.options.update(width=_WIDE)).maximum
    # Wider still: let the terminal wrap lines rather than cut figures.
    Console(width=max(natural, console.width)).print(short)
    for row in cells:
        console.print(f"{row[0]}: {columns[-1]}: {row[-1]}", markup=False, highlight=False)


_WIDE = 240


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, name in enumerate(columns):
        numeric = bool(cells) and all(row[index][:1] in "0123456789.-+" for row in cells if row[index])
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in cells:
        table.add_row(*map(Text, row))
    return table
