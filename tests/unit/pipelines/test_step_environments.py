"""What a step's Python must hold, as its YAML says it."""

from typing import Any

import pytest

from mlops_core.pipelines.assets import AssetIndex
from mlops_core.pipelines.documents import Document, Reader
from mlops_core.pipelines.environment_specs import EnvironmentResolver
from mlops_core.pipelines.findings import Findings


@pytest.fixture
def resolve(project: Any) -> Any:
    def run(value: Any, **replacements: str) -> Any:
        reader, findings = Reader(project.root), Findings()
        resolver = EnvironmentResolver(reader, AssetIndex(reader), findings, replacements)
        document = Document(project.root / "pipeline.yml", "pipeline.yml", {}, {})
        spec = resolver.resolve(value, document, ("environment",), "train")
        assert spec is not None, (findings.problems, findings.refusals)
        return spec

    return run


@pytest.mark.parametrize(
    ("dependency", "version"),
    [
        ("python=3.10", "3.10"),
        ("python==3.9.7", "3.9.7"),
        ("python=3.8.*", "3.8"),
        ("python>=3.11,<3.14", ">=3.11,<3.14"),
        ("python", None),
        ("python-dateutil=2", None),
    ],
)
def test_the_python_version_of_a_conda_file_is_read(resolve: Any, dependency: str, version: Any) -> None:
    assert resolve({"conda_file": {"dependencies": [dependency]}}).python_version == version


@pytest.mark.parametrize(
    ("image", "version"),
    [("python", None), ("docker.io/python", None), ("library/python:3.11.6", "3.11.6"), ("python:latest", None)],
)
def test_a_plain_python_image_is_a_python_without_packages(resolve: Any, image: str, version: Any) -> None:
    spec = resolve({"image": image})
    assert (spec.python_version, spec.conda, spec.pip_requirements) == (version, None, ())


@pytest.mark.parametrize(
    "name",
    ["azureml://registries/azureml/environments/sklearn-1.5/labels/latest", "azureml:AzureML-sklearn-1.5@latest"],
)
def test_a_published_environment_is_met_by_its_packages(resolve: Any, name: str) -> None:
    spec = resolve(name)
    assert "scikit-learn~=1.5.0" in spec.pip_requirements
    assert spec.note is not None


def test_a_declared_environment_is_found_with_its_conda_file_beside_it(resolve: Any, project: Any) -> None:
    project.write("envs/own.yml", "name: own\nimage: python\nconda_file: c.yml\n")
    project.write("envs/c.yml", "dependencies: [python=3.12]\n")
    spec = resolve("azureml:own@latest")
    assert (spec.name, spec.python_version) == ("azureml:own@latest", "3.12")


def test_the_declared_environment_nearest_to_the_pipeline_wins(resolve: Any, project: Any) -> None:
    project.write("other/own.yml", "name: own\nconda_file: {dependencies: [python=3.9]}\n")
    project.write("own.yml", "name: own\nconda_file: {dependencies: [python=3.12]}\n")
    assert resolve("azureml:own@latest").python_version == "3.12"


def test_the_highest_version_is_the_latest(resolve: Any, project: Any) -> None:
    project.write("a.yml", "name: own\nversion: 9\nconda_file: {dependencies: [python=3.9]}\n")
    project.write("b.yml", "name: own\nversion: 10\nconda_file: {dependencies: [python=3.12]}\n")
    assert resolve("azureml:own@latest").python_version == "3.12"
    assert resolve("azureml:own:9").python_version == "3.9"


def test_a_replacement_is_a_conda_file_a_requirements_file_or_the_interpreter_at_hand(
    resolve: Any, project: Any
) -> None:
    project.write("r.txt", "# tools\npandas==2.2  # tables\n\nmlflow\n")
    assert resolve("azureml:x:1", **{"azureml:x:1": "conda.yml"}).python_version == "3.11"
    assert resolve("azureml:x:1", **{"azureml:x:1": "r.txt"}).pip_requirements == ("pandas==2.2", "mlflow")
    assert resolve({"image": "own/image"}, **{"own/image": "current"}).current
