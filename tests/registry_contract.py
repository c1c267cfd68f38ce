"""
What every `ModelRegistry` must do, given what `mlflow_session.py` registered. An adapter joins by a class with a `registry`.

Diabetes 1, 2 and twin 1 are of job-a, diabetes 3 of job-b, it's 1 of none.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_core.domain.errors import NotFoundError
from mlops_core.domain.ids import JobName, ModelName, ModelVersion
from mlops_core.ports import ModelRegistry

PLAIN_ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}  # noqa: TID251  a test starts real processes
JOBS = ("job-a", "job-b")
DIABETES = ModelName("diabetes")
FIRST, SECOND, THIRD = (ModelVersion(number) for number in "123")


def register_everything(tracking_uri: str, folder: Path, model: ModelName) -> dict[str, str]:
    """Run `mlflow_session.py` as a job would run: in a process of its own, told of the server by a variable."""
    environment = {**PLAIN_ENVIRONMENT, "MLFLOW_TRACKING_URI": tracking_uri}
    command = [sys.executable, str(Path(__file__).with_name("mlflow_session.py")), str(folder / "facts.json"), model]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    facts: dict[str, str] = json.loads((folder / "facts.json").read_text())
    return facts


class ModelRegistryContract:
    """What every registry must do, given what `mlflow_session.py` registered."""

    model = DIABETES

    @pytest.fixture
    def registry(self) -> ModelRegistry:
        raise NotImplementedError

    def test_a_version_carries_the_latest_metrics_of_its_own_run(self, registry: ModelRegistry) -> None:
        metrics = registry.version(self.model, FIRST).metrics
        assert (metrics["rmse"], metrics["mae"]) == (1.5, 0.5)
        assert math.isnan(metrics["broken"])

    def test_a_version_belongs_to_the_job_that_a_run_above_its_own_names(self, registry: ModelRegistry) -> None:
        assert registry.version(self.model, FIRST).job_name == "job-a"

    def test_a_version_registered_from_a_logged_model_has_the_same_lineage(self, registry: ModelRegistry) -> None:
        version = registry.version(self.model, SECOND)
        assert (version.job_name, version.metrics["rmse"]) == ("job-a", 1.5)

    def test_a_version_registered_as_clients_of_mlflow_2_do_has_its_lineage(self, registry: ModelRegistry) -> None:
        version = registry.version(self.model, THIRD)
        assert (version.job_name, version.metrics) == ("job-b", {"rmse": 3.0})

    def test_a_version_registered_outside_of_jobs_belongs_to_none_of_them(self, registry: ModelRegistry) -> None:
        """A workspace takes every run of MLflow for a job; none that the controller named."""
        assert registry.version(ModelName("it's"), FIRST).job_name not in JOBS

    def test_tags_time_and_place_of_a_version_are_told(self, registry: ModelRegistry) -> None:
        version = registry.version(self.model, SECOND)
        assert version.tags == {"color": "green"}
        assert abs(version.created_at - datetime.now(UTC)) < timedelta(minutes=10)
        assert version.uri

    def test_data_version_is_what_the_executor_says_else_what_was_evaluated_on(self, registry: ModelRegistry) -> None:
        assert registry.version(self.model, THIRD).data_version == "diabetes-data:3"
        assert (registry.version(self.model, FIRST).data_version or "").startswith("holdout@")

    def test_versions_of_a_job_are_those_it_registered_oldest_first(self, registry: ModelRegistry) -> None:
        found = registry.versions_of_job(self.model, JobName("job-a"))
        assert [version.version for version in found] == ["1", "2"]

    def test_a_job_that_is_not_known_registered_nothing(self, registry: ModelRegistry) -> None:
        assert list(registry.versions_of_job(self.model, JobName("job-never"))) == []
        assert list(registry.versions_of_job(ModelName("never"), JobName("job-a"))) == []

    def test_versions_are_listed_newest_first_up_to_a_limit(self, registry: ModelRegistry) -> None:
        assert [version.version for version in registry.versions(self.model, limit=2)] == ["3", "2"]

    def test_all_names_are_listed(self, registry: ModelRegistry) -> None:
        assert set(registry.models()) >= {self.model, "twin", "it's"}

    @pytest.mark.parametrize(("model", "version"), [("", "99"), ("never", "1")])
    def test_what_is_not_registered_is_not_found(self, registry: ModelRegistry, model: str, version: str) -> None:
        model = model or self.model
        with pytest.raises(NotFoundError, match=f"{model}:{version}"):
            registry.version(ModelName(model), ModelVersion(version))
