"""A place reached by files: which keys it wants, what is said when they are wrong, and that they go nowhere else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from evergraft.errors import PermissionDeniedError, SpecError, UserError
from evergraft.store import objects
from evergraft.store.access import Access, bucket_of
from evergraft.store.clients import gcs_client
from evergraft.store.open import open_store
from evergraft.store.options import StoreOptions
from evergraft.testing.servers import ObjectServer

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def place(tmp_path: Path, url: str = "s3://b/x", **files: str) -> Access:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return Access.from_json({"url": url, "endpoint": "https://minio.acme", "credentials": str(tmp_path)}, "store")


def test_s3_keys_come_from_files_without_the_newline_that_editors_add(tmp_path: Path) -> None:
    access = place(tmp_path, AWS_ACCESS_KEY_ID="key\n", AWS_SECRET_ACCESS_KEY="sec/ret+=\n")
    before = dict(os.environ)
    assert access.options() == StoreOptions(endpoint="https://minio.acme", key="key", secret="sec/ret+=")
    (tmp_path / "AWS_SESSION_TOKEN").write_text("token")
    (tmp_path / "AWS_ACCESS_KEY_ID").write_text("rotated")
    assert access.options() == StoreOptions(
        endpoint="https://minio.acme", key="rotated", secret="sec/ret+=", token="token"
    )
    assert dict(os.environ) == before
    assert "sec/ret" not in repr(access.options())


def test_without_credentials_the_machine_s_own_identity_is_meant() -> None:
    assert Access.from_json({"url": "s3://b/x"}, "store").options() == StoreOptions()
    assert Access.from_json({"url": "gs://b/x", "endpoint": None}, "data").secrets() == {}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "key AWS_ACCESS_KEY_ID of the Secret"),
        ({"AWS_ACCESS_KEY_ID": "x"}, "key AWS_SECRET_ACCESS_KEY of the Secret"),
        ({"AWS_ACCESS_KEY_ID": "\n", "AWS_SECRET_ACCESS_KEY": "y"}, "AWS_ACCESS_KEY_ID of the Secret ("),
        ({"AWS_ACCESS_KEY_ID": "a b", "AWS_SECRET_ACCESS_KEY": "y"}, "signs that no key has"),
        ({"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_SESSION_TOKEN": ""}, "AWS_SESSION_TOKEN"),
    ],
)
def test_a_key_that_is_missing_or_empty_is_named(tmp_path: Path, files: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        place(tmp_path, **files).options()
    assert said in str(refused.value)
    assert str(refused.value).startswith("store: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("no json", "no Google credentials"),
        ("[]", "no Google credentials"),
        ('{"type": "external_account"}', "'external_account'; use one of type service_account or authorized_user"),
    ],
)
def test_google_credentials_that_cannot_be_used_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "credentials.json").write_text(text)
    with pytest.raises(UserError, match=r"credentials\.json") as refused:
        place(tmp_path, "gs://b/x").options()
    assert said in str(refused.value)


def test_google_credentials_are_named_by_their_file(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text(json.dumps({"type": "service_account"}))
    assert place(tmp_path, "gs://b/x").secrets() == {"token": str(tmp_path / "credentials.json")}


def test_certificates_must_be_there_and_be_some(tmp_path: Path) -> None:
    access = Access.from_json({"url": "s3://b/x", "caBundle": str(tmp_path / "ca.crt")}, "data")
    with pytest.raises(UserError, match=r"ConfigMap's key .* is missing"):
        access.options()
    (tmp_path / "ca.crt").write_text("hello")
    with pytest.raises(UserError, match="no PEM certificate"):
        access.options()
    (tmp_path / "ca.crt").write_text(PEM)
    assert access.options().ca_bundle == str(tmp_path / "ca.crt")


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"url": ""}, {"url": 1}, {"url": "s3://b", "endpoint": 1}, {"url": "s3://b", "caBundle": []}],
)
def test_what_is_no_place_is_refused(value: Any) -> None:
    with pytest.raises(SpecError, match="data"):
        Access.from_json(value, "data")


def test_a_volume_takes_no_credentials(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes no credentials"):
        place(tmp_path, "file:///mnt/x", AWS_ACCESS_KEY_ID="x").options()


def test_gcs_trusts_the_bundle_alone(tmp_path: Path) -> None:
    """A bundle that is none is refused, so it was read; what a good one does is the server's to see."""
    (tmp_path / "ca.crt").write_text(PEM)
    client = gcs_client(StoreOptions(endpoint="https://127.0.0.1:1", ca_bundle=str(tmp_path / "ca.crt")))
    with pytest.raises(UserError, match="no PEM certificate"):
        client.make()


@pytest.mark.parametrize(
    ("url", "bucket"), [("s3://b/x/y", "s3://b"), ("GS://b", "gs://b"), ("file:///b", None), ("https://b/x", None)]
)
def test_buckets(url: str, bucket: str | None) -> None:
    assert bucket_of(url) == bucket


@pytest.mark.server
def test_a_key_that_is_rotated_under_a_store_is_picked_up(
    s3_server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment has the right key all along, and is not asked."""
    assert s3_server.key
    assert s3_server.secret
    for name, value in {"AWS_ACCESS_KEY_ID": s3_server.key, "AWS_SECRET_ACCESS_KEY": s3_server.secret}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "AWS_ACCESS_KEY_ID").write_text("old")
    (tmp_path / "AWS_SECRET_ACCESS_KEY").write_text("old")
    place = {"url": f"{s3_server.url}/rotated", "endpoint": s3_server.endpoint, "credentials": str(tmp_path)}
    store = Access.from_json(place, "store").open()
    for _ in range(2):
        with pytest.raises(PermissionDeniedError):
            store.get("a")
    (tmp_path / "AWS_ACCESS_KEY_ID").write_text(s3_server.key)
    (tmp_path / "AWS_SECRET_ACCESS_KEY").write_text(s3_server.secret)
    with pytest.raises(PermissionDeniedError):
        store.get("a")  # a client that has just been made is not made again
    monkeypatch.setattr(objects, "RENEW_AFTER_S", 0.0)
    store.put("a", b"1")
    assert store.get("a") == b"1"


@pytest.mark.server
def test_the_keys_of_one_place_do_not_reach_another(s3_server: ObjectServer, tmp_path: Path) -> None:
    assert s3_server.key
    assert s3_server.secret
    right = place(tmp_path, AWS_ACCESS_KEY_ID=s3_server.key, AWS_SECRET_ACCESS_KEY=s3_server.secret)
    store = Access("store", f"{s3_server.url}/one", s3_server.endpoint, right.credentials).open()
    store.put("a", b"1")
    other = open_store(f"{s3_server.url}/one", StoreOptions(endpoint=s3_server.endpoint, key="wrong", secret="wrong"))
    with pytest.raises(PermissionDeniedError):
        other.get("a")
    assert store.get("a") == b"1"
