import pandas as pd
import pytest
from diabetes import evaluate


def test_metrics_of_a_perfect_prediction_are_perfect() -> None:
    measured = pd.Series([1.0, 2.0, 4.0])
    metrics = evaluate.measure(measured, measured, pd.Series([1.0, 2.0, 1.0], name="sex"))
    assert metrics == {"rmse": 0, "mae": 0, "r2": 1, "rmse/sex/1": 0, "rmse/sex/2": 0}


def test_each_group_has_an_error_of_its_own() -> None:
    measured = pd.Series([10.0, 10.0, 20.0, 20.0])
    predicted = pd.Series([13.0, 7.0, 20.0, 20.0])
    metrics = evaluate.measure(measured, predicted, pd.Series([1.0, 1.0, 2.0, 2.0], name="sex"))
    assert metrics["rmse/sex/1"] == pytest.approx(3)
    assert metrics["rmse/sex/2"] == 0
    assert metrics["rmse"] == pytest.approx(4.5**0.5)


def test_r2_of_the_mean_is_zero() -> None:
    measured = pd.Series([1.0, 2.0, 3.0])
    metrics = evaluate.measure(measured, pd.Series([2.0, 2.0, 2.0]), pd.Series([1.0, 1.0, 1.0], name="sex"))
    assert metrics["r2"] == pytest.approx(0)
