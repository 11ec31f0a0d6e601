"""Shipped search strategies, by name. Called by the engine, ``plan`` and replay."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from evergraft.errors import SpecError
from evergraft.search.strategies.finetune import FINETUNE
from evergraft.search.strategies.graft import GRAFT
from evergraft.search.strategies.linear import LINEAR
from evergraft.search.strategies.lora import LORA
from evergraft.search.strategies.mu2net import MU2NET
from evergraft.search.values import Strategy

STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {strategy.name: strategy for strategy in (GRAFT, MU2NET, FINETUNE, LORA, LINEAR)}
)
"""Every shipped strategy; each is pure, and its version goes into ``search.json``."""


def get(name: str) -> Strategy:
    """The strategy of that name.

    Raises:
        SpecError: there is none; the message has the nearest and all allowed names.
    """
    if name not in STRATEGIES:
        close = difflib.get_close_matches(name, STRATEGIES, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise SpecError(f"search.strategy: unknown strategy {name!r}{hint} (allowed: {', '.join(sorted(STRATEGIES))})")
    return STRATEGIES[name]
