"""Our tables of keys against the schemas of azure-ai-ml, so that a new release of it is noticed."""

import warnings
from typing import Any

import pytest

from mlops_core.pipelines import known_keys

pytestmark = pytest.mark.slow


def keys_of(*schemas: Any) -> set[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fields = [schema(context={"base_path": "."}).load_fields for schema in schemas]
    return {field.data_key or name for found in fields for name, field in found.items()}


@pytest.fixture(scope="module")
def schemas() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from azure.ai.ml._schema.assets import environment
        from azure.ai.ml._schema.component import command_component, input_output
        from azure.ai.ml._schema.job import input_output_entry, job_limits
        from azure.ai.ml._schema.pipeline import (
            component_job,
            pipeline_command_job,
            pipeline_component,
            pipeline_job,
            settings,
        )
    return {
        "pipeline job": (known_keys.PIPELINE_JOB, [pipeline_job.PipelineJobSchema]),
        "pipeline component": (known_keys.PIPELINE_COMPONENT, [pipeline_component.PipelineComponentSchema]),
        "command step": (
            known_keys.COMMAND_STEP,
            [component_job.CommandSchema, pipeline_command_job.PipelineCommandJobSchema],
        ),
        "sweep step": (known_keys.SWEEP_STEP, [component_job.SweepSchema]),
        "command component": (
            known_keys.COMMAND_COMPONENT,
            [command_component.CommandComponentSchema, command_component.AnonymousCommandComponentSchema],
        ),
        "settings": (known_keys.SETTINGS, [settings.PipelineJobSettingsSchema]),
        "input": (known_keys.INPUT_VALUE, [input_output_entry.DataInputSchema, input_output_entry.ModelInputSchema]),
        "port": (known_keys.INPUT_PORT, [input_output.InputPortSchema, input_output.ParameterSchema]),
        "output": (known_keys.OUTPUT, [input_output_entry.OutputSchema, input_output.OutputPortSchema]),
        "environment": (known_keys.ENVIRONMENT, [environment.EnvironmentSchema]),
        "command limits": (known_keys.COMMAND_LIMITS, [job_limits.CommandJobLimitsSchema]),
        "sweep limits": (known_keys.SWEEP_LIMITS, [job_limits.SweepJobLimitsSchema]),
    }


@pytest.mark.parametrize(
    "name",
    [
        "pipeline job", "pipeline component", "command step", "sweep step", "command component", "settings", "input",
        "port", "output", "environment", "command limits", "sweep limits",
    ],
)  # fmt: skip
def test_no_key_that_azure_ai_ml_knows_is_unknown_here(schemas: Any, name: str) -> None:
    ours, theirs = schemas[name]
    assert keys_of(*theirs) - ours == set()
