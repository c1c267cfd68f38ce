"""
Third step: measure the best model on the test rows, which neither training nor the sweep has seen.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from diabetes import table

logger = logging.getLogger(__name__)


def rmse(measured: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Return the root of the mean squared error, in units of the target."""
    return float(np.sqrt(np.mean((np.asarray(measured) - np.asarray(predicted)) ** 2)))


def measure(measured: pd.Series, predicted: npt.ArrayLike, segment: pd.Series) -> dict[str, float]:
    """
    Return rmse, mae and r2 over all rows, and the rmse of each group as `rmse/<column>/<value>`.

    The three arguments have one row per patient, in the same order.
    """
    error = np.asarray(measured) - np.asarray(predicted)
    metrics = {
        "rmse": rmse(measured, predicted),
        "mae": float(np.mean(np.abs(error))),
        "r2": float(1 - np.sum(error**2) / np.sum((measured - measured.mean()) ** 2)),
    }
    for value in sorted(segment.unique()):
        rows = (segment == value).to_numpy()
        metrics[f"rmse/{segment.name}/{value:g}"] = rmse(measured[rows], np.asarray(predicted)[rows])
    return metrics


def main(arguments: Sequence[str] | None = None) -> None:
    """Score the test rows, log the metrics and write them as JSON for the step that registers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--report", type=Path, required=True)
    options = parser.parse_args(arguments)

    import mlflow
    import mlflow.pyfunc

    test = table.read_split(options.splits, "test")
    model = mlflow.pyfunc.load_model(options.model)
    features = model.metadata.get_input_schema().input_names()
    metrics = measure(test[table.TARGET], model.predict(test[features]), test[table.SEGMENT])
    with mlflow.start_run():
        mlflow.log_metrics(metrics)
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    for name, value in metrics.items():
        logger.info("%s %.3f", name, value)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
