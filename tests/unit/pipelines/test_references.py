"""What texts of pipeline YAML point at."""

from typing import Any

import pytest

from mlops_core.pipelines.references import (
    AssetReference,
    LocalReference,
    RegistryReference,
    RemoteReference,
    parse_binding,
    parse_reference,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("azureml:tides", AssetReference("azureml:tides", "tides")),
        ("azureml:tides:3", AssetReference("azureml:tides:3", "tides", version="3")),
        ("azureml:tides@latest", AssetReference("azureml:tides@latest", "tides", label="latest")),
        ("./data", LocalReference("./data")),
        ("taxi-data@latest", LocalReference("taxi-data@latest")),
        ("file:./train.yml", LocalReference("./train.yml")),
        ("https://host/a.csv", RemoteReference("https://host/a.csv")),
        ("wasbs://c@a.blob.core.windows.net/x", RemoteReference("wasbs://c@a.blob.core.windows.net/x")),
        ("azureml://datastores/s/paths/x", RemoteReference("azureml://datastores/s/paths/x")),
        ("git+https://host/repo", RemoteReference("git+https://host/repo")),
    ],
)
def test_each_form_of_reference_is_told_apart(text: str, expected: Any) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(("end", "version"), [("", None), ("/versions/7", "7"), ("/labels/latest", None)])
def test_a_registry_reference_is_read_with_and_without_version(end: str, version: Any) -> None:
    text = f"azureml://registries/azureml/environments/sklearn-1.5{end}"
    assert parse_reference(text) == RegistryReference(text, "azureml", "environments", "sklearn-1.5", version)


@pytest.mark.parametrize(
    ("text", "kind", "name", "step"),
    [
        ("${{parent.inputs.rate}}", "input", "rate", ""),
        ("${{ parent.jobs.train.outputs.model }}", "step_output", "model", "train"),
        ("${{parent.outputs.report}}", "output", "report", ""),
        ("${{inputs.rate}}", "other", "", ""),
    ],
)
def test_bindings_are_read(text: str, kind: str, name: str, step: str) -> None:
    binding = parse_binding(text)
    assert binding is not None
    assert (binding.kind, binding.name, binding.step) == (kind, name, step)


@pytest.mark.parametrize(
    "value", ["plain", 3, None, "a-${{parent.inputs.x}}", "${{parent.inputs.x}}${{parent.inputs.y}}"]
)
def test_what_is_no_binding_as_a_whole_is_none(value: Any) -> None:
    assert parse_binding(value) is None
