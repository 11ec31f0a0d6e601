"""The house itself: what must not be imported early, and layouts that break Python."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import evergraft

HERE = Path(__file__).resolve().parent
HEAVY = ("torch", "torchvision", "numpy", "pydantic", "fsspec", "gcsfs", "s3fs", "yaml", "rich", "kopf")


def loaded_after(code: str) -> set[str]:
    """Heavy packages that a fresh interpreter has loaded after running `code`."""
    report = f"import sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import evergraft",
        "from evergraft.cli import make_parser; make_parser().format_help()",
        "import evergraft.search.strategies, evergraft.search.engine, evergraft.store.log",
    ],
)
def test_the_light_parts_load_nothing_heavy(code: str) -> None:
    assert loaded_after(code) == set()


def test_no_package_shadows_the_standard_library() -> None:
    root = HERE.parent
    assert not (root / "operator" / "__init__.py").exists()
    assert not list(HERE.rglob("__init__.py"))
    subprocess.run([sys.executable, "-c", "import operator; operator.itemgetter"], cwd=root, check=True)


def test_public_names_are_frozen() -> None:
    assert sorted(evergraft.__all__) == ["__version__", "load"]


def test_the_version_is_the_distribution_s() -> None:
    from importlib.metadata import version

    assert evergraft.__version__ == version("evergraft")


FORBIDDEN_CALLS = {"eval", "exec", "compile", "pickle.load", "pickle.loads", "os.system", "os.popen"}
FORBIDDEN_FLAGS = {("shell", True), ("allow_pickle", True), ("weights_only", False)}


def unsafe(tree: ast.AST) -> list[str]:
    """Calls that could run what data says."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [ast.unparse(call.func) for call in calls if ast.unparse(call.func) in FORBIDDEN_CALLS]
    flags = [(word.arg, word.value.value) for c in calls for word in c.keywords if isinstance(word.value, ast.Constant)]
    return named + [f"{name}={value!r}" for name, value in flags if (name, value) in FORBIDDEN_FLAGS]


def test_nothing_that_data_says_is_unpickled_evaluated_or_run() -> None:
    for folder in ("trainer", "operator", "examples"):
        for path in (HERE.parent / folder).rglob("*.py"):
            assert unsafe(ast.parse(path.read_text())) == [], path


def test_the_search_for_unsafe_calls_finds_them() -> None:
    code = "eval(x); pickle.load(f); np.load(f, allow_pickle=True); subprocess.run(c, shell=True); model.eval()"
    assert unsafe(ast.parse(code)) == ["eval", "pickle.load", "allow_pickle=True", "shell=True"]
