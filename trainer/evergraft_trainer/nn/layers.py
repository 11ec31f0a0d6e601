"""The kinds of layers, by name. Deltas build on these; ``kinds`` has both."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from evergraft_trainer.nn import resnet, vit
from evergraft_trainer.nn.head import HEAD
from evergraft_trainer.nn.kind import Kind

LAYERS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in (*vit.KINDS, *resnet.KINDS, HEAD)})
