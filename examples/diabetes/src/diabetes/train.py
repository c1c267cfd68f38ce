"""
Second step, run once per trial of the sweep: fit a model and measure it on the validation rows.

The model is a lasso on all measurements, their squares and their products. Its penalty keeps few of these terms, which
matters with 265 patients to learn from; how strong it is, the sweep decides.
"""

import argparse
import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from sklearn.linear_model import Lasso
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from diabetes import table
from diabetes.evaluate import rmse

# What a process needs to load the model and predict. Pinned to what trained it.
SERVING_PACKAGES = ("cloudpickle", "mlflow-skinny", "numpy", "pandas", "scikit-learn")

logger = logging.getLogger(__name__)


def parse_features(text: str) -> list[str]:
    """
    Read the comma-separated list of columns to learn from.

    Raises:
        TableError: The list is empty, or names a column that is no measurement.
    """
    known = [name for name in table.PLAUSIBLE if name != table.TARGET]
    features = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in features if name not in known]
    if unknown or not features:
        raise table.TableError(f"The features '{text}' are not a choice of {known}: {unknown or 'none is named'}.")
    return features


def fit(patients: pd.DataFrame, features: list[str], alpha: float) -> Pipeline:
    """Fit the lasso; equal inputs give an equal model."""
    model = make_pipeline(
        StandardScaler(),
        PolynomialFeatures(degree=2, include_bias=False),
        StandardScaler(),
        Lasso(alpha=alpha, max_iter=50_000),
    )
    return model.fit(patients[features], patients[table.TARGET])


def save(model: Pipeline, example: pd.DataFrame, path: Path) -> None:
    """Save the model in MLflow's format, with its signature and the packages that serve it."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    mlflow.sklearn.save_model(
        model,
        str(path),
        signature=infer_signature(example, model.predict(example)),
        input_example=example,
        pip_requirements=[f"{name}=={version(name)}" for name in SERVING_PACKAGES],
        # MLflow 2 and 3 both have it. Importing skops, the other choice, takes every step a second or two longer.
        serialization_format="cloudpickle",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit one model, log its validation error and write it as an MLflow model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--features", required=True)
    parser.add_argument("--alpha", type=float, required=True)
    parser.add_argument("--model", type=Path, required=True)
    options = parser.parse_args(arguments)

    features = parse_features(options.features)
    train = table.read_split(options.splits, "train")
    validation = table.read_split(options.splits, "validation")
    model = fit(train, features, options.alpha)
    error = rmse(validation[table.TARGET], model.predict(validation[features]))

    import mlflow

    with mlflow.start_run():
        mlflow.log_params({"alpha": options.alpha, "features": ",".join(features)})
        mlflow.log_metric("validation_rmse", error)
        save(model, train[features].head(3), options.model)
    logger.info("alpha %g: validation_rmse %.2f, %d terms", options.alpha, error, (model[-1].coef_ != 0).sum())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
