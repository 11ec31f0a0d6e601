"""What a user can get wrong about the benchmark stream: one message that names it and the fix, nothing run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evergraft_trainer.testing.commands import Run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "grafted"], "--methods grafted: unknown; there are\n  linear "),
        (["--seeds", "0", "-1"], "--seeds -1: expected numbers from 0 up"),
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


@pytest.mark.parametrize("action", ["data", "run", "report"])
def test_a_package_that_is_missing_is_named(run: Run, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("evergraft_trainer.bench")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fontTools.ttLib", None)
    answer = run("bench", "stream", action)
    assert answer.code == 64
    assert "fontTools.ttLib is not installed: pip install 'evergraft[trainer,stream]'" in answer.err
