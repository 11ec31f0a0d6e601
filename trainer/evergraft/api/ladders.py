"""The names and types of hyperparameters that a search may set.

Decimals are strings in every document, so a reader must know which hyperparameters are decimals. Called by
``api.resolved`` to read stored searches and by ``api.strategies``, which says what each strategy accepts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Scalar = float | int | bool | str
"""A hyperparameter's value. JSON carries a float as a decimal string."""

Type = Literal["decimal", "integer", "boolean", "choice"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True)
class HyperparameterType:
    """How values of one hyperparameter are written and which are allowed; `low` and `high` are inclusive."""

    type: Type
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    def read(self, value: object) -> Scalar:
        """The value of a written scalar: decimals from strings, integers and booleans as they are or quoted.

        Raises:
            ValueError: wrong type or out of range; the message says what is allowed.
        """
        read = self._parse(value)
        if self.type in ("decimal", "integer") and not self.low <= float(read) <= self.high:
            raise ValueError(f"{value} is not allowed; must be {self.allowed}")
        return read

    @property
    def allowed(self) -> str:
        """What may be written, in words."""
        if self.type == "decimal":
            return f"a quoted decimal from {self.low:g} to {self.high:g}"
        if self.type == "integer":
            return f"an integer from {self.low:g} to {self.high:g}"
        return "true or false" if self.type == "boolean" else "one of " + ", ".join(self.choices)

    def _parse(self, value: object) -> Scalar:
        text = value if isinstance(value, str) else ""
        if self.type == "decimal" and _DECIMAL.fullmatch(text):
            return float(text)
        if self.type == "integer":
            if isinstance(value, int) and not isinstance(value, bool):
                return value
            if _INTEGER.fullmatch(text):
                return int(text)
        if self.type == "boolean":
            if isinstance(value, bool):
                return value
            if text in ("true", "false"):
                return text == "true"
        if self.type == "choice" and text in self.choices:
            return text
        raise ValueError(f"expected {self.allowed}, got {shown(value)}")


def shown(value: object) -> str:
    """A written value for a message: JSON's words, cut to a readable length."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _decimal(low: float, high: float) -> HyperparameterType:
    return HyperparameterType("decimal", low, high)


_BOOLEAN = HyperparameterType("boolean")

HYPERPARAMETERS: Mapping[str, HyperparameterType] = {
    "learningRate": _decimal(1e-8, 10),
    "warmupRatio": _decimal(0, 1),
    "momentum": _decimal(0, 0.9999),
    "nesterov": _BOOLEAN,
    "mutationRate": _decimal(0, 1),
    "crop": _BOOLEAN,
    "cropMinArea": _decimal(0.0001, 1),
    "cropMinAspect": _decimal(0.01, 1),
    "flip": _BOOLEAN,
    "brightness": _decimal(0, 1),
    "contrast": _decimal(0, 1),
    "saturation": _decimal(0, 1),
    "hue": _decimal(0, 0.5),
    "weightDecay": _decimal(0, 10),
    "schedule": HyperparameterType("choice", choices=("cosine", "constant", "restarts")),
    "imageSize": HyperparameterType("integer", 1, 4096),
    "numLayers": HyperparameterType("integer", 1, 1024),
    "adapterWidth": HyperparameterType("integer", 1, 65536),
}
"""Every hyperparameter that some strategy knows."""
