"""Images for the cluster's nodes: two tiny ones made here, and any archive brought to a node once per content.

There is no registry: an image is an archive in docker's format, and `bring` imports it into a node's runtime. A
node's disk remembers by digest what it has. Called by cluster; `pause` holds every pod's namespaces, and `busybox`
is a shell for tests that want no image of ours.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from tests.cluster.harness.binaries import Binaries
from tests.cluster.harness.commands import ENVIRONMENT
from tests.cluster.harness.errors import CannotRunError, ClusterError
from tests.cluster.harness.layout import cache_folder
from tests.cluster.harness.node import Node
from tests.cluster.harness.runtime import PAUSE_IMAGE

BUSYBOX_IMAGE = "docker.io/evergraft/busybox:test"
APPLETS = ("sh", "cat", "echo", "env", "false", "grep", "head", "httpd", "id", "ls", "mkdir", "nc", "sleep", "touch")
IMPORT_TIMEOUT_S = 600
IMPORT_TRIES = 3
PROGRAM, LINK = 0o755, 0o777


def pause_archive(binaries: Binaries) -> Path:
    """The image that holds a pod's namespaces: go/box and nothing else."""
    return _archive(PAUSE_IMAGE, {"pause": binaries.box.read_bytes()}, links={}, entrypoint=["/pause"])


def busybox_archive() -> Path:
    """A shell and a few small programs, as user 65532.

    Raises:
        CannotRunError: Debian's static busybox is not installed.
    """
    program = shutil.which("busybox", path=ENVIRONMENT["PATH"])
    if program is None:
        raise CannotRunError("busybox is missing; install Debian's busybox-static")
    links = {f"bin/{name}": "busybox" for name in APPLETS}
    return _archive(BUSYBOX_IMAGE, {"bin/busybox": Path(program).read_bytes()}, links=links, entrypoint=[])


def bring(node: Node, archive: Path) -> bool:
    """Import `archive` into the node, unless that is what its names mean there already; whether it was imported.

    Raises:
        ClusterError: it is no archive in docker's format, or the node is dead.
    """
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    marks = [node.folder / "images" / quote(name, safe="") for name in _names(archive)]
    if marks and all(mark.exists() and mark.read_text() == digest for mark in marks):
        return False
    _import(node, archive)
    (node.folder / "images").mkdir(exist_ok=True)
    for mark in marks:
        mark.write_text(digest)
    return True


def _import(node: Node, archive: Path) -> None:
    """Import, again where containerd's own clean-up took a layer away in between: 1.6 does that under load."""
    for left in reversed(range(IMPORT_TRIES)):
        try:
            node.ctr("images", "import", str(archive), timeout_s=IMPORT_TIMEOUT_S)
            return
        except ClusterError as error:
            if not left or "snapshot" not in str(error):
                raise


def _names(archive: Path) -> list[str]:
    """The names that an archive gives its images."""
    try:
        with tarfile.open(archive, mode="r:") as tar:
            manifest = tar.extractfile("manifest.json")
            assert manifest is not None
            return [name for image in json.load(manifest) for name in image["RepoTags"] or ()]
    except (tarfile.TarError, KeyError) as error:
        raise ClusterError(f"{archive}: no archive in docker's format: {error}") from None


def _archive(name: str, files: Mapping[str, bytes], *, links: Mapping[str, str], entrypoint: Sequence[str]) -> Path:
    """The archive of an image of one layer, named after its content in the cache."""
    layer = _layer(files, links)
    config = json.dumps({
        "architecture": "amd64",
        "os": "linux",
        "config": {"User": "65532:65532", "Entrypoint": list(entrypoint), "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }).encode()  # fmt: skip
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    content = _tar({config_name: config, "layer.tar": layer, "manifest.json": manifest})
    path = cache_folder() / f"image-{hashlib.sha256(content).hexdigest()[:16]}.tar"
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=cache_folder(), delete=False) as scratch:
            scratch.write(content)
        Path(scratch.name).rename(path)
    return path


def _layer(files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("bin", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else PROGRAM
            tar.addfile(entry)
        for name, content in files.items():
            tar.addfile(_entry(name, len(content)), io.BytesIO(content))
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, LINK
            tar.addfile(entry)
    return buffer.getvalue()


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            tar.addfile(_entry(name, len(content)), io.BytesIO(content))
    return buffer.getvalue()


def _entry(name: str, size: int) -> tarfile.TarInfo:
    """A file of root's without a time, so that the same content is the same image."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, PROGRAM
    return entry
