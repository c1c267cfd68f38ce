"""
What a project's own code does to the registry, run by the fixtures as a job would: as a process of its own.

Importing mlflow costs seconds and warns a lot, so it happens here and not in the tests' process.
"""

import json
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import mlflow  # noqa: E402  the warnings must be off before
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import sklearn  # noqa: E402
from sklearn.linear_model import LinearRegression  # noqa: E402

# Of the model that most is registered of.
NAME = sys.argv[2]
# Given, since MLflow would otherwise load each model in a process of its own to find out.
REQUIREMENTS = [f"scikit-learn=={sklearn.__version__}"]
FRAME = pd.DataFrame({"age": [1.0, 2.0, 3.0, 4.0], "bmi": [2.0, 1.0, 0.0, 5.0]})
MODEL = LinearRegression().fit(FRAME, [1.0, 2.0, 3.0, 4.0])


def log_inside_a_job() -> dict[str, str]:
    with mlflow.start_run(tags={"headrace.job": "job-a"}), mlflow.start_run(nested=True) as step:
        with mlflow.start_run(nested=True):
            mlflow.log_metric("rmse", 99.0)
        mlflow.log_metric("rmse", 2.0, step=0)
        mlflow.log_metric("rmse", 1.5, step=1)
        mlflow.log_metric("broken", float("nan"))
        mlflow.log_input(mlflow.data.from_pandas(FRAME, name="training"), context="train")
        mlflow.log_input(mlflow.data.from_pandas(FRAME.head(2), name="holdout"), context="eval")
        logged = mlflow.sklearn.log_model(
            MODEL,
            name="model",
            registered_model_name=NAME,
            signature=mlflow.models.infer_signature(FRAME),
            pip_requirements=REQUIREMENTS,
        )
        mlflow.log_metric("mae", 0.5, model_id=logged.model_id)
        mlflow.register_model(f"runs:/{step.info.run_id}/model", "twin")
        mlflow.register_model(logged.model_uri, NAME, tags={"color": "green"})
    return {"run": step.info.run_id}


def log_with_tags_of_the_executor() -> None:
    tags = {"headrace.job": "job-b", "headrace.data": "diabetes-data:3"}
    with mlflow.start_run(tags=tags) as run:
        np.savetxt("coefficients.txt", MODEL.coef_)
        mlflow.log_metric("rmse", 3.0)
        mlflow.log_artifact("coefficients.txt", artifact_path="plain/deeper")
        # As clients of MLflow 2 do: the artifact folder of the run itself, no logged model.
        client = mlflow.MlflowClient()
        source = f"{run.info.artifact_uri}/plain"
        client.create_model_version(NAME, source, run_id=run.info.run_id)


def register_outside_of_any_job() -> None:
    with mlflow.start_run() as run:
        mlflow.sklearn.log_model(MODEL, name="model", registered_model_name="it's", pip_requirements=REQUIREMENTS)
    assert run.info.run_id


if __name__ == "__main__":
    facts = log_inside_a_job()
    log_with_tags_of_the_executor()
    register_outside_of_any_job()
    Path(sys.argv[1]).write_text(json.dumps(facts))
