"""What a user can get wrong about the benchmark stream: one message that names it and the fix, nothing run."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from evergraft_trainer.testing.commands import Run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "grafted"], "--methods grafted: unknown; there are\n  linear "),
        (["--seeds", "0", "-1"], "--seeds -1: expected whole numbers from 0 to 2^53 - 1"),
        (["--seeds", "9007199254740992"], "--seeds 9007199254740992: expected whole numbers from 0 to 2^53 - 1"),
    ],
)
def test_a_run_of_what_there_is_not_is_refused(run: Run, tmp_path: Path, words: list[str], said: str) -> None:
    answer = run("bench", "stream", "run", "--results", tmp_path / "results", *words)
    assert answer.code == 64
    assert said in answer.err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("words", [[], ["--json"], ["--figures"], ["--quick"]])
def test_a_report_of_nothing_says_so(run: Run, tmp_path: Path, words: list[str]) -> None:
    answer = run("bench", "stream", "report", "--results", tmp_path / "nowhere", *words)
    assert answer.code == 64
    assert f"--results {tmp_path / 'nowhere'}: holds no results of " in answer.err


RECORDED = Path(__file__).resolve().parents[3] / "docs"


@pytest.mark.parametrize(
    ("option", "name"), [("--page", "learning.md"), ("--picture", "stream.svg"), ("--picture", "below/a/file.svg")]
)
def test_what_cannot_be_written_is_named(
    run: Run, tmp_path: Path, option: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / name
    if option == "--page":
        target.write_text((RECORDED / name).read_text())

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "write_text", full)
    elif target.parent == tmp_path:
        target.mkdir()
    else:
        (tmp_path / "below").write_text("")
    answer = run("bench", "stream", "report", "--results", RECORDED / "data" / "stream", option, target)
    assert answer.code == 64
    assert f"{option} {target}: cannot be written" in answer.err


@pytest.mark.parametrize("action", ["data", "run", "report"])
def test_a_package_that_is_missing_is_named(run: Run, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("evergraft_trainer.bench")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fontTools.ttLib", None)
    answer = run("bench", "stream", action)
    assert answer.code == 64
    assert "fontTools.ttLib is not installed: pip install 'evergraft[trainer,stream]'" in answer.err
