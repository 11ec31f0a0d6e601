"""How good answers are: the metrics a task may choose, log loss, confusion, and balanced class weights.

Plain numpy in float64, the same definitions as scikit-learn's (the tests compare them). Called by evaluation; what
it returns goes into results and route documents as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float64]
Labels = NDArray[np.int64]

MOST_DENSE = 100
"""Up to so many classes a confusion is a whole table. Beyond, its cells would outgrow the document that holds it."""


def quality(metric: str, logits: Logits, labels: Labels) -> float:
    """`metric` of logits N×C (finite) for true class indices N, in 0…1.

    Raises:
        ValueError: unknown metric, no rows, shapes that do not match, a label outside 0…C−1, a logit not finite.
    """
    if metric not in METRICS:
        raise ValueError(f"metric {metric!r} is not one of {', '.join(METRICS)}")
    _check(logits, labels)
    return float(METRICS[metric](logits.astype(np.float64), labels))


def log_loss(logits: Logits, labels: Labels) -> float:
    """Mean cross-entropy in nats.

    Raises:
        ValueError: as for `quality`.
    """
    _check(logits, labels)
    return float(-_log_softmax(logits.astype(np.float64))[np.arange(len(labels)), labels].mean())


def confusion(logits: Logits, labels: Labels) -> list[list[int]]:
    """How often each class got each answer: row the true class, column the answer (the largest logit, the first of
    equals).

    Up to 100 classes C×C counts; above, ``[row, column, count]`` of every cell that is not 0, by row, then column: at
    most as many as there are samples.

    Raises:
        ValueError: as for `quality`.
    """
    _check(logits, labels)
    classes = logits.shape[1]
    cells = labels * classes + logits.argmax(axis=1)
    if classes <= MOST_DENSE:
        whole: list[list[int]] = np.bincount(cells, minlength=classes * classes).reshape(classes, classes).tolist()
        return whole
    found, counts = np.unique(cells, return_counts=True)
    sparse: list[list[int]] = np.stack([*np.divmod(found, classes), counts], axis=1).tolist()
    return sparse


def evaluate(metric: str, logits: Logits, labels: Labels) -> dict[str, Any]:
    """``{quality, logLoss, confusion}`` as results and route documents hold them.

    Raises:
        ValueError: as for `quality`.
    """
    return {
        "quality": quality(metric, logits, labels),
        "logLoss": log_loss(logits, labels),
        "confusion": confusion(logits, labels),
    }


def balanced_class_weights(labels: Labels, num_classes: int) -> NDArray[np.float32]:
    """Loss weights for ``classWeights: Balanced``: N / (C · n), for n of the N samples in each of C classes.

    They average to 1 over the samples.

    Raises:
        ValueError: a class has no samples.
    """
    counts = np.bincount(labels, minlength=num_classes)
    if counts.min() < 1 or len(counts) > num_classes:
        raise ValueError(f"balanced weights need samples of each of {num_classes} classes and no others")
    weights: NDArray[np.float32] = (len(labels) / (num_classes * counts)).astype(np.float32)
    return weights


def _accuracy(logits: Logits, labels: Labels) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def _balanced_accuracy(logits: Logits, labels: Labels) -> float:
    """Mean recall over the classes that occur."""
    right, totals, _ = _by_class(logits, labels)
    present = totals > 0
    return float((right[present] / totals[present]).mean())


def _macro_f1(logits: Logits, labels: Labels) -> float:
    """Mean F1 over the classes that occur or are answered."""
    right, totals, answered = _by_class(logits, labels)
    both = totals + answered
    present = both > 0
    return float((2 * right[present] / both[present]).mean())


def _auroc(logits: Logits, labels: Labels) -> float:
    """Mean area under the ROC of each class against the rest, by softmax probability.

    Classes without both positives and negatives are passed over; if none is left there is nothing to rank: 0.5.
    """
    scores = _log_softmax(logits)
    areas = [_area(scores[:, number], labels == number) for number in np.unique(labels) if (labels != number).any()]
    return float(np.mean(areas)) if areas else 0.5


def _top5(logits: Logits, labels: Labels) -> float:
    """Share of rows where fewer than 5 classes come before the true one; equals count by class index."""
    own = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    before = (logits > own) | ((logits == own) & earlier)
    return float((before.sum(axis=1) < 5).mean())


METRICS: Final[Mapping[str, Callable[[Logits, Labels], float]]] = MappingProxyType(
    {
        "Accuracy": _accuracy,
        "BalancedAccuracy": _balanced_accuracy,
        "MacroF1": _macro_f1,
        "AUROC": _auroc,
        "Top5": _top5,
    }
)
"""By the name that `metric` uses in a Task."""


def _check(logits: Logits, labels: Labels) -> None:
    if logits.ndim != 2 or labels.shape != (len(logits),) or not len(labels):
        raise ValueError(f"logits {logits.shape} and labels {labels.shape} where N×C and N are needed, N above 0")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"a label outside 0…{logits.shape[1] - 1}")
    if not np.isfinite(logits).all():
        raise ValueError("a logit is not finite")


def _by_class(logits: Logits, labels: Labels) -> tuple[Labels, Labels, Labels]:
    """Of each class: its samples that were answered right, its samples, and the samples that it was the answer to."""
    answers, classes = logits.argmax(axis=1), logits.shape[1]
    right, totals, answered = (
        np.bincount(chosen, minlength=classes) for chosen in (labels[labels == answers], labels, answers)
    )
    return right, totals, answered


def _log_softmax(logits: Logits) -> Logits:
    shifted = logits - logits.max(axis=1, keepdims=True)
    scores: Logits = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return scores


def _area(scores: Logits, positive: NDArray[np.bool_]) -> float:
    """Mann–Whitney: the share of (positive, negative) pairs in the right order, equals counted half."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    num_positive = int(positive.sum())
    above = ranks[place][positive].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * (len(scores) - num_positive)))
