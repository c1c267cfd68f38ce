"""
Last step: register the model as a new version.

A version points to one run, and whoever judges the version reads that run's metrics. So this step logs the metrics of
the evaluation on its own run, beside the model's files, and registers from there. `log_model` would do the same in one
call, but of MLflow 3 it asks for an address that Azure ML does not have.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Log metrics and model on this step's run and register the model from it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--model-name", required=True)
    options = parser.parse_args(arguments)

    import mlflow

    with mlflow.start_run() as run:
        mlflow.log_metrics(json.loads(options.report.read_text(encoding="utf-8")))
        mlflow.log_artifacts(options.model, artifact_path="model")
        version = mlflow.register_model(f"runs:/{run.info.run_id}/model", options.model_name)
    logger.info("registered %s version %s", options.model_name, version.version)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
