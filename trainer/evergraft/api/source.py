"""YAML text becomes plain values that know their lines. Nothing is constructed but JSON's types.

Built on libyaml's events, so that tags can name no Python object, a key that stands twice is seen, nesting has a
limit before any recursion, and aliases cannot grow a small file into a large value. Called by ``api.load``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from evergraft.errors import SpecError

MAX_DEPTH = 64
MAX_NODES = 100_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o?[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **{word: True for base in ("true", "yes", "on") for word in (base, base.title(), base.upper())},
    **{word: False for base in ("false", "no", "off") for word in (base, base.title(), base.upper())},
}


@dataclass
class Node:
    """A YAML value and where it stands: a scalar, a list of nodes, or (key line, node) by key."""

    line: int
    value: Any


class Refused(Exception):  # noqa: N818 - becomes a SpecError once the file is known
    """The text is not YAML that we read: what, where."""

    def __init__(self, message: str, mark: Any) -> None:
        super().__init__(message)
        self.message, self.line, self.column = message, mark.line + 1, mark.column + 1


def parse(text: str, *, name: str) -> tuple[Node, ...]:
    """The documents in `text`; empty ones are left out. `name` is the file's, for messages.

    Raises:
        SpecError: not YAML, or YAML beyond what a manifest needs; the message has file:line:column.
    """
    try:
        return tuple(_documents(yaml.parse(text, Loader=_LOADER)))
    except Refused as refused:
        raise SpecError(f"{name}:{refused.line}:{refused.column}: {refused.message}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise SpecError(f"{name}{where}: not readable as YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{name}: not readable as YAML: {' '.join(str(error).split())}") from None


def _documents(events: Iterator[Any]) -> Iterator[Node]:
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            node = _Composer(events).node(next(events), depth=0)
            if node.value is not None:
                yield node


class _Composer:
    """Builds the nodes of one document; anchors live as long."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, Node] = {}

    def node(self, event: Any, *, depth: int) -> Node:
        mark = event.start_mark
        if depth > MAX_DEPTH:
            raise Refused(f"nested more than {MAX_DEPTH} levels deep", mark)
        if isinstance(event, yaml.AliasEvent):
            # An anchor is known only once its node is complete, so no value can hold itself.
            if event.anchor not in self._anchors:
                raise Refused(f"*{event.anchor} names no anchor above it", mark)
            return Node(mark.line + 1, self._anchors[event.anchor].value)
        node = Node(mark.line + 1, self._value(event, depth))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _value(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        expected = "map" if isinstance(event, yaml.MappingStartEvent) else "seq"
        if event.tag not in (None, "!", _TAG + expected):
            raise Refused(f"the tag {event.tag} is not allowed; a manifest holds plain values", event.start_mark)
        return self._mapping(depth) if expected == "map" else self._sequence(depth)

    def _sequence(self, depth: int) -> list[Node]:
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self.node(event, depth=depth + 1))
        return items

    def _mapping(self, depth: int) -> dict[str, tuple[int, Node]]:
        items: dict[str, tuple[int, Node]] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = _key(event)
            if key in items:
                raise Refused(f'the key "{key}" stands twice, first in line {items[key][0]}', event.start_mark)
            items[key] = (event.start_mark.line + 1, self.node(next(self._events), depth=depth + 1))
        return items


def _key(event: Any) -> str:
    if not isinstance(event, yaml.ScalarEvent):
        raise Refused("a key must be a word", event.start_mark)
    if event.value == "<<" and not event.style:
        raise Refused("merge keys (<<) are not supported; write the fields out", event.start_mark)
    return str(event.value)


def _scalar(event: Any) -> Any:
    text = str(event.value)
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise Refused("not a Unicode text: a lone surrogate", event.start_mark)
    if event.tag in (_TAG + "str", "!") or (event.tag is None and event.style):
        return text
    if event.tag is not None:
        raise Refused(f"the tag {event.tag} is not allowed; a manifest holds plain values", event.start_mark)
    return _plain(text, event.start_mark)


def _plain(text: str, mark: Any) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= 64 and _INT.fullmatch(text):
        return _integer(text)
    if len(text) <= 64 and _FLOAT.fullmatch(text):
        value = float(text)
        if not math.isfinite(value):
            raise Refused(f"{text} is too large a number", mark)
        return value
    return text


def _integer(text: str) -> int:
    digits = text.lstrip("+-")
    if digits[:2].lower() == "0x":
        return int(text, 16)
    if len(digits) > 1 and digits[0] == "0" and set(digits) <= set("01234567o"):
        return int(text.replace("o", ""), 8)
    return int(text)


def plain(node: Node, *, name: str) -> Any:
    """The value without lines; aliases are written out.

    Raises:
        SpecError: aliases make it larger than any manifest.
    """
    budget = [MAX_NODES]

    def visit(current: Node, depth: int) -> Any:
        budget[0] -= 1
        if budget[0] < 0 or depth > MAX_DEPTH:
            raise SpecError(f"{name}:{node.line}: too large: more than {MAX_NODES:,} values or {MAX_DEPTH} levels")
        if isinstance(current.value, dict):
            return {key: visit(child, depth + 1) for key, (_, child) in current.value.items()}
        if isinstance(current.value, list):
            return [visit(child, depth + 1) for child in current.value]
        return current.value

    return visit(node, 0)


def line_of(node: Node, path: tuple[str | int, ...]) -> int:
    """The line of the field at `path`, or of the nearest object around it that is written."""
    line = node.line
    for step in path:
        if isinstance(node.value, dict) and step in node.value:
            line, node = node.value[step]
        elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.line
        else:
            break
    return line
