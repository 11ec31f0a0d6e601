"""YAML text: plain values as YAML says, lines as a person counts them, and no text that gets past our errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evergraft.api.fields import seconds
from evergraft.api.source import line_of, parse, plain
from evergraft.api.splits import SplitPart, parse_split
from evergraft.errors import SpecError


def read(text: str) -> Any:
    (node,) = parse(text, name="t.yaml")
    return plain(node, name="t.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1", -1),
        ("0x1F", 31),
        ("010", 8),
        ("09", 9),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        (".nan", ".nan"),
        ("yes", True),
        ("OFF", False),
        ("None", "None"),
        ("'1'", "1"),
        ('"\\u00fc"', "ü"),
        ("!!str 1", "1"),
        ("[~, null, '']", [None, None, ""]),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
    ],
)
def test_scalars_are_json_types(text: str, value: Any) -> None:
    result = read(text)
    assert result == value
    assert type(result) is type(value)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    # No surrogates, and none of the control characters that YAML refuses.
    | st.text(st.characters(blacklist_categories=("Cs", "Cc", "Cn"))),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1), inner, max_size=4)
    ),
    max_leaves=12,
).filter(lambda value: value is not None)


@given(PLAIN)
def test_what_a_yaml_writer_writes_reads_back(value: Any) -> None:
    assert read(yaml.safe_dump(value, allow_unicode=True)) == value


@given(PLAIN)
def test_what_a_json_writer_writes_reads_back(value: Any) -> None:
    assert read(json.dumps(value, indent=1, ensure_ascii=False)) == value


@given(st.text(st.sampled_from("ab:-[]{}&*!<#'\"|>% \n\t\x00é012.e,?"), max_size=40))
def test_any_text_is_read_or_refused_with_our_own_error(text: str) -> None:
    refusal = "t.yaml:"
    try:
        for node in parse(text, name="t.yaml"):
            plain(node, name="t.yaml")
    except SpecError as error:
        refusal = str(error)
    assert refusal.startswith("t.yaml:")


def test_lines_are_those_of_the_fields() -> None:
    (node,) = parse("a:\n  b:\n    - c: 1\n    - d:\n        e\n", name="t.yaml")
    assert line_of(node, ()) == 1
    assert line_of(node, ("a", "b")) == 2
    assert line_of(node, ("a", "b", 1)) == 4
    assert line_of(node, ("a", "b", 1, "d")) == 4
    assert line_of(node, ("a", "b", 0, "missing")) == 3
    assert line_of(node, ("nowhere", "b")) == 1


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("train", SplitPart("train", 0, 100)),
        ("train[90%:]", SplitPart("train", 90, 100)),
        ("train[:10%]", SplitPart("train", 0, 10)),
        ("a-b_c.d[5%:6%]", SplitPart("a-b_c.d", 5, 6)),
        ("train[:]", SplitPart("train", 0, 100)),
    ],
)
def test_a_split_reads_as_a_name_and_a_part(text: str, part: SplitPart) -> None:
    assert parse_split(text) == part


@pytest.mark.parametrize(
    "text", ["", "../a", "a/b", "train[0%:0%]", "train[9%:5%]", "train[:101%]", "train[1:2]", "a\n"]
)
def test_what_is_no_split_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no split|is an empty part"):
        parse_split(text)


@pytest.mark.parametrize(("text", "value"), [("24h", 86400), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25)])
def test_durations_are_seconds(text: str, value: float) -> None:
    assert seconds(text) == value
