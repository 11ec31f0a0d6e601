"""What a run tells on a terminal: one bar a task over all its candidates, notices, no markup from names."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import pytest

from evergraft.cli.arguments import plain, print_table
from evergraft.cli.progress import reporter
from evergraft.search.events import Emit


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@contextmanager
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Terminal, Emit]]:
    screen = Terminal()
    with monkeypatch.context() as patched, redirect_stderr(screen):
        patched.setenv("COLUMNS", "120")
        with reporter(as_json=False) as emit:
            yield screen, emit


def shown(terminal: Terminal) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())


def test_the_bar_of_a_search_counts_the_samples_of_all_its_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    with on_a_terminal(monkeypatch) as (terminal, emit):
        emit("search", {"task": "a/one", "samples": 64})
        for slot in (0, 1):
            emit("step", {"task": "a/one", "generation": 0, "slot": slot, "samples": 16})
            emit("validation", {"task": "a/one", "generation": 0, "slot": slot, "samples": 32, "quality": 0.5})
        emit("done", {"task": "a/one", "outcome": "committed", "reason": "the best"})
    assert "64/64" in shown(terminal)
    assert "committed" in shown(terminal)


def test_what_a_local_run_does_not_follow_is_named_on_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with on_a_terminal(monkeypatch) as (terminal, emit):
        emit("ignored", {"task": "a/one", "fields": "spec.workers", "why": "a local run does not follow them"})
    assert "a/one: ignored: fields spec.workers, why a local run does not follow them" in shown(terminal)


def test_names_from_files_and_stores_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("image", "label"), [("[red]1.png", "[/b]"), ("x", "\x1b[2J\nno")])
    out = capsys.readouterr().out
    assert "[red]1.png" in out
    assert "[/b]" in out
    assert "\x1b" not in out
    assert plain("\x1b[2J\nno") == "�[2J�no"
