"""Packages: what is in the cache is not asked for, what cannot be had says how to get it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from evergraft.errors import UserError
from evergraft_trainer.bench import packages


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVERGRAFT_CACHE", str(tmp_path))
    return tmp_path / "stream"


def client(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of that name, alone on the path but for what a shell needs."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_what_is_cached_needs_no_client(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (cache / "debian" / "fonts-x").mkdir(parents=True)
    assert packages.debian("fonts-x") == cache / "debian" / "fonts-x"


def test_without_apt_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"apt-get: not found.*fonts-x"):
        packages.debian("fonts-x")


def test_a_package_that_cannot_be_had_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client(tmp_path / "bin", "apt-get", "echo 'E: Unable to locate package' >&2; exit 100", monkeypatch)
    with pytest.raises(UserError, match="fonts-x: E: Unable to locate package"):
        packages.debian("fonts-x")
    assert list(cache.iterdir()) == []


def test_an_npm_package_is_fetched_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client(tmp_path / "bin", "npm", "echo x >> $EVERGRAFT_CACHE/asked; echo made > thing-1.0.0.tgz", monkeypatch)
    for _ in range(2):
        assert packages.npm("thing@1.0.0").read_text() == "made\n"
    assert (tmp_path / "asked").read_text() == "x\n"


def test_a_relative_cache_is_taken_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVERGRAFT_CACHE", "near")
    assert packages.cache_folder() == tmp_path / "near" / "stream"


def test_a_cache_that_is_no_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EVERGRAFT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="EVERGRAFT_CACHE: no folder can be made at"):
        packages.debian("fonts-x")


def test_another_process_may_be_as_quick(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meanwhile = "mkdir -p $EVERGRAFT_CACHE/stream/debian/fonts-x/usr"
    client(tmp_path / "bin", "apt-get", f"{meanwhile}; echo made > x.deb", monkeypatch)
    client(tmp_path / "bin", "dpkg-deb", "mkdir -p files/usr", monkeypatch)
    assert packages.debian("fonts-x") == cache / "debian" / "fonts-x"
    assert [folder.name for folder in cache.iterdir()] == ["debian"]


def test_members_are_read_without_unpacking_and_missing_ones_are_named(tmp_path: Path) -> None:
    archive = tmp_path / "x.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        info = tarfile.TarInfo("package/a.png")
        info.size = 3
        packed.addfile(info, io.BytesIO(b"abc"))
    assert dict(packages.members(archive, ["package/a.png"])) == {"package/a.png": b"abc"}
    with pytest.raises(UserError, match=r"holds no package/b\.png"):
        list(packages.members(archive, ["package/a.png", "package/b.png"]))
