"""The table of results in a Markdown page, between two comments. Called by ``evergraft bench stream report --page``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evergraft.errors import UserError
from evergraft_trainer.bench.report import Row

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
HEAD = (
    "method", "order", "seeds", "tasks", "test when learned", "at the end", "forgetting",
    "parameters added a task", "TFLOPs a task", "forward-only samples a task", "CPU s a task",
)  # fmt: skip


def rewrite(path: Path, rows: Sequence[Row]) -> None:
    """Put the table of `rows` in place of what stands between the comments.

    Raises:
        UserError: the file is not there, has no such place, or cannot be written.
    """
    try:
        before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--page {path}: cannot be read: {error}") from None
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"--page {path}: has no lines {BEGIN} and, after it, {END}; add them where the table goes")
    try:
        path.write_text(f"{before}{begin}\n{table(rows)}{end}{after}", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--page {path}: cannot be written: {error.strerror}") from None


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [HEAD, ("---",) * len(HEAD), *map(_cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"`{row.method}`",
        row.order,
        ", ".join(map(str, row.seeds)),
        f"{row.steps} of {row.of}",
        f"{row.learned:.3f}",
        "" if row.end is None else f"{row.end:.3f}",
        _forgetting(row),
        f"{row.parameters_added:,.0f} ({row.parameters_share:.1%})",
        f"{row.gflops / 1000:.2f}",
        f"{row.forward_samples:,.0f}",
        f"{row.cpu_seconds:.0f}",
    )


def _forgetting(row: Row) -> str:
    if row.forgetting is None:
        return ""
    return "0, same bits" if row.forgetting == 0 and row.answers_identical else f"{row.forgetting:.3f}"
