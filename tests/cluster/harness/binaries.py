"""The cluster's own programs, built from their Go modules once and cached by content outside of the tree.

`kube` is all of Kubernetes in one binary (12 minutes on two cores the first time), `etcd` its database and `box`
the first process of a box. A program's folder is named after a hash of its sources, of the compiler's version and
of the flags; it is complete when it is there, because it is renamed into place. Called by cluster.prepare.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness.errors import CannotRunError
from tests.cluster.harness.layout import cache_folder

SOURCES = Path(__file__).resolve().parent.parent / "go"
PARTS = ("kubectl", "kubelet", "kube-proxy", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
"""What `kube` is, by the name it is called by."""
BUILD_TIMEOUT_S = 3600
KEEP_DAYS = 14


@dataclass(frozen=True)
class Binaries:
    """The built programs. Those of Kubernetes are links to one file."""

    kube: Path
    etcd: Path
    box: Path

    def part(self, name: str) -> Path:
        """The part `name` of Kubernetes, one of `PARTS`."""
        return self.kube.with_name(name)


def build_all() -> Binaries:
    """All programs, from the cache or built now.

    Raises:
        CannotRunError: there is no Go here, or its modules cannot be fetched.
    """
    return Binaries(kube=_build("kube") / "kube", etcd=_build("etcd") / "etcd", box=_build("box") / "box")


def kubernetes_version() -> str:
    """The version that kube's go.mod asks for, such as v1.37.2."""
    found = re.search(
        r"^\s*(?:require )?k8s\.io/kubernetes (v\S+)$", (SOURCES / "kube/go.mod").read_text(), re.MULTILINE
    )
    assert found
    return found[1]


def _build(module: str) -> Path:
    flags = _flags(module)
    folder = cache_folder() / f"bin-{module}-{_fingerprint(module, flags)}"
    if not folder.is_dir():
        cache_folder().mkdir(parents=True, exist_ok=True)
        with _lock(cache_folder() / f"bin-{module}.lock"):
            if not folder.is_dir():
                _compile(module, flags, folder)
                _forget_old(module)
    os.utime(folder)
    return folder


def _forget_old(module: str) -> None:
    """Delete builds that no start has used for weeks; each is 200 MB."""
    for folder in cache_folder().glob(f"bin-{module}-*"):
        if time.time() - folder.stat().st_mtime > KEEP_DAYS * 86400:
            shutil.rmtree(folder, ignore_errors=True)


def _compile(module: str, flags: list[str], folder: Path) -> None:
    sys.stderr.write(f"cluster: building {module}{' (12 minutes the first time)' if module == 'kube' else ''}\n")
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="building-", dir=folder.parent))
    try:
        command = ["nice", "-n", "5", "go", "build", *flags, "-o", str(scratch / module), "."]
        done = subprocess.run(
            command,
            cwd=SOURCES / module,
            env=_environment(),
            check=False,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
        )
        if done.returncode != 0:
            last = (done.stderr.strip() or "no word").splitlines()[-1]
            raise CannotRunError(f"go could not build tests/cluster/go/{module}: {last}")
        for part in PARTS if module == "kube" else ():
            (scratch / part).symlink_to(module)
        scratch.chmod(0o755)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    sys.stderr.write(f"cluster: built {module} in {time.monotonic() - began:.0f} s\n")


def _flags(module: str) -> list[str]:
    link = "-s -w"
    if module == "kube":
        major, minor, _ = kubernetes_version().removeprefix("v").split(".", 2)
        values = {"gitVersion": kubernetes_version(), "gitMajor": major, "gitMinor": minor}
        link += "".join(f" -X k8s.io/component-base/version.{name}={value}" for name, value in values.items())
    return ["-trimpath", "-buildvcs=false", "-ldflags", link]


def _fingerprint(module: str, flags: list[str]) -> str:
    digest = hashlib.sha256(_go_version().encode())
    digest.update("\0".join(flags).encode())
    for name in ("go.mod", "go.sum", "main.go"):
        source = SOURCES / module / name
        digest.update(b"\0" + (source.read_bytes() if source.exists() else b""))
    return digest.hexdigest()[:16]


def _go_version() -> str:
    try:
        done = subprocess.run(
            ["go", "version"], check=False, capture_output=True, text=True, timeout=60, cwd=SOURCES / "box"
        )
    except FileNotFoundError:
        raise CannotRunError("there is no Go compiler here; install Go 1.26 or newer") from None
    if done.returncode != 0:
        raise CannotRunError(f"go version: {done.stderr.strip() or 'failed'}")
    return done.stdout.strip()


def _environment() -> dict[str, str]:
    """The caller's: it knows how this machine reaches modules. Without C, so that programs depend on no library."""
    return {**os.environ, "CGO_ENABLED": "0"}


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Wait until nobody else holds `path`."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
