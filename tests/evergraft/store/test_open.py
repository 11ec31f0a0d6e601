"""Opening by URL: what is refused, and with which fix."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from evergraft.errors import UserError
from evergraft.store.open import open_store
from evergraft.store.options import StoreOptions


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://host/graph", "unknown scheme"),
        ("~nosuchuser/graph", "'~nosuchuser/graph': there is no such home folder here"),
        ("file://[x/graph", r"'file://\[x/graph' is no URL"),
        ("gs://", "names no bucket"),
        ("s3:///graph", "names no bucket"),
        ("s3://key:secret@bucket/graph", "credentials do not belong into the URL"),
        ("gs://bucket/graph?token=x", "credentials do not belong into the URL"),
    ],
)
def test_a_wrong_url_is_refused(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("url", "package", "extra"), [("gs://b/g", "gcsfs", "gcs"), ("s3://b/g", "s3fs", "s3")])
def test_a_missing_client_names_the_extra(monkeypatch: pytest.MonkeyPatch, url: str, package: str, extra: str) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == package:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=rf"pip install \"evergraft\[{extra}\]\""):
        open_store(url)


def test_this_machines_credentials_go_to_no_other_endpoint() -> None:
    with pytest.raises(UserError, match="needs key and secret"):
        open_store("s3://b/g", StoreOptions(endpoint="http://127.0.0.1:1"))
    assert open_store("s3://b/g/", StoreOptions(endpoint="http://127.0.0.1:1", token="anon")).url == "s3://b/g"


def test_options_do_not_show_secrets() -> None:
    shown = repr(StoreOptions(key="id", secret="hidden-1", token="hidden-2"))
    assert "hidden" not in shown
