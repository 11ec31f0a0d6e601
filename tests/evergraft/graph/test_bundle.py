"""Bundles: many modules in one file come back whole, and never under another id than their own."""

from __future__ import annotations

import json

import pytest

from evergraft import canonical
from evergraft.errors import IntegrityError
from evergraft.graph.bundle import decode_bundle, encode_bundle
from evergraft.testing.graphs import tiny_module

MODULES = tuple(tiny_module(number, elements=number) for number in range(1, 13))


def test_what_is_bundled_comes_back_by_id() -> None:
    data = encode_bundle(MODULES)
    found = decode_bundle(data, sha256=canonical.sha256(data))
    assert found == {module.id: module for module in MODULES}


def test_an_empty_bundle_is_a_bundle() -> None:
    assert decode_bundle(encode_bundle(())) == {}


def test_another_digest_than_recorded_is_refused() -> None:
    with pytest.raises(IntegrityError, match="digest that was recorded"):
        decode_bundle(encode_bundle(MODULES), sha256="0" * 64)


def test_a_module_under_another_id_is_refused() -> None:
    data = encode_bundle(MODULES[:2])
    wrong = data.replace(MODULES[0].id.encode(), MODULES[2].id.encode())
    with pytest.raises(IntegrityError, match="hashes to"):
        decode_bundle(wrong)


@pytest.mark.parametrize("listing", ["{", "[{}]", '[{"id": 1, "kind": "norm", "config": {"a": NaN}}]', "[[]]"])
def test_a_wrong_listing_is_refused(listing: str) -> None:
    text = json.dumps({"__metadata__": {"modules": listing}}).encode()
    data = len(text).to_bytes(8, "little") + text
    with pytest.raises(IntegrityError, match="bundle"):
        decode_bundle(data)
