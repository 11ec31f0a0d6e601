"""The root of a graph: the backbone that every route descends from.

Part of a ModuleGraph, and a bare YAML file for ``evergraft graph init --root``. The trainer builds it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from evergraft.api.fields import SHA256, Part, WeightsUrl, exactly_one, problem
from evergraft.api.ladders import shown

Backbone = Literal["vit", "resnet", "vit_b_16", "vit_b_32", "vit_l_16", "resnet18", "resnet34", "resnet50"]


def _setting(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    if len(items) > 64 or not all(isinstance(item, (bool, int, str)) for item in items):
        raise problem(f"expected an integer, true, false, a word or a list of them, got {shown(value)}")
    return value


Setting = Annotated[Any, BeforeValidator(_setting), WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True})]


class Weights(Part):
    """Trained weights of a root."""

    url: WeightsUrl
    """A safetensors file: gs, s3, https or, on one machine, a path beside the YAML."""
    sha256: Annotated[str, Field(pattern=SHA256, max_length=64)]
    """SHA-256 of the file; other bytes are refused."""


class Root(Part):
    """The backbone every route descends from, with random or trained weights."""

    backbone: Backbone
    """A family (vit, resnet) with its config, or a named model."""
    config: Annotated[dict[str, Setting], Field(max_length=64)] = Field(default_factory=dict)
    """Shapes, such as imageSize, patchSize, width, depth, heads."""
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    """Random weights from this seed. Exactly one of seed and weights is given."""
    weights: Weights | None = None
    """Trained weights."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        exactly_one(self, "seed", "weights")
        return self

    def to_json(self) -> dict[str, Any]:
        """The JSON form, as it is written in YAML."""
        return self.model_dump(by_alias=True, exclude_none=True)
