"""Golden answers: the logits a route must give for ever, for inputs that come from its own layers' digest.

They hold no user data. Under the numeric profile they were made with they are the same bits; elsewhere they agree
within |a − b| ≤ 1e-4 + 1e-3 · max|a|, with the same top class unless the gap between its logits is under that.
Called when a winner is concluded and by ``graph verify --answers``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evergraft.errors import IntegrityError
from evergraft.graph.route import Layer, layers_digest
from evergraft_trainer.data.preprocessing import Preprocessing, normalise
from evergraft_trainer.device import Device
from evergraft_trainer.nn.assemble import RouteModel

NUM_INPUTS = 8
"""Images in the one batch of golden inputs; its shape never changes, so neither do the bits."""

ABSOLUTE = 1e-4
RELATIVE = 1e-3


@dataclass(frozen=True)
class Comparison:
    """How recomputed answers stand to golden ones. `tolerance` is 1e-4 + 1e-3 · max|golden|.

    `same_top` counts a top class as the same where the gap of its logits to the other's is within the tolerance.
    """

    bit_identical: bool
    max_difference: float
    tolerance: float
    same_top: bool

    @property
    def within_tolerance(self) -> bool:
        """Whether the promise for another numeric profile holds."""
        return self.max_difference <= self.tolerance and self.same_top

    def holds(self, *, same_profile: bool) -> bool:
        """Whether the promise holds: the same bits under the same profile, within the tolerance elsewhere."""
        return self.bit_identical if same_profile else self.within_tolerance


def golden_inputs(layers: Sequence[Layer], preprocessing: Preprocessing) -> torch.Tensor:
    """Float32 images 8×C×S×S: uniform random bytes drawn from the digest of the layers (SHAKE-256), normalised."""
    shape = (NUM_INPUTS, preprocessing.channels, preprocessing.image_size, preprocessing.image_size)
    stream = hashlib.shake_256(bytes.fromhex(layers_digest(tuple(layers)))).digest(math.prod(shape))
    pixels = np.frombuffer(stream, dtype=np.uint8).reshape(shape).copy()
    return normalise(torch.from_numpy(pixels), preprocessing)


def golden_answers(
    model: RouteModel, layers: Sequence[Layer], preprocessing: Preprocessing, *, device: Device
) -> dict[str, Any]:
    """The JSON kept in a route: digest of the inputs, dtype, shape and base64 of the float32 logits 8×classes."""
    images = golden_inputs(layers, preprocessing)
    answers = _answer(model, images, device=device)
    return {
        "inputs": _digest(images),
        "dtype": "F32",
        "shape": list(answers.shape),
        "data": base64.b64encode(answers.astype("<f4").tobytes()).decode(),
    }


def compare(
    golden: Mapping[str, Any],
    model: RouteModel,
    layers: Sequence[Layer],
    preprocessing: Preprocessing,
    *,
    device: Device,
) -> Comparison:
    """Answer the golden inputs again with `model` and compare.

    Raises:
        IntegrityError: the stored answers are damaged, or of other inputs or another number of classes.
    """
    images = golden_inputs(layers, preprocessing)
    expected = _read(golden)
    if golden.get("inputs") != _digest(images):
        raise IntegrityError("golden answers: they belong to other inputs than this route's layers give")
    got = _answer(model, images, device=device)
    if got.shape != expected.shape:
        raise IntegrityError(f"golden answers: {list(expected.shape)} logits are stored, the route gives {got.shape}")
    return compare_logits(expected, got)


def compare_logits(expected: NDArray[np.float32], got: NDArray[np.float32]) -> Comparison:
    """Compare logits N×C by promise 1; a NaN is equal to itself only bit for bit."""
    a, b = expected.astype(np.float64), got.astype(np.float64)
    with np.errstate(invalid="ignore"):
        worst = float(np.abs(a - b).max()) if a.size else 0.0
    worst = worst if math.isfinite(worst) else math.inf
    top = float(np.abs(a).max()) if a.size else 0.0
    tolerance = ABSOLUTE + RELATIVE * top if math.isfinite(top) else 0.0
    rows = np.arange(len(a))
    gaps = a[rows, a.argmax(axis=1)] - a[rows, b.argmax(axis=1)]
    return Comparison(
        bit_identical=expected.tobytes() == got.tobytes(),
        max_difference=worst,
        tolerance=tolerance,
        same_top=bool((gaps <= tolerance).all()),
    )


def _answer(model: RouteModel, images: torch.Tensor, *, device: Device) -> NDArray[np.float32]:
    model.eval()
    with device.inference():
        answers: NDArray[np.float32] = model(device.put(images)).float().cpu().contiguous().numpy()
    return answers


def _digest(images: torch.Tensor) -> str:
    return hashlib.sha256(images.numpy().tobytes()).hexdigest()


def _read(golden: Mapping[str, Any]) -> NDArray[np.float32]:
    shape, data = golden.get("shape"), golden.get("data")
    sizes = shape if isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape) else []
    if len(sizes) != 2 or golden.get("dtype") != "F32" or not isinstance(data, str):
        raise IntegrityError("golden answers: no dtype F32, shape and data")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise IntegrityError("golden answers: data is no base64") from None
    if len(raw) != 4 * math.prod(sizes):
        raise IntegrityError(f"golden answers: {len(raw)} bytes do not fill {sizes} of F32")
    return np.frombuffer(raw, dtype="<f4").reshape(sizes)
