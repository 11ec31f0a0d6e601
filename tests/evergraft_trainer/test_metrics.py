"""Each metric against scikit-learn's on random answers, and by hand where definitions could differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from evergraft import canonical
from evergraft_trainer import metrics


def _answers(seed: int, rows: int, classes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, rows)]).astype(np.int64)
    # Rounded to quarters, so that equal scores occur.
    logits = np.round(rng.normal(size=(len(labels), classes)) * 4) / 4
    logits[np.arange(len(labels)), labels] += rng.integers(0, 2, len(labels))
    return logits, labels


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exp = np.exp(logits)
    result: NDArray[np.float64] = exp / exp.sum(axis=1, keepdims=True)
    return result


def _expected(metric: str, logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Any:
    answers = logits.argmax(axis=1)
    if metric == "Accuracy":
        return sk.accuracy_score(labels, answers)
    if metric == "BalancedAccuracy":
        return sk.balanced_accuracy_score(labels, answers)
    if metric == "MacroF1":
        return sk.f1_score(labels, answers, average="macro")
    if metric == "Top5":
        return sk.top_k_accuracy_score(labels, logits, k=5)
    probabilities = _softmax(logits)
    if logits.shape[1] == 2:
        return sk.roc_auc_score(labels, probabilities[:, 1])
    return sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")


@pytest.mark.parametrize("metric", sorted(metrics.METRICS))
@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scikit_learn(metric: str, classes: int, seed: int) -> None:
    if metric == "Top5" and classes < 6:
        assert metrics.quality(metric, *_answers(seed, 40, classes)) == 1
        return
    logits, labels = _answers(seed, 40, classes)
    if metric in ("Top5", "AUROC"):  # equals: scikit-learn counts them the other way, or rounding tells them apart
        logits += np.random.default_rng(seed).normal(size=logits.shape) * 1e-6
    assert metrics.quality(metric, logits, labels) == pytest.approx(_expected(metric, logits, labels), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_log_loss_confusion_and_weights_agree_with_scikit_learn(seed: int) -> None:
    logits, labels = _answers(seed, 50, 5)
    expected = sk.log_loss(labels, _softmax(logits))
    assert metrics.log_loss(logits, labels) == pytest.approx(expected, rel=1e-9)
    assert metrics.confusion(logits, labels) == sk.confusion_matrix(labels, logits.argmax(axis=1)).tolist()
    weights = metrics.balanced_class_weights(labels, 5)
    assert weights == pytest.approx(compute_class_weight("balanced", classes=np.arange(5), y=labels), rel=1e-6)
    assert weights.dtype == np.float32


def test_evaluate_is_what_a_result_holds() -> None:
    logits, labels = _answers(0, 20, 3)
    assert metrics.evaluate("MacroF1", logits, labels) == {
        "quality": metrics.quality("MacroF1", logits, labels),
        "logLoss": metrics.log_loss(logits, labels),
        "confusion": metrics.confusion(logits, labels),
    }


def test_equal_scores_count_half_in_auroc() -> None:
    # Class 1 scores: positives 2, 1; negatives 1, 0. Of four pairs three are right and one is level.
    logits = np.array([[0.0, 2], [0, 1], [0, 1], [0, 0]])
    assert metrics.quality("AUROC", logits, np.array([1, 1, 0, 0])) == 3.5 / 4


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(2, 8))
def test_every_metric_lies_in_the_unit_interval(seed: int, rows: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes)) * 100
    labels = rng.integers(0, classes, rows)
    for metric in metrics.METRICS:
        assert 0 <= metrics.quality(metric, logits, labels) <= 1


def test_a_perfect_answer_is_one_and_a_reversed_ranking_zero() -> None:
    labels = np.array([0, 1, 0, 1])
    logits = np.where(np.eye(2)[labels] > 0, 5.0, -5.0)
    assert all(metrics.quality(metric, logits, labels) == 1 for metric in metrics.METRICS)
    assert metrics.quality("AUROC", -logits, labels) == 0


def test_equal_logits_choose_the_first_class_everywhere() -> None:
    logits = np.zeros((6, 6))
    labels = np.arange(6)
    assert metrics.quality("Accuracy", logits, labels) == pytest.approx(1 / 6)
    assert metrics.quality("Top5", logits, labels) == pytest.approx(5 / 6)
    assert metrics.quality("AUROC", logits, labels) == 0.5
    assert [row[0] for row in metrics.confusion(logits, labels)] == [1] * 6


def test_classes_that_do_not_occur_do_not_count() -> None:
    logits = np.array([[3.0, 0, 0], [0, 3, 0], [3, 0, 0]])
    labels = np.array([0, 1, 1])
    assert metrics.quality("BalancedAccuracy", logits, labels) == 0.75
    assert metrics.quality("MacroF1", logits, labels) == pytest.approx(2 / 3)
    assert metrics.quality("AUROC", logits[:1], labels[:1]) == 0.5


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((2, 3)), np.array([0, 3]), "outside"),
        (np.zeros((2, 3)), np.array([0]), "where N×C"),
        (np.zeros((0, 3)), np.zeros(0, dtype=np.int64), "N above 0"),
        (np.full((1, 3), np.nan), np.array([0]), "not finite"),
    ],
)
def test_refuses_what_has_no_answer(logits: NDArray[np.float64], labels: NDArray[np.int64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.quality("Accuracy", logits, labels)
    with pytest.raises(ValueError, match=message):
        metrics.log_loss(logits, labels)


def test_refuses_an_unknown_metric_and_weights_for_an_empty_class() -> None:
    with pytest.raises(ValueError, match="not one of Accuracy"):
        metrics.quality("accuracy", np.zeros((1, 2)), np.array([0]))
    with pytest.raises(ValueError, match="each of 3 classes"):
        metrics.balanced_class_weights(np.array([0, 2]), 3)


def test_up_to_100_classes_the_confusion_is_a_whole_table() -> None:
    logits, labels = _answers(0, 300, metrics.MOST_DENSE)
    table = metrics.confusion(logits, labels)
    assert table == sk.confusion_matrix(labels, logits.argmax(axis=1)).tolist()
    assert all(type(count) is int for row in table for count in row)


@pytest.mark.parametrize("metric", ["BalancedAccuracy", "MacroF1"])
def test_above_100_classes_the_confusion_holds_the_cells_that_occur(metric: str) -> None:
    logits, labels = _answers(1, 300, metrics.MOST_DENSE + 1)
    cells = metrics.confusion(logits, labels)
    table = np.zeros((101, 101), dtype=np.int64)
    for row, column, count in cells:
        table[row, column] = count
    assert table.tolist() == sk.confusion_matrix(labels, logits.argmax(axis=1)).tolist()
    assert cells == sorted(cells)
    assert all(type(number) is int for cell in cells for number in cell)
    assert metrics.quality(metric, logits, labels) == pytest.approx(_expected(metric, logits, labels), abs=1e-9)


@pytest.mark.parametrize("metric", ["Accuracy", "BalancedAccuracy", "MacroF1", "Top5"])
def test_a_measurement_grows_with_the_samples_and_not_with_the_table_of_classes(metric: str) -> None:
    labels = np.arange(100)
    logits = np.random.default_rng(0).normal(size=(100, 50_000)).round(2)  # a table would take 20 GB
    assert len(canonical.dumps(metrics.evaluate(metric, logits, labels))) < 3000
