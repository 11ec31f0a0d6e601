"""Debian's prometheus and promtool for the tests, unpacked into the cache: nothing is installed, no service started.

Used by conftest.py here and by the cluster tests. Needs apt and dpkg, not root.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

PACKAGE = "prometheus"


class ProgramsMissingError(Exception):
    """This machine has no prometheus and cannot get it; the text says why in one line."""


def programs() -> Path:
    """The folder that holds `prometheus` and `promtool`.

    Raises:
        ProgramsMissingError: neither installed, nor cached, nor to be had from Debian.
    """
    if shutil.which("promtool") and (found := shutil.which("prometheus")):
        return Path(found).parent
    home = Path(os.environ.get("EVERGRAFT_CACHE") or Path.home() / ".cache" / "evergraft") / PACKAGE
    folder = home / "usr" / "bin"
    if not (folder / "promtool").exists():
        _unpack(home)
    return folder


def _unpack(home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as made:
        download = _run("apt-get", "download", "-q", PACKAGE, folder=made)
        if download is not None:  # A fresh machine has no package lists yet.
            _run("apt-get", "update", "-q", folder=made)
            download = _run("apt-get", "download", "-q", PACKAGE, folder=made)
        packages = list(Path(made).glob("*.deb"))
        if download is not None or not packages:
            raise ProgramsMissingError(f"prometheus is not here and apt-get cannot download it: {download}")
        if (wrong := _run("dpkg-deb", "-x", str(packages[0]), f"{made}/root", folder=made)) is not None:
            raise ProgramsMissingError(f"the prometheus package cannot be unpacked: {wrong}")
        try:
            Path(made, "root").rename(home)
        except OSError:
            if not (home / "usr" / "bin" / "promtool").exists():  # Unless another test was first.
                raise


def _run(*command: str, folder: str) -> str | None:
    """The last line that a failed command said, None if it went well."""
    try:
        done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=300)
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    said = done.stderr.strip().splitlines() or ["no word"]
    return None if done.returncode == 0 else said[-1]


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
